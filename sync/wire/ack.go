package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// Ack says that everything of one lane of a buffer up to Last that was handed
// to a partition is durable in the bucket. It is cumulative, and it is sent on
// the stream of its lane.
type Ack struct {
	small
	Buffer    weir.BufferID
	Lane      weir.Lane
	Topic     weir.TopicID
	Partition int32
	Last      uint64
}

func (*Ack) Type() Type { return TypeAck }

func (f *Ack) encode(b []byte) []byte {
	b = putStream(b, f.Buffer, f.Lane, f.Topic, f.Partition)
	return binary.BigEndian.AppendUint64(b, f.Last)
}

func (f *Ack) decode(c *decoder) {
	f.Buffer, f.Lane, f.Topic, f.Partition, f.Last = c.buffer(), c.lane(), c.topic(), c.partition(), c.Uint64()
}
