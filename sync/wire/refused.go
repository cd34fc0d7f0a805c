package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// Refused says that one Append or Gap was not taken. Mark is the partition's durable
// mark, read when everything that was in flight there is durable or has failed. So
// whatever was sent beyond it in this round will never become durable by itself. The
// gateway continues from Mark in a new round.
type Refused struct {
	small
	Buffer    weir.BufferID
	Lane      weir.Lane
	Topic     weir.TopicID
	Partition int32
	Round     uint32 // of the refused frame, like First and Last
	First     uint64
	Last      uint64
	Mark      uint64
	Reason    Reason
	Text      string
}

func (*Refused) Type() Type { return TypeRefused }

func (f *Refused) encode(b []byte) []byte {
	b = putStream(b, f.Buffer, f.Lane, f.Topic, f.Partition)
	b = binary.BigEndian.AppendUint32(b, f.Round)
	b = binary.BigEndian.AppendUint64(b, f.First)
	b = binary.BigEndian.AppendUint64(b, f.Last)
	b = binary.BigEndian.AppendUint64(b, f.Mark)
	b = append(b, byte(f.Reason))
	return putString(b, f.Text)
}

func (f *Refused) decode(c *decoder) {
	f.Buffer, f.Lane, f.Topic, f.Partition = c.buffer(), c.lane(), c.topic(), c.partition()
	f.Round, f.First, f.Last, f.Mark = c.Uint32(), c.Uint64(), c.Uint64(), c.Uint64()
	f.Reason = c.reason()
	f.Text = c.str()
	if f.Reason == ReasonNone {
		c.fail("refused without a reason")
	}
}
