package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// MaxRanges is how many ranges one Gap carries.
const MaxRanges = 1000

// Gap reports records that will not come: damaged, dropped or refused for good.
// It takes their place in the lane, as a record of topic weir.gaps, and follows
// the same rules as an Append there: Prev must be the mark of that partition.
//
// A gateway sends a Gap only when each sequence up to Last is durable in its own
// partition or part of this or an earlier Gap. So a mark of weir.gaps means that
// everything up to it is settled, and a gap can never be taken for a duplicate of a
// later one.
type Gap struct {
	small
	Buffer    weir.BufferID
	Lane      weir.Lane
	Topic     weir.TopicID // of weir.gaps
	Partition int32
	Round     uint32
	Row       weir.Row
	Prev      uint64
	Ranges    []Range // ascending, disjoint, at least one
	Count     uint64  // records that are missing, as far as known
	Exact     bool    // each sequence in Ranges is missing; false: at most those are
	Of        string  // the topic that the records were for; empty when unknown
	Cause     string
}

func (*Gap) Type() Type { return TypeGap }

// First is the first missing sequence, Last the last: the Gap's place.
func (f *Gap) First() uint64 { return f.Ranges[0].First }
func (f *Gap) Last() uint64  { return f.Ranges[len(f.Ranges)-1].Last }

func (f *Gap) encode(b []byte) []byte {
	b = putStream(b, f.Buffer, f.Lane, f.Topic, f.Partition)
	b = binary.BigEndian.AppendUint32(b, f.Round)
	b = putRow(b, f.Row)
	b = binary.BigEndian.AppendUint64(b, f.Prev)
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Ranges)))
	for _, r := range f.Ranges {
		b = binary.BigEndian.AppendUint64(b, r.First)
		b = binary.BigEndian.AppendUint64(b, r.Last)
	}
	b = binary.BigEndian.AppendUint64(b, f.Count)
	b = putBool(b, f.Exact)
	b = putString(b, f.Of)
	return putString(b, f.Cause)
}

func (f *Gap) decode(c *decoder) {
	f.Buffer, f.Lane, f.Topic, f.Partition = c.buffer(), c.lane(), c.topic(), c.partition()
	f.Round, f.Row, f.Prev = c.Uint32(), c.row(), c.Uint64()
	n := c.count(16)
	if n == 0 || n > MaxRanges {
		c.fail("number of ranges")
		return
	}
	f.Ranges = make([]Range, n)
	last := f.Prev
	for i := range f.Ranges {
		r := Range{First: c.Uint64(), Last: c.Uint64()}
		if r.First <= last || r.Last < r.First {
			c.fail("ranges out of order")
			return
		}
		f.Ranges[i], last = r, r.Last
	}
	if !f.Row.Maps(f.Partition, last) {
		c.fail("row does not give that partition")
	}
	f.Count = c.Uint64()
	f.Exact = c.boolean()
	f.Of = c.str()
	f.Cause = c.str()
}
