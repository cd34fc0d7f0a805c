package wal

import (
	"encoding/binary"
	"fmt"
	"path/filepath"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

const (
	counterName = "counter"
	latestName  = "latest"
)

// newest is stored beside the buffers and describes the newest of them: its id, the
// lanes that were begun in it, and how far each of them came. It shows when a folder is
// missing, and backs up the high-water marks of the lanes.
//
// The counter is synced whenever it changes. The latest is written after each append, as
// a lane's marks are, and synced only when a lane begins: it survives kill -9 and may be
// behind after a power cut.
type newest struct {
	boot uint32

	mu      sync.Mutex // guards what follows: lanes append side by side
	counter *cell
	latest  *cell
	id      weir.BufferID
	begun   byte // bits of the lanes
	last    [weir.Lanes]uint64
}

// heard is what newest contained when the log was opened.
type heard struct {
	id     weir.BufferID // the last that was drawn; zero: not known; without its random part: an earlier version drew it
	begun  byte          // bits of its lanes
	latest reached
}

// reached is the content of the file latest.
type reached struct {
	id   weir.BufferID // zero: the file has no value
	boot uint32
	last [weir.Lanes]uint64

	// clean says that no later value was lost.
	clean bool
}

// open opens both files, or creates them, and returns their content. Their names are
// durable after the next draw.
func (n *newest) open(d *disk, dir string) (h heard, err error) {
	n.boot = d.boot
	var value []byte
	if n.counter, value, err = openCell(d, filepath.Join(dir, counterName), saltOf(weir.BufferID{}, partCounter)); err != nil {
		return h, err
	}
	if value != nil {
		h.id, h.begun = weir.BufferID(value[:12]), value[12]
	}
	if n.latest, value, err = openCell(d, filepath.Join(dir, latestName), saltOf(weir.BufferID{}, partLatest)); err != nil {
		return h, err
	}
	if value != nil {
		h.latest = parseReached(value)
		h.latest.clean = n.latest.clean
	}
	return h, nil
}

// draw makes id, of which nothing is on the disk, the newest buffer. The counter is
// durable first: a crash in between leaves an id that is not used.
func (n *newest) draw(id weir.BufferID) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.id, n.begun, n.last = id, 0, [weir.Lanes]uint64{}
	if err := n.counter.set(n.drawn()); err != nil {
		return fmt.Errorf("write counter: %w", err)
	}
	if err := n.latest.set(n.reached()); err != nil {
		return fmt.Errorf("write the latest sequences: %w", err)
	}
	return nil
}

// begin notes that the lane's folder and first segment exist; durable on return.
func (n *newest) begin(ln weir.Lane) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.begun |= 1 << ln
	return n.counter.set(n.drawn())
}

// wrote notes the newest durable sequence of a lane. The note survives kill -9; the
// first one of a lane is durable on return.
func (n *newest) wrote(ln weir.Lane, last uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	first := n.last[ln] == 0
	n.last[ln] = last
	if first {
		return n.latest.set(n.reached())
	}
	return n.latest.write(n.reached())
}

func (n *newest) close() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, c := range []*cell{n.counter, n.latest} {
		if c != nil {
			c.close()
		}
	}
}

// drawn encodes the value of the counter.
func (n *newest) drawn() []byte {
	p := make([]byte, cellPayload)
	copy(p, n.id[:])
	p[12] = n.begun
	return p
}

// reached encodes the value of latest.
func (n *newest) reached() []byte {
	p := make([]byte, cellPayload)
	copy(p, n.id[:])
	binary.BigEndian.PutUint32(p[12:], n.boot)
	for i, last := range n.last {
		binary.BigEndian.PutUint64(p[16+8*i:], last)
	}
	return p
}

func parseReached(p []byte) reached {
	r := reached{id: weir.BufferID(p[:12]), boot: binary.BigEndian.Uint32(p[12:])}
	for i := range r.last {
		r.last[i] = binary.BigEndian.Uint64(p[16+8*i:])
	}
	return r
}
