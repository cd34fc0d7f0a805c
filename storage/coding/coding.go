// Package coding is how bodies of log entries, snapshots and frames are written and read:
// varints of encoding/binary, big-endian integers, and strings with their length before
// them.
package coding

import (
	"encoding/binary"
	"math"
)

// AppendString appends the length of s as an unsigned varint, and s.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// Decoder takes fields off the front of a body. After the first one that does not fit
// it is bad: nothing is left, and all that follows is zero, so that it is enough to ask
// at the end.
type Decoder struct {
	p   []byte
	bad bool
}

// NewDecoder returns a decoder of body, which the results of Take are parts of.
func NewDecoder(body []byte) Decoder { return Decoder{p: body} }

// Fail makes the decoder bad: what was read is not valid.
func (d *Decoder) Fail() { d.bad, d.p = true, nil }

// Bad reports whether something did not fit.
func (d *Decoder) Bad() bool { return d.bad }

// Done reports whether all fitted, and nothing is left.
func (d *Decoder) Done() bool { return !d.bad && len(d.p) == 0 }

// Len returns how many bytes are left.
func (d *Decoder) Len() int { return len(d.p) }

// Take reads n bytes, which an append does not reach beyond. It returns nil if fewer
// are left.
func (d *Decoder) Take(n uint64) []byte {
	if n > uint64(len(d.p)) {
		d.Fail()
		return nil
	}
	b := d.p[:n:n]
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

// Uint16 reads a big-endian integer of 2 bytes.
func (d *Decoder) Uint16() uint16 {
	if b := d.Take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

// Uint32 reads a big-endian integer of 4 bytes.
func (d *Decoder) Uint32() uint32 {
	if b := d.Take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

// Uint64 reads a big-endian integer of 8 bytes.
func (d *Decoder) Uint64() uint64 {
	if b := d.Take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

// ID reads the 16 bytes of the id of a topic.
func (d *Decoder) ID() (id [16]byte) {
	copy(id[:], d.Take(16))
	return id
}

// Bytes reads an unsigned varint and so many bytes.
func (d *Decoder) Bytes() []byte { return d.Take(d.Uvarint()) }

// String reads what AppendString wrote.
func (d *Decoder) String() string { return string(d.Bytes()) }

// Uvarint reads an unsigned varint in its shortest form, so that equal values are equal
// bytes.
func (d *Decoder) Uvarint() uint64 {
	if len(d.p) > 0 && d.p[0] < 0x80 {
		u := d.p[0]
		d.p = d.p[1:]
		return uint64(u)
	}
	return d.long()
}

// long reads an unsigned varint of more than one byte.
func (d *Decoder) long() uint64 {
	u, n := binary.Uvarint(d.p)
	if n <= 0 || n > 1 && d.p[n-1] == 0 {
		d.Fail()
		return 0
	}
	d.p = d.p[n:]
	return u
}

// Varint reads a signed one, which is zigzag encoded.
func (d *Decoder) Varint() int64 {
	u := d.Uvarint()
	return int64(u>>1) ^ -int64(u&1)
}

// UpTo reads an unsigned varint of at most limit.
func (d *Decoder) UpTo(limit uint64) uint64 {
	u := d.Uvarint()
	if u > limit {
		d.Fail()
		return 0
	}
	return u
}

// Int31 reads an unsigned varint that fits an int32.
func (d *Decoder) Int31() int32 { return int32(d.UpTo(math.MaxInt32)) }

// Count reads a number of items of at least size bytes each: no more than can follow,
// so that a damaged body does not allocate more than itself.
func (d *Decoder) Count(size int) int {
	n := d.Uvarint()
	if n > uint64(len(d.p)/size) {
		d.Fail()
		return 0
	}
	return int(n)
}
