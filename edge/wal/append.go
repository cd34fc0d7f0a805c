package wal

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/weir"
)

// Append stores a batch behind the newest record of the lane. It returns the buffer
// and the sequence of the first record; the others follow it one by one. The batch is
// durable on return: one frame, one sync. Append does not keep recs.
//
// After ErrFull and ErrTooLarge nothing was stored and the log is healthy. After any
// other error nothing may be acknowledged. If a write or a sync failed, the log
// continues in a new buffer: Current changes before Append returns or, if the disk does
// not take the new buffer either, in a later Append.
func (l *Log) Append(ln weir.Lane, recs []Record) (id weir.BufferID, first uint64, err error) {
	return l.append(ln, recs, nil)
}

// AppendAt is Append for a caller that has announced the position of the records. It
// stores them there, or stores nothing and returns ErrMoved. After any error no other
// records will ever lie at that position, so that a later Stored does not report true
// because of them. So the log continues in a new buffer even if it is healthy.
func (l *Log) AppendAt(id weir.BufferID, ln weir.Lane, first uint64, recs []Record) error {
	_, _, err := l.append(ln, recs, &position{id, first})
	if errors.Is(err, ErrFull) || errors.Is(err, ErrTooLarge) {
		l.broken.Store(true)
		if renewed := l.renew(); renewed != nil {
			return fmt.Errorf("%w, and no new buffer yet: %w", err, renewed)
		}
	}
	return err
}

// position is a sequence of a lane of a buffer.
type position struct {
	id  weir.BufferID
	seq uint64
}

func (l *Log) append(ln weir.Lane, recs []Record, want *position) (weir.BufferID, uint64, error) {
	if err := checkLane(ln); err != nil {
		return weir.BufferID{}, 0, err
	}
	size, err := checkRecords(recs)
	if err != nil {
		return weir.BufferID{}, 0, err
	}
	w, err := l.takeWriter(ln)
	if err != nil {
		return weir.BufferID{}, 0, err
	}
	b := l.current // does not change while a writer is held
	_, last, _ := w.lane.bounds()
	first := last + 1
	if want != nil && *want != (position{b.id, first}) {
		w.mu.Unlock()
		return weir.BufferID{}, 0, fmt.Errorf("%w: the next record of lane %v is %d of buffer %v", ErrMoved, ln, first, b.id)
	}
	if len(recs) == 0 {
		w.mu.Unlock()
		return b.id, first, nil
	}
	if err := l.reserve(ln, size+FrameOverhead); err != nil {
		w.mu.Unlock()
		return weir.BufferID{}, 0, err
	}
	n, err := l.write(b, w, first, recs)
	l.used.Add(n - (size + FrameOverhead))
	if err != nil {
		l.giveUp(w, ln, err)
		return weir.BufferID{}, 0, fmt.Errorf("append to lane %v: %w", ln, err)
	}
	l.tell()
	l.failures.over(l.opts)
	if err := w.roll(); err != nil {
		l.giveUp(w, ln, err) // the batch is stored in spite of the error
		return b.id, first, nil
	}
	w.mu.Unlock()
	return b.id, first, nil
}

// takeWriter locks the lane's writer. After a failure it first begins a new buffer.
func (l *Log) takeWriter(ln weir.Lane) (*writer, error) {
	w := &l.writers[ln]
	for {
		w.mu.Lock()
		if w.closed {
			w.mu.Unlock()
			return nil, ErrClosed
		}
		if !l.broken.Load() {
			return w, nil
		}
		w.mu.Unlock()
		if err := l.renew(); err != nil {
			return nil, err
		}
	}
}

// write stores a batch and returns how many bytes it took, 0 on an error.
func (l *Log) write(b *buffer, w *writer, first uint64, recs []Record) (int64, error) {
	if err := b.make(); err != nil {
		return 0, fmt.Errorf("create buffer: %w", err)
	}
	return w.append(w.frame(first, recs), first+uint64(len(recs))-1)
}

// giveUp ends the current buffer after a failed write, and unlocks the writer.
func (l *Log) giveUp(w *writer, ln weir.Lane, cause error) {
	l.broken.Store(true)
	w.mu.Unlock()
	err := l.renew()
	if l.failures.begin(l.opts.Now()) {
		l.opts.Log.Error("a write to the buffer failed: it is replaced by a new one, and no message is acknowledged until writes succeed again",
			"lane", ln, "err", errors.Join(cause, err))
	}
}

// failuresQuiet is how long writes must have succeeded before the disk counts as
// working again.
const failuresQuiet = 10 * time.Second

// failures logs one line when writes begin to fail and one when they have stopped
// failing. A few writes that succeed in between do not end it: a full disk takes some.
type failures struct {
	mu            sync.Mutex // guards what follows
	count         int        // 0: writes succeed
	began, latest time.Time
}

// begin counts a failure, and reports whether it is the first.
func (f *failures) begin(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count++; f.count == 1 {
		f.began = now
	}
	f.latest = now
	return f.count == 1
}

// over notes that a write succeeded.
func (f *failures) over(o Options) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 {
		return
	}
	if now := o.Now(); now.Sub(f.latest) >= failuresQuiet {
		o.Log.Info("writes to the buffer succeed again", "lasted", now.Sub(f.began).Round(time.Second), "failed", f.count)
		f.count = 0
	}
}

// renew ends the current buffer after a failed write and begins a new one. Appends to
// other lanes that are under way finish first: what they stored counts.
//
// The order matters. The old buffer is sealed durably behind the last acknowledged
// record before a new one begins. A frame whose append failed may lie in the old
// buffer. If it came back after the records were stored a second time, they would be
// delivered twice. Nothing is appended until both steps are durable; the next append
// retries them.
func (l *Log) renew() error {
	for i := range l.writers {
		l.writers[i].mu.Lock()
		defer l.writers[i].mu.Unlock()
	}
	if l.writers[0].closed {
		return ErrClosed
	}
	if !l.broken.Load() {
		return nil
	}
	old := l.current
	if err := l.endBuffer(); err != nil {
		return fmt.Errorf("seal buffer %v: %w", old.id, err)
	}
	if err := l.begin(); err != nil {
		return fmt.Errorf("begin buffer: %w", err)
	}
	l.broken.Store(false)
	l.settle(old)
	l.tell()
	return nil
}

// endBuffer closes the current buffer's files and seals its lanes. The caller
// holds the writers. It can be called again after an error.
func (l *Log) endBuffer() error {
	for i := range l.writers {
		w, la := &l.writers[i], &l.current.lanes[i]
		w.close()
		if la.marks.opened() {
			if err := la.seal(); err != nil {
				return err
			}
		}
	}
	if l.current.empty() {
		return nil
	}
	// Usually the buffer ends because the disk takes nothing more.
	if err := l.ended.add(l.current.end()); err != nil {
		l.opts.Log.Warn("buffer not added to the list of ended buffers: its own files say the same", "buffer", l.current.id, "err", err)
	}
	return nil
}

// settle updates the figures of a buffer that was given up from its files. It removes
// the buffer if nothing was ever stored in it.
func (l *Log) settle(b *buffer) {
	for i := range b.lanes {
		l.readers[i].mu.Lock() // no segment is freed meanwhile
		more, err := b.lanes[i].relist()
		l.readers[i].mu.Unlock()
		l.used.Add(more)
		if err != nil {
			l.opts.Log.Warn("the files of a buffer cannot be listed: its size in the metrics is not exact", "dir", b.lanes[i].dir, "err", err)
		}
	}
	if !b.empty() {
		return
	}
	l.mu.Lock()
	l.drop(b)
	l.mu.Unlock()
	l.used.Add(-b.bytes())
	l.discard(b)
}
