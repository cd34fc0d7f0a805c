package wire

import "github.com/weirmq/weir/storage/weir"

// Retire says that a buffer is durable completely and will not grow. The cloud replaces
// its marks by a tombstone.
type Retire struct {
	small
	Buffer weir.BufferID
}

func (*Retire) Type() Type { return TypeRetire }

func (f *Retire) encode(b []byte) []byte { return append(b, f.Buffer[:]...) }

func (f *Retire) decode(c *decoder) { f.Buffer = c.buffer() }
