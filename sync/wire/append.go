package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// Kind says how an Append carries its records.
type Kind uint8

const (
	KindBatch   Kind = 1 // one complete RecordBatch
	KindRecords Kind = 2 // reserved: a trickle through the connection's compressed stream
)

// Append hands records of one lane to one partition. First and Last are the
// sequences of its first and last record; those between them may belong to
// other partitions. Prev is the sequence that this sender last handed to this
// partition of this lane and buffer, or the mark that it was given, or 0: the
// partition takes the Append only when Prev is its mark.
//
// Row is the row of the map table that gave the records their partition. The
// cloud keeps the newest of each lane and topic, and gives it back in Marks.
type Append struct {
	Buffer    weir.BufferID
	Lane      weir.Lane
	Topic     weir.TopicID
	Partition int32
	Round     uint32 // counts the sender's rewinds of this partition; Refused repeats it
	Row       weir.Row
	Prev      uint64
	First     uint64
	Last      uint64
	Kind      Kind
	Batch     []byte
}

const appendLen = 12 + 1 + 16 + 4 + 4 + rowLen + 8*3 + 1

// AppendOverhead is what an Append frame adds to its batch, in bytes.
const AppendOverhead = headerLen + appendLen

func (*Append) Type() Type { return TypeAppend }

func (f *Append) tail() []byte { return f.Batch }

func (f *Append) encode(b []byte) []byte {
	b = putStream(b, f.Buffer, f.Lane, f.Topic, f.Partition)
	b = binary.BigEndian.AppendUint32(b, f.Round)
	b = putRow(b, f.Row)
	b = binary.BigEndian.AppendUint64(b, f.Prev)
	b = binary.BigEndian.AppendUint64(b, f.First)
	b = binary.BigEndian.AppendUint64(b, f.Last)
	return append(b, byte(f.Kind))
}

func (f *Append) decode(c *decoder) {
	f.Buffer, f.Lane, f.Topic, f.Partition = c.buffer(), c.lane(), c.topic(), c.partition()
	f.Round, f.Row = c.Uint32(), c.row()
	f.Prev, f.First, f.Last = c.Uint64(), c.Uint64(), c.Uint64()
	f.Kind = Kind(c.Byte())
	f.Batch = c.Rest()
	switch {
	case f.Prev >= f.First || f.First > f.Last:
		c.fail("sequences out of order")
	case !f.Row.Maps(f.Partition, f.Last):
		c.fail("row does not give that partition")
	case f.Kind != KindBatch:
		c.fail("unknown kind")
	case len(f.Batch) == 0:
		c.fail("no batch")
	}
}
