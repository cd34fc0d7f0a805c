package wire

import "encoding/binary"

// Ping asks for a sign of life and shows how far behind the gateway is.
type Ping struct {
	small
	Records uint64 // buffered and not yet durable in the cloud
	Bytes   uint64 // of disk that the local log takes
	Age     uint64 // of the oldest of them, milliseconds
}

func (*Ping) Type() Type { return TypePing }

func (f *Ping) encode(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, f.Records)
	b = binary.BigEndian.AppendUint64(b, f.Bytes)
	return binary.BigEndian.AppendUint64(b, f.Age)
}

func (f *Ping) decode(c *decoder) { f.Records, f.Bytes, f.Age = c.Uint64(), c.Uint64(), c.Uint64() }
