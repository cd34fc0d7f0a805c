package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// Topic answers a Resolve. The cloud may also send it without a question, when a topic
// that the gateway resolved has changed.
type Topic struct {
	small
	Name       string
	Reason     Reason // ReasonNone: what follows is valid
	ID         weir.TopicID
	Partitions int32
	Text       string // for people, when refused
}

func (*Topic) Type() Type { return TypeTopic }

func (f *Topic) encode(b []byte) []byte {
	b = putString(b, f.Name)
	b = append(b, byte(f.Reason))
	b = append(b, f.ID[:]...)
	b = binary.BigEndian.AppendUint32(b, uint32(f.Partitions))
	return putString(b, f.Text)
}

func (f *Topic) decode(c *decoder) {
	f.Name = c.str()
	f.Reason = c.reason()
	f.ID = c.topic()
	f.Partitions = c.partition()
	f.Text = c.str()
	if f.Reason == ReasonNone && f.Partitions == 0 {
		c.fail("topic without partitions")
	}
}
