package wire

import "github.com/weirmq/weir/storage/weir"

// Offer names buffers that the Hello did not: those opened since, and those for which
// the Hello had no room. Each is answered by Marks, in the order of the Offers.
type Offer struct {
	small
	Buffers []weir.Buffer
}

func (*Offer) Type() Type { return TypeOffer }

func (f *Offer) encode(b []byte) []byte { return putBuffers(b, f.Buffers) }

func (f *Offer) decode(c *decoder) { f.Buffers = c.buffers() }
