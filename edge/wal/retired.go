package wal

import (
	"encoding/binary"
	"log/slog"

	"github.com/weirmq/weir/storage/weir"
)

// retiredKeep is how many retired buffers are remembered, as in the cloud.
const retiredKeep = 256

// goneBuffer is a retired buffer.
type goneBuffer struct {
	id   weir.BufferID
	last [weir.Lanes]uint64
}

// retired are the newest retired buffers, oldest first. Adding one requires Log.mu;
// writing the list requires all readers' locks.
type retired struct {
	list  *list
	known []goneBuffer
}

func (r *retired) open(d *disk, path string, log *slog.Logger) error {
	var err error
	r.list, err = openList(d, path, saltOf(weir.BufferID{}, partRetired), kindRetired, func(body []byte) error {
		g, err := parseGone(body)
		if err == nil {
			r.add(g)
		}
		return err
	})
	if err == nil && r.list.torn {
		log.Warn("the list of retired buffers is damaged: the readable part is used", "file", path, "left", len(r.known))
	}
	return err
}

// write makes it durable that a buffer is retired.
func (r *retired) write(g goneBuffer) error {
	all := func(add func([]byte)) {
		for _, k := range r.known {
			add(appendGone(nil, k))
		}
	}
	if r.list.next > 2*retiredKeep {
		return r.list.rewrite(func(add func([]byte)) {
			all(add)
			add(appendGone(nil, g))
		})
	}
	return r.list.append(appendGone(nil, g), all)
}

// add remembers a retired buffer, and drops the oldest if there are too many.
func (r *retired) add(g goneBuffer) {
	if len(r.known) == retiredKeep {
		r.known = append(r.known[:0], r.known[1:]...)
	}
	r.known = append(r.known, g)
}

// last returns the last sequences of a retired buffer.
func (r *retired) last(id weir.BufferID) (last [weir.Lanes]uint64, ok bool) {
	for _, g := range r.known {
		if g.id == id {
			return g.last, true
		}
	}
	return last, false
}

// highest returns the highest counter among them.
func (r *retired) highest() uint32 {
	var n uint32
	for _, g := range r.known {
		n = max(n, g.id.Counter())
	}
	return n
}

// goneSize is the length of a retired buffer's frame body.
const goneSize = 12 + 8*weir.Lanes

func appendGone(dst []byte, g goneBuffer) []byte {
	dst = append(dst, g.id[:]...)
	for _, last := range g.last {
		dst = binary.BigEndian.AppendUint64(dst, last)
	}
	return dst
}

// parseGone accepts only what appendGone wrote.
func parseGone(p []byte) (goneBuffer, error) {
	if len(p) != goneSize {
		return goneBuffer{}, corrupt("retired buffer of %d bytes", len(p))
	}
	g := goneBuffer{id: weir.BufferID(p[:12])}
	for i := range g.last {
		g.last[i] = binary.BigEndian.Uint64(p[12+8*i:])
	}
	return g, nil
}
