package wal

import (
	"cmp"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// Read returns what lies at sequence from of a buffer's lane: the records of the frame
// that holds it, beginning with from, or one Gap. If from is already trimmed, Read begins
// with the first sequence that is not. io.EOF means that nothing durable is there yet,
// ErrUnknown that the buffer is not on this disk.
//
// Read returns durable records only, and never waits for an append: it does not use
// tidwall/wal, which holds the same lock while it reads and while it syncs. The newest
// records come from the page cache. The caller owns the result.
func (l *Log) Read(id weir.BufferID, ln weir.Lane, from uint64) ([]Item, error) {
	if err := checkLane(ln); err != nil {
		return nil, err
	}
	r := &l.readers[ln]
	r.mu.Lock()
	defer r.mu.Unlock()
	b, err := l.buffer(id)
	if err != nil {
		return nil, err
	}
	items, err := r.read(&b.lanes[ln], from)
	if err != nil && err != io.EOF {
		return nil, fmt.Errorf("read buffer %v lane %v at %d: %w", id, ln, from, err)
	}
	return items, err
}

// reader reads one lane of one buffer at a time. Each lane has one reader, because its
// buffers are delivered oldest first.
type reader struct {
	mu     sync.Mutex
	lane   *lane  // nil: none
	name   string // of the open segment
	window window

	// begin and first are where the next frame begins, and the lowest sequence that it
	// may have.
	off  int64
	next uint64

	// Where the last frame read begins, and its first sequence.
	begin int64
	first uint64

	oldest oldest // for Stats
}

func (r *reader) read(la *lane, from uint64) ([]Item, error) {
	acked, last, firm := la.bounds()
	from = max(from, acked+1)
	if from > last {
		return nil, io.EOF
	}
	if gap, ok := la.gaps.at(from); ok {
		gap.First, gap.Last = from, min(gap.Last, last)
		return []Item{{Seq: gap.Last, Gap: &gap}}, nil
	}
	f, err := r.find(la, from, last)
	if err == nil && !f.holds(from) {
		// The window may hold half of a frame that was being written when it was read.
		// The file tells whether there really is a hole.
		r.forget()
		f, err = r.find(la, from, last)
	}
	if err != nil {
		r.forget()
		return nil, err
	}
	defer r.window.shrink()
	end := la.gaps.until(from, last)
	gap := weir.Gap{First: from, Last: last, Exact: from <= firm, Reason: f.reason}
	if gap.Exact {
		gap.Last = firm
	}
	switch {
	case f.holds(from):
		items, err := decodeRecords(slices.Clone(f.body), f.header, from)
		if err == nil {
			return items[:min(uint64(len(items)), end-from+1)], nil
		}
		gap.Last, gap.Exact, gap.Reason = f.last(), true, err.Error()
	case f.count > 0:
		// If the marks are lost, what is missing before the first record may have been
		// acknowledged and freed.
		gap.Last, gap.Exact = f.first-1, !la.loose || from > la.front+1
	}
	if end < gap.Last {
		gap.Last, gap.Exact = end, true
	}
	if gap.Reason == "" {
		gap.Reason = cmp.Or(la.lost, "missing")
	}
	la.log.Error("records are missing in a buffer: a gap is reported", "dir", la.dir,
		"first", gap.First, "last", gap.Last, "exact", gap.Exact, "reason", gap.Reason)
	if err := la.gaps.add(gap); err != nil {
		la.log.Warn("gap not written: its bounds may change after a restart", "dir", la.dir, "err", err)
	}
	return []Item{{Seq: gap.Last, Gap: &gap}}, nil
}

// found is an intact frame; its count is 0 if none was found.
type found struct {
	header
	body   []byte
	reason string // what is wrong with the bytes in front of it; empty if nothing is
}

// holds reports whether the frame has the record of a sequence.
func (f found) holds(seq uint64) bool {
	return f.count > 0 && f.first <= seq && seq <= f.last()
}

// forget makes the next find read the files again.
func (r *reader) forget() {
	r.window.close()
	r.lane = nil
}

// find returns the frame that holds from, or else the first intact frame behind from
// that begins at or before last, or else none.
func (r *reader) find(la *lane, from, last uint64) (f found, err error) {
	switch {
	case r.lane == la && from >= r.next:
	case r.lane == la && from >= r.first:
		r.off = r.begin
	default:
		if ok, err := r.seek(la, from); !ok || err != nil {
			return f, err
		}
	}
	for {
		h, at, ok, err := findHeader(&r.window, la.salt, r.off)
		if err != nil {
			return f, err
		}
		if !ok {
			p, err := r.window.peek(r.off, 1)
			if err != nil {
				return f, err
			}
			if len(p) > 0 {
				f.blame(r)
			}
			if ok, err := r.advance(); !ok || err != nil {
				return f, err
			}
			continue
		}
		if h.kind == kindRecords && h.last() < from {
			r.off, r.next = h.end(at), max(r.next, h.last()+1)
			r.first = r.next
			continue
		}
		body, ok, err := readBody(&r.window, h, at)
		if err != nil {
			return f, err
		}
		if at > r.off+maxPrefix || !ok || h.kind != kindRecords {
			f.blame(r)
		}
		if !ok || h.kind != kindRecords {
			r.off = h.end(at)
			continue
		}
		if h.first > last {
			return f, nil
		}
		f.header, f.body = h, body
		if f.holds(from) {
			r.begin, r.first = at, h.first
			r.off, r.next = h.end(at), h.last()+1
		}
		return f, nil
	}
}

// blame notes where the first damaged bytes are.
func (f *found) blame(r *reader) {
	if f.reason == "" {
		f.reason = fmt.Sprintf("damaged: segment %s from byte %d", r.name, r.off)
	}
}

// seek opens, at its beginning, the segment that would hold from. ok is false if the
// lane has no segment.
func (r *reader) seek(la *lane, from uint64) (ok bool, err error) {
	r.forget()
	i, err := la.search(from)
	if err != nil {
		return false, err
	}
	if ok, err = r.openFrom(la, i); ok {
		r.lane, r.next, r.first = la, 0, 0
	}
	return ok, err
}

// advance opens the next segment; ok is false if there is none.
func (r *reader) advance() (ok bool, err error) {
	i, same := r.lane.indexOf(r.name)
	if same {
		i++
	}
	return r.openFrom(r.lane, i)
}

// openFrom opens segment i, or the next one that can be opened.
func (r *reader) openFrom(la *lane, i int) (ok bool, err error) {
	for ; ; i++ {
		s, ok := la.segment(i)
		if !ok {
			return false, nil
		}
		err := r.window.open(filepath.Join(la.dir, s.name))
		if err == nil {
			r.name, r.off = s.name, 0
			r.begin, r.first = 0, r.next // the last frame read is in another file
			return true, nil
		}
		if !unreadable(err) {
			return false, err
		}
	}
}
