package segment

import "encoding/binary"

// decoder takes fields off the front of p. Once something is missing or not in its one
// valid form, bad is set and everything that follows is zero, so it is enough to check
// bad at the end.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) take(n int) []byte {
	if d.bad || n > len(d.p) {
		d.bad = true
		return make([]byte, n)
	}
	p := d.p[:n]
	d.p = d.p[n:]
	return p
}

func (d *decoder) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }
func (d *decoder) u64() uint64 { return binary.BigEndian.Uint64(d.take(8)) }

// uvarint takes a number in its shortest form.
func (d *decoder) uvarint() uint64 {
	v, n := binary.Uvarint(d.p)
	if d.bad || n <= 0 || n > 1 && d.p[n-1] == 0 {
		d.bad = true
		return 0
	}
	d.p = d.p[n:]
	return v
}

// upTo takes a number of at most limit.
func (d *decoder) upTo(limit int64) int64 {
	v := d.uvarint()
	if v > uint64(limit) {
		d.bad = true
		return 0
	}
	return int64(v)
}

// varint takes a zigzag number.
func (d *decoder) varint() int64 {
	v := d.uvarint()
	return int64(v>>1) ^ -int64(v&1)
}
