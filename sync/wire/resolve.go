package wire

// Resolve asks for the id and the partition count of a topic. The cloud creates the
// topic if there is none and the gateway may have it. A Topic answers it.
type Resolve struct {
	small
	Name string
}

func (*Resolve) Type() Type { return TypeResolve }

func (f *Resolve) encode(b []byte) []byte { return putString(b, f.Name) }

func (f *Resolve) decode(c *decoder) { f.Name = c.str() }
