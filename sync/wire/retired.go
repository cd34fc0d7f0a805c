package wire

import "github.com/weirmq/weir/storage/weir"

// Retired answers a Retire once the tombstone is durable. Only then does the
// gateway delete the buffer.
type Retired struct {
	small
	Buffer weir.BufferID
}

func (*Retired) Type() Type { return TypeRetired }

func (f *Retired) encode(b []byte) []byte { return append(b, f.Buffer[:]...) }

func (f *Retired) decode(c *decoder) { f.Buffer = c.buffer() }
