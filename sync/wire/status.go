package wire

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// FeatureStatus is the bit of Features for Status frames.
const FeatureStatus uint64 = 1 << 0

// MaxFigures is the most figures that one Status has.
const MaxFigures = 64

// FigureKey says what a figure of a Status is. A receiver ignores keys that it does not
// know.
type FigureKey uint16

const (
	FigureStarted FigureKey = 1 // when the gateway's process began, Unix milliseconds; its counts begin then
	FigureRefused FigureKey = 2 // messages of devices that were refused for lack of room, since then
	FigureDead    FigureKey = 3 // dead letters that the gateway keeps
	FigureQuota   FigureKey = 4 // bytes that its buffer may take
	FigureFree    FigureKey = 5 // bytes that its disk has left
	FigureBuffers FigureKey = 6 // buffers that it holds, the current one included
	figureLane    FigureKey = 16
)

// FigureRecords is how many records a lane has that are not durable in the cloud.
func FigureRecords(l weir.Lane) FigureKey { return figureLane + 2*FigureKey(l) }

// FigureOldest is the timestamp of the oldest of them, Unix milliseconds.
func FigureOldest(l weir.Lane) FigureKey { return figureLane + 2*FigureKey(l) + 1 }

// Figure is one number that a gateway reports about itself.
type Figure struct {
	Key   FigureKey
	Value uint64
}

const figureLen = 2 + 8

// Status reports how a gateway is doing, for people. It is sent only if both ends have
// FeatureStatus, and no rule of the protocol depends on it.
type Status struct {
	small
	Figures []Figure // by ascending keys
}

func (*Status) Type() Type { return TypeStatus }

// Figure returns the figure with a key; false if the gateway does not report it.
func (f *Status) Figure(key FigureKey) (uint64, bool) {
	if f == nil {
		return 0, false
	}
	for _, x := range f.Figures {
		if x.Key == key {
			return x.Value, true
		}
	}
	return 0, false
}

func (f *Status) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(f.Figures)))
	for _, x := range f.Figures {
		b = binary.BigEndian.AppendUint16(b, uint16(x.Key))
		b = binary.BigEndian.AppendUint64(b, x.Value)
	}
	return b
}

func (f *Status) decode(c *decoder) {
	n := c.count(figureLen)
	if n > MaxFigures {
		c.fail("too many figures")
		return
	}
	for range n {
		x := Figure{FigureKey(c.Uint16()), c.Uint64()}
		if last := len(f.Figures) - 1; last >= 0 && x.Key <= f.Figures[last].Key {
			c.fail("figures out of order")
			return
		}
		f.Figures = append(f.Figures, x)
	}
}
