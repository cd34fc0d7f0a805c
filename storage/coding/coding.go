// Package coding is how state machines on the log write the bodies of their
// entries and snapshots: varints of encoding/binary, and strings with their length
// before them.
package coding

import (
	"encoding/binary"
	"math"
)

// AppendString appends the length of s as an unsigned varint, and s.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decoder reads a body. After the first thing that does not fit it is bad, and
// gives zeros.
type Decoder struct {
	p   []byte
	bad bool
}

// NewDecoder returns a decoder of body, which the results of Take are parts of.
func NewDecoder(body []byte) Decoder { return Decoder{p: body} }

// Fail makes the decoder bad: what was read makes no sense.
func (d *Decoder) Fail() { d.bad, d.p = true, nil }

// Bad reports whether something did not fit.
func (d *Decoder) Bad() bool { return d.bad }

// Done reports whether all fitted, and nothing is left.
func (d *Decoder) Done() bool { return !d.bad && len(d.p) == 0 }

// Take reads n bytes.
func (d *Decoder) Take(n uint64) []byte {
	if d.bad || n > uint64(len(d.p)) {
		d.Fail()
		return nil
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

// Rest reads all that is left.
func (d *Decoder) Rest() []byte { return d.Take(uint64(len(d.p))) }

// Byte reads one.
func (d *Decoder) Byte() byte {
	if b := d.Take(1); b != nil {
		return b[0]
	}
	return 0
}

// ID reads the 16 bytes of a topic's id.
func (d *Decoder) ID() (id [16]byte) {
	copy(id[:], d.Take(16))
	return id
}

// String reads what AppendString wrote.
func (d *Decoder) String() string { return string(d.Take(d.Uvarint())) }

// Uvarint reads an unsigned varint.
func (d *Decoder) Uvarint() uint64 {
	u, n := binary.Uvarint(d.p)
	d.skip(n)
	return u
}

// Varint reads a signed one.
func (d *Decoder) Varint() int64 {
	i, n := binary.Varint(d.p)
	d.skip(n)
	return i
}

// Int31 reads an unsigned varint that fits an int32.
func (d *Decoder) Int31() int32 {
	u := d.Uvarint()
	if u > math.MaxInt32 {
		d.Fail()
		return 0
	}
	return int32(u)
}

// Count reads a number of items of at least size bytes each: no more than can
// follow, so that a damaged body does not allocate more than itself.
func (d *Decoder) Count(size int) int {
	n := d.Uvarint()
	if n > uint64(len(d.p)/size) {
		d.Fail()
		return 0
	}
	return int(n)
}

func (d *Decoder) skip(n int) {
	if n <= 0 {
		d.Fail()
		return
	}
	d.p = d.p[n:]
}
