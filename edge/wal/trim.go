package wal

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// ackedEvery is the shortest interval between two writes of the acknowledged position,
// if no file can be freed.
const ackedEvery = time.Second

// Trim notes that all records up to through are delivered. Read does not return them any
// more, and files that hold nothing else are freed. The position is written about once a
// second, and synced before a file is freed. After a crash an older position may count:
// then records are offered to the cloud again, which knows that it has them.
func (l *Log) Trim(id weir.BufferID, ln weir.Lane, through uint64) error {
	if err := checkLane(ln); err != nil {
		return err
	}
	r := &l.readers[ln]
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := l.buffer(id)
	if err != nil {
		return err
	}
	la := &b.lanes[ln]
	acked, moved := la.trim(through)
	if !moved && !la.behind {
		return nil
	}
	n, err := la.free(acked, id == l.Current(), l.opts.Now())
	l.used.Add(-n)
	la.behind = err != nil
	if err != nil {
		return fmt.Errorf("trim buffer %v lane %v through %d: %w", id, ln, through, err)
	}
	return nil
}

// trim moves the acknowledged position, unless it is there already.
func (la *lane) trim(through uint64) (acked uint64, moved bool) {
	la.mu.Lock()
	defer la.mu.Unlock()
	through = min(through, la.last)
	if through <= la.acked {
		return la.acked, false
	}
	la.acked = through
	la.marks.acked(through)
	return through, true
}

// free writes the acknowledged position if that is due, and removes the segments that
// hold nothing behind it. It returns how many bytes it freed. The caller holds the
// reader's lock.
//
// The position is durable before the first file is removed. A crash leaves files that
// the next Trim removes.
func (la *lane) free(acked uint64, current bool, now time.Time) (int64, error) {
	if err := la.openMarks(); err != nil {
		if la.lost != "" && len(la.segs) == 0 {
			// The disk is full: nothing can be freed, and the position cannot be written.
			// Later records must not wait for that.
			return 0, nil
		}
		return 0, err
	}
	n, err := la.freeable(acked, current)
	if err != nil {
		return 0, err
	}
	if n == 0 {
		if now.Sub(la.written) < ackedEvery && !la.done() {
			return 0, nil
		}
		la.written = now
		return 0, la.marks.write(func(*mark) {})
	}
	la.written = now
	if err := la.marks.set(func(*mark) {}); err != nil {
		return 0, err
	}
	var bytes int64
	for range n {
		s, _ := la.segment(0)
		path := filepath.Join(la.dir, s.name)
		err := la.disk.do(stepRemove, path, func() error { return os.Remove(path) })
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return bytes, err
		}
		la.mu.Lock()
		la.segs = slices.Delete(la.segs, 0, 1)
		la.mu.Unlock()
		bytes += s.size
	}
	return bytes, nil
}

// freeable returns how many of the oldest segments hold nothing behind acked. It never
// counts the one that is being appended to.
func (la *lane) freeable(acked uint64, current bool) (int, error) {
	la.mu.Lock()
	segs, last := len(la.segs), la.last
	la.mu.Unlock()
	if !current && acked >= last {
		return segs, nil
	}
	for n := 0; ; n++ {
		if n+1 >= segs {
			return n, nil
		}
		first, err := la.firstOf(n + 1)
		if err != nil || first > acked+1 {
			return n, err
		}
	}
}

// done reports whether everything in the lane is delivered.
func (la *lane) done() bool {
	acked, last, _ := la.bounds()
	return acked >= last
}

// Retire removes a buffer that is not the current one and is trimmed to its end;
// otherwise it returns ErrUnacked. It remembers the buffer's last sequences.
//
// They are durable before the buffer is removed. A crash in between leaves a buffer that
// the next Open removes.
func (l *Log) Retire(id weir.BufferID) error {
	for i := range l.readers {
		l.readers[i].mu.Lock()
		defer l.readers[i].mu.Unlock()
	}
	b, err := l.buffer(id)
	if err != nil {
		return err
	}
	if id == l.Current() || !b.delivered() {
		return fmt.Errorf("retire buffer %v: %w", id, ErrUnacked)
	}
	gone := goneBuffer{id: id}
	for i := range b.lanes {
		_, gone.last[i], _ = b.lanes[i].bounds()
		if l.readers[i].lane == &b.lanes[i] {
			l.readers[i].forget()
		}
	}
	if err := l.retired.write(gone); err != nil {
		return fmt.Errorf("retire buffer %v: %w", id, err)
	}
	l.mu.Lock()
	l.retired.add(gone)
	l.drop(b)
	l.mu.Unlock()
	l.used.Add(-b.bytes())
	l.dead.release(id)
	l.ended.forget(id)
	if err := b.remove(); err != nil {
		return fmt.Errorf("remove buffer %v: %w", id, err)
	}
	return nil
}

// drop takes a buffer off the list. The caller holds mu.
func (l *Log) drop(b *buffer) {
	l.buffers = slices.DeleteFunc(slices.Clone(l.buffers), func(o *buffer) bool { return o == b })
}
