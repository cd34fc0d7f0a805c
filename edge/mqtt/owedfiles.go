package mqtt

import (
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
)

// owe notes that a session is owed n more deliveries of the segment.
func (l *OwedLog) owe(s *segment, session uint32, n int) {
	l.mu.Lock()
	s.owed[session] += n
	l.mu.Unlock()
}

// start ends loading. Nothing that is owed has a number up to reached, and void records are
// never read. It returns the number of the oldest record.
func (l *OwedLog) start(reached uint64, void map[uint64]bool) (oldest uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.next = max(l.next, reached+1)
	l.void = maps.Clone(void)
	if len(l.segments) > 0 {
		return l.segments[0].first
	}
	return l.next
}

// used returns the bytes of all files.
func (l *OwedLog) used() (n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		n += s.size
	}
	return n
}

// find returns the segment of a record, nil if it is gone. The caller holds mu.
func (l *OwedLog) find(number uint64) *segment {
	i, found := slices.BinarySearchFunc(l.segments, number, func(s *segment, number uint64) int {
		switch {
		case s.first < number:
			return -1
		case s.first > number:
			return 1
		default:
			return 0
		}
	})
	if !found {
		i--
	}
	if i < 0 {
		return nil
	}
	return l.segments[i]
}

// settle notes that a session has got a delivery, or will not get it. It reports whether the
// delivery was owed.
func (l *OwedLog) settle(number uint64, session uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.find(number)
	if s == nil || s.owed[session] == 0 {
		return false
	}
	if s.owed[session]--; s.owed[session] == 0 {
		delete(s.owed, session)
	}
	return true
}

// forget settles everything that a session is owed.
func (l *OwedLog) forget(session uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.segments {
		delete(s.owed, session)
	}
}

// settled returns the full segments of which nothing is owed any more. The caller writes
// their end to the state, then calls remove.
func (l *OwedLog) settled() (out []*segment) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.segments {
		last := i == len(l.segments)-1
		if len(s.owed) == 0 && !s.removing && (s.full || last && s.size >= l.size) {
			s.full, s.removing = true, true
			out = append(out, s)
		}
	}
	return out
}

// oldest removes the oldest segment from the list if n more bytes would exceed the limit of
// all files. It returns what sessions were owed of it.
func (l *OwedLog) oldest(n int64) (owed map[uint32]int, any bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	used := n
	for _, s := range l.segments {
		if !s.full || len(s.owed) > 0 {
			used += s.size
		}
	}
	if used <= l.limit {
		return nil, false
	}
	for _, s := range l.segments {
		if len(s.owed) == 0 {
			continue
		}
		owed, s.owed, s.full = s.owed, make(map[uint32]int), true
		return owed, true
	}
	return nil, false
}

// remove deletes a segment's file. A session that is reading it can finish.
func (l *OwedLog) remove(s *segment) error {
	l.mu.Lock()
	i := slices.Index(l.segments, s)
	if i < 0 {
		l.mu.Unlock()
		return nil
	}
	l.segments = slices.Delete(l.segments, i, i+1)
	l.mu.Unlock()
	if s.size == 0 {
		return nil
	}
	if err := os.Remove(l.path(s.first)); err != nil {
		return fmt.Errorf("remove messages that no session waits for: %w", err)
	}
	return nil
}

// part is what read needs of a segment.
type part struct {
	first uint64
	size  int64
	salt  [saltSize]byte
}

// parts returns the segments that have something for the session among the numbers from and
// to.
func (l *OwedLog) parts(from, to uint64, session uint32) (out []part) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, s := range l.segments {
		if s.first > to || i+1 < len(l.segments) && l.segments[i+1].first <= from || s.owed[session] == 0 {
			continue
		}
		out = append(out, part{s.first, s.size, s.salt})
	}
	return out
}

// read calls fn with the records numbered from to to, in the segments of which the session
// is owed something, until fn returns false. The caller may keep the body.
func (l *OwedLog) read(from, to uint64, session uint32, fn func(number uint64, body []byte) bool) error {
	for _, p := range l.parts(from, to, session) {
		more, err := l.readPart(p, from, to, fn)
		if err != nil {
			return fmt.Errorf("read messages for sessions: %w", err)
		}
		if !more {
			break
		}
	}
	return nil
}

func (l *OwedLog) readPart(p part, from, to uint64, fn func(uint64, []byte) bool) (more bool, err error) {
	f, err := os.Open(l.path(p.first))
	if os.IsNotExist(err) {
		return true, nil // it was just dropped
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	b := make([]byte, p.size)
	n, err := io.ReadFull(f, b)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return false, err
	}
	b = b[:n]
	next := p.first
	for at := owedHeader; at < len(b); {
		number, body, ok := readOwed(b[at:], p.salt, next)
		if !ok {
			at++
			continue
		}
		next, at = number+1, at+owedFrame+len(body)
		if number > to {
			return false, nil
		}
		if number >= from && !l.void[number] && !fn(number, slices.Clone(body)) {
			return false, nil
		}
	}
	return true, nil
}
