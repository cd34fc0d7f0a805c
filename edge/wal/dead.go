package wal

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

const (
	deadSuffix = ".dead"
	deadFile   = 1 << 20 // bytes of a file before the next one is begun, unless the quota is small

	// deadFrame is how many bytes of records go into one frame.
	deadFrame = 1 << 20
)

// dead are the records that the cloud refused for good. They lie in numbered
// files, which are appended to by one open only and removed oldest first when
// they take more than the quota.
type dead struct {
	disk  *disk
	log   *slog.Logger
	dir   string
	quota int64

	mu      sync.Mutex
	loaded  bool
	files   []deadSegment // oldest first
	file    *os.File      // the newest one; nil: the next record begins a new one
	next    uint64        // number of the next frame in it
	known   map[stream]seqSet
	dropped uint64 // records that went for the quota, since Open
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

// AddDead puts records that the cloud refused for good into the dead letters,
// where they stay until newer ones need the room; durable on return. A record
// that is there already, after a crash between AddDead and Trim, is not put there
// again. Gaps among the items are left out. It trims nothing.
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

// EachDead hands the dead letters to fn, oldest first and each once, until fn
// returns an error, which it returns. fn must not call AddDead. Damaged ones are
// left out.
func (l *Log) EachDead(fn func(Dead) error) error {
	d := &l.dead
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.load(); err != nil {
		return fmt.Errorf("read dead letters: %w", err)
	}
	seen := map[stream]seqSet{}
	for _, s := range d.files {
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

// append writes one frame; durable on return. After an error the file is not
// used any more.
func (d *dead) write(from stream, items []Item, reason string) error {
	if err := d.begin(); err != nil {
		return err
	}
	frame := appendDead(openFrame(nil), from, items, reason)
	sealFrame(frame, 0, saltOf(weir.BufferID{}, partDead), kindDead, d.next, uint32(len(items)))
	f, path := d.file, d.file.Name()
	d.file = nil
	err := d.disk.do(stepList, path, func() error {
		_, err := f.Write(frame)
		return err
	})
	if err == nil {
		err = d.disk.do(stepListSync, path, func() error { return dataSync(f) })
	}
	s := &d.files[len(d.files)-1]
	s.size += int64(len(frame))
	if err != nil {
		f.Close()
		return err
	}
	d.file = f
	d.next++
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
	if n := len(d.files); d.file != nil && d.files[n-1].size < min(deadFile, d.quota/4) {
		return nil
	}
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
	number := uint64(1)
	if n := len(d.files); n > 0 {
		number = d.files[n-1].number + 1
	} else if err := d.disk.mkdir(d.dir); err != nil {
		return err
	}
	f, err := os.OpenFile(d.path(number), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o640)
	if err != nil {
		return err
	}
	d.files = append(d.files, deadSegment{number: number})
	if err := d.disk.syncDir(d.dir); err != nil {
		f.Close()
		return err
	}
	d.file, d.next = f, 1
	return nil
}

// shrink removes the oldest files until the rest is within the quota.
func (d *dead) shrink() error {
	for len(d.files) > 1 && d.bytes() > d.quota {
		old := d.files[0]
		path := d.path(old.number)
		err := d.disk.do(stepRemove, path, func() error { return os.Remove(path) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("make room among the dead letters: %w", err)
		}
		d.files = slices.Delete(d.files, 0, 1)
		d.dropped += old.count
		d.log.Warn("dead letters are dropped for newer ones", "records", old.count, "quota", d.quota)
	}
	return nil
}

func (d *dead) bytes() int64 {
	var n int64
	for _, s := range d.files {
		n += s.size
	}
	return n
}

func (d *dead) path(number uint64) string {
	return filepath.Join(d.dir, fmt.Sprintf("%08d%s", number, deadSuffix))
}

// load finds out, once, what earlier opens put there.
func (d *dead) load() error {
	if d.loaded {
		return nil
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var files []deadSegment
	known := map[stream]seqSet{}
	for _, e := range entries {
		number, err := strconv.ParseUint(strings.TrimSuffix(e.Name(), deadSuffix), 10, 64)
		if err != nil || d.path(number) != filepath.Join(d.dir, e.Name()) {
			continue
		}
		s := deadSegment{number: number}
		err = d.eachIn(number, known, func(Dead) error {
			s.count++
			return nil
		})
		if err != nil {
			return err
		}
		if st, err := e.Info(); err == nil {
			s.size = st.Size()
		}
		files = append(files, s)
	}
	slices.SortFunc(files, func(a, b deadSegment) int { return cmp.Compare(a.number, b.number) })
	d.files, d.known, d.loaded = files, known, true
	return nil
}

// eachIn hands the records of one file to fn and adds them to seen. Those that
// are in there already are left out: a write that failed may have succeeded all
// the same, and was done again.
func (d *dead) eachIn(number uint64, seen map[stream]seqSet, fn func(Dead) error) error {
	return eachFrameOf(d.path(number), partDead, kindDead, func(count uint32, body []byte) error {
		records, err := parseDead(body, count)
		if err != nil {
			d.log.Warn("dead letters are damaged", "path", d.path(number), "err", err)
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

// eachFrameOf hands the bodies of the whole frames of a kind to fn, in a file of letters
// of either sort. What is damaged is left out; a file that cannot be read has none.
func eachFrameOf(path string, part byte, of kind, fn func(count uint32, body []byte) error) error {
	var w window
	if err := w.open(path); err != nil {
		if unreadable(err) {
			return nil
		}
		return err
	}
	defer w.close()
	s := saltOf(weir.BufferID{}, part)
	for off := int64(0); ; {
		h, at, ok, err := findHeader(&w, s, off)
		if !ok || err != nil {
			return err
		}
		off = h.end(at)
		body, ok, err := readBody(&w, h, at)
		if err != nil {
			return err
		}
		if !ok || h.kind != of {
			continue
		}
		if err := fn(h.count, body); err != nil {
			return err
		}
	}
}

// release forgets which records of a retired buffer are there.
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
	if d.file != nil {
		d.file.Close()
		d.file = nil
	}
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

// parseDead takes nothing but what appendDead wrote. The records alias p's
// copy.
func parseDead(p []byte, count uint32) ([]Dead, error) {
	c := decoder{p: slices.Clone(p)}
	var d Dead
	copy(d.Buffer[:], c.take(uint64(len(d.Buffer))))
	if p := c.take(1); len(p) == 1 {
		d.Lane = weir.Lane(p[0])
	}
	reason := c.take(c.uvarint())
	d.Reason = string(reason)
	if c.bad || d.Lane >= weir.Lanes || len(reason) > maxReason || uint64(count) > uint64(len(c.p)) {
		return nil, corrupt("dead letters")
	}
	dead := make([]Dead, count)
	for i := range dead {
		dead[i] = d
		if dead[i].Seq = c.uvarint(); dead[i].Seq == 0 || dead[i].Seq > math.MaxInt64 {
			return nil, corrupt("dead letter without a sequence")
		}
	}
	items, err := decodeRecords(c.p, header{first: 1, count: count}, 1)
	if err != nil {
		return nil, err
	}
	for i := range items {
		dead[i].Record = items[i].Record
	}
	return dead, nil
}
