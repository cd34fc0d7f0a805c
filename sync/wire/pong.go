package wire

import "encoding/binary"

// Pong answers a Ping.
type Pong struct {
	small
	Time int64 // the node's clock, Unix milliseconds
}

func (*Pong) Type() Type { return TypePong }

func (f *Pong) encode(b []byte) []byte { return binary.BigEndian.AppendUint64(b, uint64(f.Time)) }

func (f *Pong) decode(c *decoder) { f.Time = int64(c.Uint64()) }
