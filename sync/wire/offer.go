package wire

import "github.com/weirmq/weir/storage/weir"

// Offer names buffers that the Hello did not: those that were opened since, and
// those that had no room in it. Marks answer it, Offers in their order.
type Offer struct {
	small
	Buffers []weir.Buffer
}

func (*Offer) Type() Type { return TypeOffer }

func (f *Offer) encode(b []byte) []byte { return putBuffers(b, f.Buffers) }

func (f *Offer) decode(c *decoder) { f.Buffers = c.buffers() }
