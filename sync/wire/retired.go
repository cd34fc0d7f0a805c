package wire

// Retired answers a Retire once the tombstone is durable. Only then does the
// gateway delete the buffer.
type Retired struct {
	small
	Buffer BufferID
}

func (*Retired) Type() Type { return TypeRetired }

func (f *Retired) encode(b []byte) []byte { return append(b, f.Buffer[:]...) }

func (f *Retired) decode(c *cursor) { f.Buffer = c.buffer() }
