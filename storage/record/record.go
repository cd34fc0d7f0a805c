package record

import (
	"encoding/binary"
	"math"
	"math/bits"
)

// Header is a key and a value that travel beside a record's own. A nil Value
// is null, which is not the same as empty.
type Header struct {
	Key   string
	Value []byte
}

// Record is one message. A nil Key or Value is null, which is not the same as
// empty.
type Record struct {
	Offset    int64 // in its partition; ignored when a batch is built
	Timestamp int64 // milliseconds since 1970
	Key       []byte
	Value     []byte
	Headers   []Header
}

// MostBytes returns the most bytes that the record takes in a batch that is not compressed.
func (r *Record) MostBytes() int {
	const deltas = 5 + 1 + 10 + 5 // its length, attributes, and the deltas of time and offset
	return deltas + int(bodySize(r))
}

// MaxHeaders is the largest number of headers that a record may have. Kafka
// names no limit; without one, 2 bytes on the wire become 40 in memory.
const MaxHeaders = 16384

// minRecordSize is the length of the smallest record: length, attributes, two
// deltas, null key, null value and no headers, one byte each.
const minRecordSize = 7

// entry is a record as it lies in a batch (integers are zigzag varints):
//
//	length | attributes byte | timestamp delta | offset delta | body
//
// The body does not depend on the record's place in a batch, so that Merge
// can move it as it is:
//
//	key length (-1 null) | key | value length (-1 null) | value |
//	header count | (key length | key | value length (-1 null) | value)*
type entry struct {
	timestampDelta int64
	offsetDelta    int32
	body           []byte
	checked        bool // the body is valid, and was left out
}

// cutEntry takes the first record off p. It does not look at the body.
func cutEntry(p []byte) (e entry, rest []byte, ok bool) {
	c := cursor{p: p}
	one := cursor{p: c.take(c.varint()), bad: c.bad}
	one.take(1) // attributes: no bit is defined
	e.timestampDelta = one.varlong()
	e.offsetDelta = one.varint()
	e.body = one.p
	return e, c.p, !one.bad
}

// checkBody reports whether decodeBody accepts body.
func checkBody(body []byte) bool {
	c := cursor{p: body}
	c.field()
	c.field()
	for range c.headerCount() {
		if c.field() == nil {
			return false
		}
		c.field()
	}
	return !c.bad && len(c.p) == 0
}

// decodeBody fills in key, value and headers of r, which alias body. It keeps
// the headers in spare and returns spare, perhaps grown, for the next record:
// most records of a batch have the same header keys, and a key that is
// already there need not be allocated again.
func decodeBody(r *Record, body []byte, spare []Header) ([]Header, bool) {
	c := cursor{p: body}
	r.Key = c.field()
	r.Value = c.field()
	r.Headers = nil
	n := c.headerCount()
	if n > len(spare) {
		spare = append(spare, make([]Header, n-len(spare))...)
	}
	for i := range n {
		key, h := c.field(), &spare[i]
		if key == nil {
			return spare, false
		}
		if h.Key != string(key) {
			h.Key = string(key)
		}
		h.Value = c.field()
	}
	if n > 0 {
		r.Headers = spare[:n:n]
	}
	return spare, !c.bad && len(c.p) == 0
}

// bodySize is the number of bytes that appendBody writes. In 64 bits: on a
// 32-bit machine the sum may not fit an int.
func bodySize(r *Record) int64 {
	size := fieldSize(r.Key) + fieldSize(r.Value) + int64(varintSize(int64(len(r.Headers))))
	for i := range r.Headers {
		h := &r.Headers[i]
		size += int64(varintSize(int64(len(h.Key)))+len(h.Key)) + fieldSize(h.Value)
	}
	return size
}

func fieldSize(p []byte) int64 {
	if p == nil {
		return 1
	}
	return int64(varintSize(int64(len(p)))) + int64(len(p))
}

func appendBody(dst []byte, r *Record) []byte {
	dst = appendField(dst, r.Key)
	dst = appendField(dst, r.Value)
	dst = appendVarint(dst, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		dst = appendVarint(dst, int64(len(h.Key)))
		dst = append(dst, h.Key...)
		dst = appendField(dst, h.Value)
	}
	return dst
}

func appendField(dst, p []byte) []byte {
	if p == nil {
		return appendVarint(dst, -1)
	}
	dst = appendVarint(dst, int64(len(p)))
	return append(dst, p...)
}

// appendVarint writes v as Kafka's varint or varlong: the same bytes where
// both can hold it.
func appendVarint(dst []byte, v int64) []byte {
	return binary.AppendUvarint(dst, zigzag(v))
}

func varintSize(v int64) int { return (bits.Len64(zigzag(v)|1) + 6) / 7 }

func zigzag(v int64) uint64 { return uint64(v<<1) ^ uint64(v>>63) }

// cursor reads a record's fields off p. A fault sticks: it sets bad and
// leaves nothing to read, so that it is enough to look at bad in the end.
type cursor struct {
	p   []byte
	bad bool
}

func (c *cursor) fail() {
	c.p, c.bad = nil, true
}

// varint reads at most 5 bytes, as Kafka does.
func (c *cursor) varint() int32 {
	if len(c.p) > 0 && c.p[0] < 0x80 {
		u := uint32(c.p[0])
		c.p = c.p[1:]
		return int32(u>>1) ^ -int32(u&1)
	}
	return c.longVarint()
}

func (c *cursor) longVarint() int32 {
	u, n := binary.Uvarint(c.p[:min(len(c.p), binary.MaxVarintLen32)])
	if n <= 0 || u > math.MaxUint32 {
		c.fail()
		return 0
	}
	c.p = c.p[n:]
	return int32(uint32(u)>>1) ^ -int32(u&1)
}

// varlong reads at most 10 bytes, as Kafka does.
func (c *cursor) varlong() int64 {
	u, n := binary.Uvarint(c.p)
	if n <= 0 {
		c.fail()
		return 0
	}
	c.p = c.p[n:]
	return int64(u>>1) ^ -int64(u&1)
}

// take reads n bytes.
func (c *cursor) take(n int32) []byte {
	if n < 0 || int64(n) > int64(len(c.p)) {
		c.fail()
		return nil
	}
	p := c.p[:n:n]
	c.p = c.p[n:]
	return p
}

// field reads bytes that come with their length; nil is null.
func (c *cursor) field() []byte {
	n := c.varint()
	if n == -1 {
		return nil
	}
	return c.take(n)
}

// headerCount reads the number of headers, and checks that enough bytes are left: a
// header takes at least 2.
func (c *cursor) headerCount() int {
	n := int(c.varint())
	if n < 0 || n > MaxHeaders || n > len(c.p)/2 {
		c.fail()
		return 0
	}
	return n
}
