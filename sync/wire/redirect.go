package wire

// Redirect says that another node is the owner; the session ends with it.
type Redirect struct {
	small
	Addr string // host:port
}

func (*Redirect) Type() Type { return TypeRedirect }

func (f *Redirect) encode(b []byte) []byte { return putString(b, f.Addr) }

func (f *Redirect) decode(c *decoder) { f.Addr = c.str() }
