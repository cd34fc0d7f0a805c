package wire

import "encoding/binary"

// Goodbye is the last frame of a session.
type Goodbye struct {
	small
	Code Code
	Text string
}

func (*Goodbye) Type() Type { return TypeGoodbye }

func (f *Goodbye) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(f.Code))
	return putString(b, f.Text)
}

func (f *Goodbye) decode(c *decoder) {
	f.Code = Code(c.Uint16())
	f.Text = c.str()
}
