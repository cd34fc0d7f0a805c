package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// decoder reads a body from front to back. It keeps what is wrong first; everything read
// after it is zero, so decode functions need not check each field.
type decoder struct {
	coding.Decoder
	what string // empty if nothing is wrong, or the body is too short
}

func (c *decoder) fail(what string) {
	if !c.Bad() {
		c.what = what
	}
	c.Fail()
}

// boolean is strict: each value has one encoding.
func (c *decoder) boolean() bool {
	v := c.Byte()
	if v > 1 {
		c.fail("boolean that is neither 0 nor 1")
	}
	return v == 1
}

func (c *decoder) str() string { return string(c.Take(uint64(c.Uint16()))) }

func (c *decoder) bytes() []byte { return c.Take(uint64(c.Uint32())) }

// count reads a number of elements of at least size bytes each. It never returns more
// than fit into the rest of the body.
func (c *decoder) count(size int) int {
	n := c.Uint32()
	if uint64(n)*uint64(size) > uint64(c.Len()) {
		c.fail("more elements than bytes")
		return 0
	}
	return int(n)
}

func (c *decoder) partition() int32 {
	v := int32(c.Uint32())
	if v < 0 {
		c.fail("negative partition")
	}
	return v
}

func (c *decoder) lane() weir.Lane {
	l := weir.Lane(c.Byte())
	if l >= weir.Lanes {
		c.fail("unknown lane")
		return 0
	}
	return l
}

func (c *decoder) buffer() (id weir.BufferID) {
	copy(id[:], c.Take(uint64(len(id))))
	return id
}

func (c *decoder) topic() weir.TopicID { return c.ID() }

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
