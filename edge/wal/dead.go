package wal

import (
	"encoding/binary"
	"fmt"
	"log/slog"
	"math"
	"os"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

const (
	deadFile = 1 << 20 // bytes of a file before the next one is begun, unless the quota is small

	// deadFrame is how many bytes of records go into one frame.
	deadFrame = 1 << 20
)

// dead are the records that the cloud refused for good. They lie in numbered files. Each
// file is appended to by one open only. If the files take more than the quota, the
// oldest are removed.
type dead struct {
	log   *slog.Logger
	quota int64

	mu       sync.Mutex
	files    letterFiles
	loaded   bool
	segments []deadSegment // oldest first
	known    map[stream]seqSet
	dropped  uint64 // records removed because of the quota, since Open
}

type deadSegment struct {
	number uint64
	size   int64
	count  uint64 // records in it
}

// stream is a lane of a buffer.
type stream struct {
	id   weir.BufferID
	lane weir.Lane
}

// Dead is a record that was refused for good, and where it came from.
type Dead struct {
	Buffer weir.BufferID
	Lane   weir.Lane
	Seq    uint64
	Reason string
	Record Record
}

// AddDead puts records that the cloud refused for good into the dead letters; durable
// on return. They stay until newer ones need the room. A record that is there already,
// after a crash between AddDead and Trim, is not added again. Gaps among the items are
// left out. AddDead trims nothing.
func (l *Log) AddDead(id weir.BufferID, ln weir.Lane, items []Item, reason string) error {
	if err := checkLane(ln); err != nil {
		return err
	}
	if _, err := l.buffer(id); err != nil {
		return err
	}
	if err := l.dead.add(stream{id, ln}, items, reason); err != nil {
		return fmt.Errorf("add dead letters of buffer %v lane %v: %w", id, ln, err)
	}
	return nil
}

// EachDead calls fn with the dead letters, oldest first and each once. If fn returns an
// error, EachDead stops and returns it. fn must not call AddDead. Damaged letters are
// skipped.
func (l *Log) EachDead(fn func(Dead) error) error {
	d := &l.dead
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(); err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	seen := map[stream]seqSet{}
	for _, s := range d.segments {
		if err := d.eachIn(s.number, seen, fn); err != nil {
			return fmt.Errorf("read dead letters: %w", err)
		}
	}
	return nil
}

func (d *dead) add(from stream, items []Item, reason string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(); err != nil {
		return err
	}
	known := d.known[from]
	var fresh []Item
	var size int64
	for _, it := range items {
		if it.Gap != nil || known.has(it.Seq) {
			continue
		}
		if n := Size(&it.Record); size+n > deadFrame && len(fresh) > 0 {
			if err := d.write(from, fresh, reason); err != nil {
				return err
			}
			fresh, size = fresh[:0], 0
		}
		fresh, size = append(fresh, it), size+Size(&it.Record)
	}
	if len(fresh) == 0 {
		return nil
	}
	return d.write(from, fresh, reason)
}

// append writes one frame; durable on return. After an error the file is not used any
// more.
func (d *dead) write(from stream, items []Item, reason string) error {
	if err := d.begin(); err != nil {
		return err
	}
	frame := appendDead(openFrame(nil), from, items, reason)
	err := d.files.append(frame, len(items))
	s := &d.segments[len(d.segments)-1]
	s.size += int64(len(frame))
	if err != nil {
		return err
	}
	s.count += uint64(len(items))
	known := d.known[from]
	for _, it := range items {
		known = known.add(it.Seq)
	}
	d.known[from] = known
	return d.shrink()
}

// begin opens the file that the next frame goes to.
func (d *dead) begin() error {
	number := uint64(1)
	if n := len(d.segments); n > 0 {
		newest := d.segments[n-1]
		if d.files.file != nil && newest.size < min(deadFile, d.quota/4) {
			return nil
		}
		number = newest.number + 1
	}
	made, err := d.files.begin(number)
	if made {
		d.segments = append(d.segments, deadSegment{number: number})
	}
	return err
}

// shrink removes the oldest files until the rest is within the quota.
func (d *dead) shrink() error {
	for len(d.segments) > 1 && d.bytes() > d.quota {
		old := d.segments[0]
		if err := d.files.remove(old.number); err != nil {
			return fmt.Errorf("make room among the dead letters: %w", err)
		}
		d.segments = slices.Delete(d.segments, 0, 1)
		d.dropped += old.count
		d.log.Warn("the oldest dead letters are removed to make room for newer ones", "records", old.count, "quota", d.quota)
	}
	return nil
}

func (d *dead) bytes() int64 {
	var n int64
	for _, s := range d.segments {
		n += s.size
	}
	return n
}

// load reads, once, the dead letters of earlier opens.
func (d *dead) load() error {
	if d.loaded {
		return nil
	}
	numbers, err := d.files.numbers()
	if err != nil {
		return err
	}
	var segments []deadSegment
	known := map[stream]seqSet{}
	for _, number := range numbers {
		s := deadSegment{number: number}
		err := d.eachIn(number, known, func(Dead) error {
			s.count++
			return nil
		})
		if err != nil {
			return err
		}
		if st, err := os.Stat(d.files.path(number)); err == nil {
			s.size = st.Size()
		}
		segments = append(segments, s)
	}
	d.segments, d.known, d.loaded = segments, known, true
	return nil
}

// eachIn calls fn with the records of one file and adds them to seen. Records that are
// in seen already are skipped: a write that was reported as failed, and repeated, may
// have succeeded.
func (d *dead) eachIn(number uint64, seen map[stream]seqSet, fn func(Dead) error) error {
	return d.files.each(number, func(count uint32, body []byte) error {
		records, err := parseDead(body, count)
		if err != nil {
			d.log.Warn("a file of dead letters is damaged: it is skipped", "file", d.files.path(number), "err", err)
			return nil
		}
		for _, r := range records {
			from := stream{r.Buffer, r.Lane}
			if seen[from].has(r.Seq) {
				continue
			}
			seen[from] = seen[from].add(r.Seq)
			if err := fn(r); err != nil {
				return err
			}
		}
		return nil
	})
}

// release drops from memory which records of a retired buffer are there.
func (d *dead) release(id weir.BufferID) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for ln := range weir.Lane(weir.Lanes) {
		delete(d.known, stream{id, ln})
	}
}

func (d *dead) close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.files.close()
}

// appendDead appends the body of a dead letter frame.
func appendDead(dst []byte, from stream, items []Item, reason string) []byte {
	reason = reason[:min(len(reason), maxReason)]
	dst = append(dst, from.id[:]...)
	dst = append(dst, byte(from.lane))
	dst = binary.AppendUvarint(dst, uint64(len(reason)))
	dst = append(dst, reason...)
	recs := make([]Record, len(items))
	for i, it := range items {
		dst = binary.AppendUvarint(dst, it.Seq)
		recs[i] = it.Record
	}
	return appendRecords(dst, recs)
}

// parseDead accepts only what appendDead wrote. The records alias a copy of p.
func parseDead(p []byte, count uint32) ([]Dead, error) {
	c := coding.NewDecoder(slices.Clone(p))
	var d Dead
	copy(d.Buffer[:], c.Take(uint64(len(d.Buffer))))
	d.Lane, d.Reason = weir.Lane(c.Byte()), c.String()
	if c.Bad() || d.Lane >= weir.Lanes || len(d.Reason) > maxReason || uint64(count) > uint64(c.Len()) {
		return nil, corrupt("dead letters")
	}
	dead := make([]Dead, count)
	for i := range dead {
		dead[i] = d
		if dead[i].Seq = c.Uvarint(); dead[i].Seq == 0 || dead[i].Seq > math.MaxInt64 {
			return nil, corrupt("dead letter without a sequence")
		}
	}
	items, err := decodeRecords(c.Rest(), header{first: 1, count: count}, 1)
	if err != nil {
		return nil, err
	}
	for i := range items {
		dead[i].Record = items[i].Record
	}
	return dead, nil
}
