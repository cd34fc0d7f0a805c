package wal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// endedNames are the two copies of the list of ended buffers. There are two because the
// folder of a buffer and one list may be lost together.
var endedNames = [2]string{"ended", "ended.copy"}

// endedBuffer is where the lanes of a buffer end. Nothing is appended to the buffer any
// more.
type endedBuffer struct {
	id    weir.BufferID
	last  [weir.Lanes]uint64
	acked [weir.Lanes]uint64 // lower bound: the position when the buffer was noted
	guess byte               // bits of the lanes whose last is a guess
}

// same reports whether both name the same end.
func (b endedBuffer) same(o endedBuffer) bool {
	return b.id == o.id && b.last == o.last && b.guess == o.guess
}

// ended lists the buffers that must be on the disk unless they are retired.
type ended struct {
	mu     sync.Mutex // guards what follows
	copies [2]*list
	known  map[weir.BufferID]endedBuffer
	have   [2]map[weir.BufferID]endedBuffer // what each copy held when it was read
}

func (e *ended) open(d *disk, dir string, log *slog.Logger) error {
	e.known = map[weir.BufferID]endedBuffer{}
	for i, name := range endedNames {
		e.have[i] = map[weir.BufferID]endedBuffer{}
		var err error
		e.copies[i], err = openList(d, filepath.Join(dir, name), saltOf(weir.BufferID{}, partEnded), kindEnded, func(body []byte) error {
			b, err := parseEnded(body)
			if err == nil {
				e.have[i][b.id] = b
				e.known[b.id] = b
			}
			return err
		})
		if err != nil {
			return err
		}
		if e.copies[i].torn {
			log.Warn("a list of ended buffers is damaged: the other copy and the buffers' own files are used",
				"file", e.copies[i].path, "left", len(e.have[i]))
		}
	}
	return nil
}

// add notes the end of a buffer; durable on return. If it fails, the next call, or the
// next Open, writes the buffer too.
func (e *ended) add(b endedBuffer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if old, ok := e.known[b.id]; ok && old.same(b) {
		return nil
	}
	e.known[b.id] = b
	var errs []error
	for _, l := range e.copies {
		errs = append(errs, l.append(appendEnded(nil, b), func(add func([]byte)) {
			for _, k := range e.sorted() {
				if k.id != b.id {
					add(appendEnded(nil, k))
				}
			}
		}))
	}
	return errors.Join(errs...)
}

// replace makes the list what is on the disk now. A copy that has all of it, and little
// else, is not rewritten.
func (e *ended) replace(all []endedBuffer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.known = map[weir.BufferID]endedBuffer{}
	for _, b := range all {
		e.known[b.id] = b
	}
	var errs []error
	for i, l := range e.copies {
		whole := !l.torn && l.next <= uint64(2*len(all)+retiredKeep)
		for _, b := range all {
			old, ok := e.have[i][b.id]
			whole = whole && ok && old.same(b)
		}
		e.have[i] = nil
		if whole || l.fresh && len(all) == 0 {
			continue
		}
		errs = append(errs, l.rewrite(func(add func([]byte)) {
			for _, b := range e.sorted() {
				add(appendEnded(nil, b))
			}
		}))
	}
	return errors.Join(errs...)
}

// forget drops a retired buffer: the list of retired buffers has it already.
func (e *ended) forget(id weir.BufferID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.known, id)
}

func (e *ended) sorted() []endedBuffer {
	return slices.SortedFunc(maps.Values(e.known), func(a, b endedBuffer) int { return bytes.Compare(a.id[:], b.id[:]) })
}

// endedSize is the length of an ended buffer's frame body.
const endedSize = 12 + 16*weir.Lanes + 1

func appendEnded(dst []byte, b endedBuffer) []byte {
	dst = append(dst, b.id[:]...)
	for i := range b.last {
		dst = binary.BigEndian.AppendUint64(dst, b.last[i])
		dst = binary.BigEndian.AppendUint64(dst, b.acked[i])
	}
	return append(dst, b.guess)
}

// parseEnded accepts only what appendEnded wrote.
func parseEnded(p []byte) (endedBuffer, error) {
	if len(p) != endedSize || p[endedSize-1] >= 1<<weir.Lanes {
		return endedBuffer{}, corrupt("ended buffer of %d bytes", len(p))
	}
	b := endedBuffer{id: weir.BufferID(p[:12]), guess: p[endedSize-1]}
	for i := range b.last {
		b.last[i] = binary.BigEndian.Uint64(p[12+16*i:])
		b.acked[i] = binary.BigEndian.Uint64(p[20+16*i:])
	}
	return b, nil
}
