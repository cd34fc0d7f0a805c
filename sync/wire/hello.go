package wire

import (
	"encoding/binary"
	"github.com/weirmq/weir/storage/weir"
)

// MaxBuffers is how many buffers a gateway names in one Hello or Offer.
const MaxBuffers = 1000

// Hello is the gateway's first frame on the control stream. It names every
// buffer that the gateway holds, oldest first, up to MaxBuffers; an Offer names
// more of them later.
type Hello struct {
	small
	Gateway  string   // must be the name in the client certificate
	Boot     [16]byte // random, new at every start of the process
	Software string   // for people
	Features uint64   // a feature is used if both ends have its bit: see FeatureStatus
	Buffers  []weir.Buffer
}

func (*Hello) Type() Type { return TypeHello }

func (f *Hello) encode(b []byte) []byte {
	b = putString(b, f.Gateway)
	b = append(b, f.Boot[:]...)
	b = putString(b, f.Software)
	b = binary.BigEndian.AppendUint64(b, f.Features)
	return putBuffers(b, f.Buffers)
}

func (f *Hello) decode(c *decoder) {
	f.Gateway = c.str()
	copy(f.Boot[:], c.Take(uint64(len(f.Boot))))
	f.Software = c.str()
	f.Features = c.Uint64()
	f.Buffers = c.buffers()
}
