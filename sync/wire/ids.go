package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// Bounds are the sequences that a lane of a buffer still holds. Both are
// inclusive; a lane that holds nothing has First = Last + 1.
type Bounds struct{ First, Last uint64 }

// Buffer is one buffer as the gateway offers it.
type Buffer struct {
	ID      weir.BufferID
	Current bool // drawn by the running process, still growing
	Lanes   [weir.Lanes]Bounds
}

const bufferLen = 12 + 1 + weir.Lanes*16

func (v Buffer) append(b []byte) []byte {
	b = append(b, v.ID[:]...)
	b = putBool(b, v.Current)
	for _, l := range v.Lanes {
		b = binary.BigEndian.AppendUint64(b, l.First)
		b = binary.BigEndian.AppendUint64(b, l.Last)
	}
	return b
}

func (c *cursor) buffers() []Buffer {
	n := c.count(bufferLen)
	if n == 0 {
		return nil
	}
	out := make([]Buffer, n)
	for i := range out {
		v := &out[i]
		v.ID, v.Current = c.buffer(), c.boolean()
		for l := range v.Lanes {
			v.Lanes[l] = Bounds{First: c.u64(), Last: c.u64()}
		}
	}
	return out
}

func putBuffers(b []byte, vs []Buffer) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(vs)))
	for _, v := range vs {
		b = v.append(b)
	}
	return b
}

// BufferState is what the cloud knows of a buffer that it was offered.
type BufferState uint8

const (
	// BufferKnown has marks: some of it is durable.
	BufferKnown BufferState = iota
	// BufferNew was never seen, none of it is durable.
	BufferNew
	// BufferRetired is durable completely; the gateway deletes it.
	BufferRetired
	// BufferAside may have been delivered and forgotten; it must not be sent.
	BufferAside
)

// Mark is the last sequence of one lane of a buffer that is durable in one
// partition. A partition without a mark has none of it.
type Mark struct {
	Buffer    weir.BufferID
	Lane      weir.Lane
	Topic     weir.TopicID
	Partition int32
	Last      uint64
}

const markLen = 12 + 1 + 16 + 4 + 8

// Range is a run of sequences, both ends inclusive.
type Range struct{ First, Last uint64 }

// Row is how a lane's records of a topic are mapped from sequence From on: to
// Partitions partitions.
type Row struct {
	Partitions int32
	From       uint64
}

const rowLen = 4 + 8

func (r Row) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(r.Partitions))
	return binary.BigEndian.AppendUint64(b, r.From)
}

func (c *cursor) row() Row { return Row{Partitions: c.partition(), From: c.u64()} }

// maps says whether r can have given the record at seq this partition.
func (r Row) maps(partition int32, seq uint64) bool {
	return partition < r.Partitions && r.From > 0 && r.From <= seq
}

// MapRow is a row that belongs to one lane of a buffer and one topic.
type MapRow struct {
	Buffer weir.BufferID
	Lane   weir.Lane
	Topic  weir.TopicID
	Name   string // of the topic
	Row
}

const mapRowLen = 12 + 1 + 16 + rowLen + 2
