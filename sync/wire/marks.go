package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// MaxMarks is how many marks one Marks frame carries, MaxRows how many rows.
const (
	MaxMarks = 1000
	MaxRows  = 200
)

// OfferedBuffer is a buffer that was offered and what the cloud knows of it.
type OfferedBuffer struct {
	ID    weir.BufferID
	State weir.BufferState

	// Reached is the highest sequence of each lane that ever became durable, even if
	// its topic is gone. If a gateway has freed more than that, the cloud has gone back
	// to an older state: its bucket was restored.
	Reached [weir.Lanes]uint64
}

const offeredLen = 12 + 1 + weir.Lanes*8

// Marks says, for the buffers of a Hello or an Offer, what the cloud knows of them and
// which sequences are durable. It has durable marks only: if a gateway started behind a
// mark that was still in flight and the node died, the records below that mark would be
// lost. A list that is too long for one frame is continued in the next; the last one
// has Final set.
//
// Rows are the newest rows by which something of a buffer became durable. A gateway may
// have lost them, because its card was replaced by an old image or its table was
// damaged. Without them it would send a durable record to another partition than
// before.
type Marks struct {
	small
	Buffers []OfferedBuffer
	Marks   []weir.Mark
	Rows    []weir.MapRow
	Final   bool
}

func (*Marks) Type() Type { return TypeMarks }

func (f *Marks) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Buffers)))
	for _, v := range f.Buffers {
		b = append(b, v.ID[:]...)
		b = append(b, byte(v.State))
		for _, reached := range v.Reached {
			b = binary.BigEndian.AppendUint64(b, reached)
		}
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Marks)))
	for _, m := range f.Marks {
		b = putStream(b, m.Buffer, m.Lane, m.Topic, m.Partition)
		b = binary.BigEndian.AppendUint64(b, m.Last)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Rows)))
	for _, r := range f.Rows {
		b = append(b, r.Buffer[:]...)
		b = append(b, byte(r.Lane))
		b = append(b, r.Topic[:]...)
		b = putRow(b, r.Row)
		b = putString(b, r.Name)
	}
	return putBool(b, f.Final)
}

func (f *Marks) decode(c *decoder) {
	if n := c.count(offeredLen); n > 0 {
		f.Buffers = make([]OfferedBuffer, n)
	}
	for i := range f.Buffers {
		v := &f.Buffers[i]
		v.ID, v.State = c.buffer(), weir.BufferState(c.Byte())
		for l := range v.Reached {
			v.Reached[l] = c.Uint64()
		}
		if !v.State.Valid() {
			c.fail("unknown buffer state")
		}
	}
	if n := c.count(markLen); n > 0 {
		f.Marks = make([]weir.Mark, n)
	}
	for i := range f.Marks {
		f.Marks[i] = weir.Mark{Buffer: c.buffer(), Lane: c.lane(), Topic: c.topic(), Partition: c.partition(), Last: c.Uint64()}
	}
	if n := c.count(mapRowLen); n > 0 {
		f.Rows = make([]weir.MapRow, n)
	}
	for i := range f.Rows {
		f.Rows[i] = weir.MapRow{Buffer: c.buffer(), Lane: c.lane(), Topic: c.topic(), Row: c.row(), Name: c.str()}
	}
	f.Final = c.boolean()
}
