package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

const bufferLen = 12 + 1 + weir.Lanes*16

func putBuffer(b []byte, v weir.Buffer) []byte {
	b = append(b, v.ID[:]...)
	b = putBool(b, v.Current)
	for _, l := range v.Lanes {
		b = binary.BigEndian.AppendUint64(b, l.First)
		b = binary.BigEndian.AppendUint64(b, l.Last)
	}
	return b
}

func (c *decoder) buffers() []weir.Buffer {
	n := c.count(bufferLen)
	if n == 0 {
		return nil
	}
	out := make([]weir.Buffer, n)
	for i := range out {
		v := &out[i]
		v.ID, v.Current = c.buffer(), c.boolean()
		for l := range v.Lanes {
			v.Lanes[l] = weir.Bounds{First: c.Uint64(), Last: c.Uint64()}
		}
	}
	return out
}

func putBuffers(b []byte, vs []weir.Buffer) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(vs)))
	for _, v := range vs {
		b = putBuffer(b, v)
	}
	return b
}

// putStream appends the lane of a buffer, and the partition that a part of it goes to.
func putStream(b []byte, buffer weir.BufferID, lane weir.Lane, topic weir.TopicID, partition int32) []byte {
	b = append(b, buffer[:]...)
	b = append(b, byte(lane))
	b = append(b, topic[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(partition))
}

const markLen = 12 + 1 + 16 + 4 + 8

// Range is a run of sequences, both ends inclusive.
type Range struct{ First, Last uint64 }

const rowLen = 4 + 8

func putRow(b []byte, r weir.Row) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(r.Partitions))
	return binary.BigEndian.AppendUint64(b, r.From)
}

func (c *decoder) row() weir.Row { return weir.Row{Partitions: c.partition(), From: c.Uint64()} }

const mapRowLen = 12 + 1 + 16 + rowLen + 2
