package wire

import "encoding/binary"

// Welcome answers a Hello. One or more Marks follow it at once.
type Welcome struct {
	small
	Cluster  string // id of the cluster; the gateway logs it if it changes
	Node     string // for people
	Time     int64  // the node's clock, Unix milliseconds
	Features uint64 // those of the Hello that the node will use
	MaxBatch uint32 // bytes of one record batch; larger ones are refused
	Window   uint32 // bytes that a lane may have un-acked; 0: the gateway decides
}

func (*Welcome) Type() Type { return TypeWelcome }

func (f *Welcome) encode(b []byte) []byte {
	b = putString(b, f.Cluster)
	b = putString(b, f.Node)
	b = binary.BigEndian.AppendUint64(b, uint64(f.Time))
	b = binary.BigEndian.AppendUint64(b, f.Features)
	b = binary.BigEndian.AppendUint32(b, f.MaxBatch)
	return binary.BigEndian.AppendUint32(b, f.Window)
}

func (f *Welcome) decode(c *decoder) {
	f.Cluster = c.str()
	f.Node = c.str()
	f.Time = int64(c.Uint64())
	f.Features = c.Uint64()
	f.MaxBatch = c.Uint32()
	f.Window = c.Uint32()
}
