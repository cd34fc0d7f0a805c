package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// decoder reads a body from front to back. It keeps the first error; everything read
// after it is zero, so decode functions need not check each field.
type decoder struct {
	b   []byte
	bad string // what is wrong, empty if nothing is
}

func (c *decoder) fail(what string) {
	if c.bad == "" {
		c.bad = what
	}
	c.b = nil
}

// take returns the next n bytes, capped so that an append cannot reach what
// follows, or nil.
func (c *decoder) take(n int) []byte {
	if n < 0 || n > len(c.b) {
		c.fail("body too short")
		return nil
	}
	p := c.b[:n:n]
	c.b = c.b[n:]
	return p
}

func (c *decoder) u8() uint8 {
	if p := c.take(1); p != nil {
		return p[0]
	}
	return 0
}

func (c *decoder) u16() uint16 {
	if p := c.take(2); p != nil {
		return binary.BigEndian.Uint16(p)
	}
	return 0
}

func (c *decoder) u32() uint32 {
	if p := c.take(4); p != nil {
		return binary.BigEndian.Uint32(p)
	}
	return 0
}

func (c *decoder) u64() uint64 {
	if p := c.take(8); p != nil {
		return binary.BigEndian.Uint64(p)
	}
	return 0
}

// boolean is strict: each value has one encoding.
func (c *decoder) boolean() bool {
	v := c.u8()
	if v > 1 {
		c.fail("boolean that is neither 0 nor 1")
	}
	return v == 1
}

func (c *decoder) str() string { return string(c.take(int(c.u16()))) }

func (c *decoder) bytes() []byte {
	n := c.u32()
	if uint64(n) > uint64(len(c.b)) {
		c.fail("body too short")
		return nil
	}
	return c.take(int(n))
}

// count reads a number of elements of at least size bytes each. It never returns more
// than fit into the rest of the body.
func (c *decoder) count(size int) int {
	n := c.u32()
	if uint64(n)*uint64(size) > uint64(len(c.b)) {
		c.fail("more elements than bytes")
		return 0
	}
	return int(n)
}

func (c *decoder) partition() int32 {
	v := int32(c.u32())
	if v < 0 {
		c.fail("negative partition")
	}
	return v
}

func (c *decoder) lane() weir.Lane {
	l := weir.Lane(c.u8())
	if l >= weir.Lanes {
		c.fail("unknown lane")
		return 0
	}
	return l
}

func (c *decoder) buffer() (id weir.BufferID) {
	copy(id[:], c.take(len(id)))
	return id
}

func (c *decoder) topic() (id weir.TopicID) {
	copy(id[:], c.take(len(id)))
	return id
}

func putBool(b []byte, v bool) []byte {
	if v {
		return append(b, 1)
	}
	return append(b, 0)
}

// putString appends at most 65,535 bytes of s, which is far beyond what any
// name or explanation in the protocol needs.
func putString(b []byte, s string) []byte {
	s = s[:min(len(s), 1<<16-1)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(s)))
	return append(b, s...)
}

func putBytes(b, p []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(p)))
	return append(b, p...)
}
