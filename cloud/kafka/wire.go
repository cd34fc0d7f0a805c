package kafka

import (
	"encoding/binary"
	"errors"
	"math"
)

// The primitive types of the protocol, for what kmsg does not decode or encode:
// request headers, Produce requests and Fetch responses. From some version of each
// request on, messages are flexible (KIP-482): lengths are varints plus one, and
// structures end with tagged fields.

var errShort = errors.New("request ends too early")

// reader decodes a request. After the first error it is bad and returns zeros.
type reader struct {
	p        []byte
	flexible bool
	bad      bool
}

// err returns an error if the reader is bad. Bytes left over are allowed, as in
// Kafka.
func (r *reader) err() error {
	if r.bad {
		return errShort
	}
	return nil
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.p) {
		r.bad, r.p = true, nil
		return nil
	}
	b := r.p[:n:n]
	r.p = r.p[n:]
	return b
}

func (r *reader) int16() int16 {
	if b := r.take(2); b != nil {
		return int16(binary.BigEndian.Uint16(b))
	}
	return 0
}

func (r *reader) int32() int32 {
	if b := r.take(4); b != nil {
		return int32(binary.BigEndian.Uint32(b))
	}
	return 0
}

func (r *reader) uvarint() uint32 {
	u, n := binary.Uvarint(r.p)
	if n <= 0 || u > math.MaxUint32 {
		r.bad, r.p = true, nil
		return 0
	}
	r.p = r.p[n:]
	return uint32(u)
}

func (r *reader) uuid() (id [16]byte) {
	copy(id[:], r.take(16))
	return id
}

// nullableString returns the bytes of a string, without a copy; nil is null.
func (r *reader) nullableString() []byte {
	if r.flexible {
		return r.span(int64(r.uvarint()) - 1)
	}
	return r.span(int64(r.int16()))
}

// nullableBytes returns a byte array, without a copy; nil is null.
func (r *reader) nullableBytes() []byte {
	if r.flexible {
		return r.span(int64(r.uvarint()) - 1)
	}
	return r.span(int64(r.int32()))
}

func (r *reader) span(n int64) []byte {
	if n < 0 || r.bad {
		return nil
	}
	b := r.take(int(n))
	if b == nil && !r.bad {
		b = []byte{}
	}
	return b
}

// array reads the length of an array whose elements take at least size bytes each. A
// length that cannot fit into the rest of the request is bad, so that allocations
// stay in proportion to what was sent.
func (r *reader) array(size int) int {
	var n int64
	if r.flexible {
		n = int64(r.uvarint()) - 1
	} else {
		n = int64(r.int32())
	}
	if n > int64(len(r.p)/size) {
		r.bad, r.p = true, nil
		return 0
	}
	return int(max(n, 0))
}

// tags skips tagged fields.
func (r *reader) tags() {
	if !r.flexible {
		return
	}
	for n := r.uvarint(); n > 0 && !r.bad; n-- {
		r.uvarint()
		r.take(int(r.uvarint()))
	}
}

// writer builds a response.
type writer struct {
	p        []byte
	flexible bool
}

func (w *writer) int16(v int16) { w.p = binary.BigEndian.AppendUint16(w.p, uint16(v)) }
func (w *writer) int32(v int32) { w.p = binary.BigEndian.AppendUint32(w.p, uint32(v)) }
func (w *writer) int64(v int64) { w.p = binary.BigEndian.AppendUint64(w.p, uint64(v)) }

func (w *writer) string(s string) {
	if w.flexible {
		w.p = binary.AppendUvarint(w.p, uint64(len(s))+1)
	} else {
		w.int16(int16(len(s)))
	}
	w.p = append(w.p, s...)
}

// length begins an array of n elements, or n bytes; -1 is null.
func (w *writer) length(n int) {
	if w.flexible {
		w.p = binary.AppendUvarint(w.p, uint64(n+1))
		return
	}
	w.int32(int32(n))
}

// tag ends a structure with one tagged field.
func (w *writer) tag(number byte, field []byte) {
	w.p = append(w.p, 1, number)
	w.p = binary.AppendUvarint(w.p, uint64(len(field)))
	w.p = append(w.p, field...)
}

// leader ends the answer for a partition with the leader of it.
func (w *writer) leader(id, epoch int32) {
	field := writer{flexible: true}
	field.int32(id)
	field.int32(epoch)
	field.tags()
	w.tag(1, field.p)
}

// endpoints ends an answer with the addresses of nodes.
func (w *writer) endpoints(nodes []node) {
	field := writer{flexible: true}
	field.length(len(nodes))
	for _, n := range nodes {
		field.int32(n.id)
		field.string(n.host)
		field.int32(n.port)
		field.length(-1) // rack
		field.tags()
	}
	w.tag(0, field.p)
}

// tags ends a structure without tagged fields.
func (w *writer) tags() {
	if w.flexible {
		w.p = append(w.p, 0)
	}
}
