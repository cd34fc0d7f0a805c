package record

import (
	"encoding/binary"
	"math/bits"
)

// xxh32 is the checksum of the LZ4 frame format: XXH32 with seed 0
// (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
func xxh32(p []byte) uint32 {
	var d xxh32Digest
	d.write(p)
	return d.sum()
}

const (
	xxhPrime1 uint32 = 0x9e3779b1
	xxhPrime2 uint32 = 0x85ebca77
	xxhPrime3 uint32 = 0xc2b2ae3d
	xxhPrime4 uint32 = 0x27d4eb2f
	xxhPrime5 uint32 = 0x165667b1
)

// xxh32Digest is the hash of bytes that come in pieces. The zero value is that of no bytes.
type xxh32Digest struct {
	lanes [4]uint32 // of whole stripes, once there was one
	size  uint32    // bytes in all, modulo 2^32
	long  bool      // there was a whole stripe
	rest  [16]byte  // less than a stripe
	n     int       // bytes of rest
}

func (d *xxh32Digest) write(p []byte) {
	d.size += uint32(len(p))
	if d.n > 0 {
		n := copy(d.rest[d.n:], p)
		d.n += n
		if p = p[n:]; d.n < len(d.rest) {
			return
		}
		d.stripes(d.rest[:])
		d.n = 0
	}
	whole := len(p) &^ 15
	d.stripes(p[:whole])
	d.n = copy(d.rest[:], p[whole:])
}

// stripes takes whole ones, of 16 bytes.
func (d *xxh32Digest) stripes(p []byte) {
	if len(p) == 0 {
		return
	}
	if !d.long {
		d.long = true
		zero := uint32(0) // a variable: the sums wrap
		d.lanes = [4]uint32{zero + xxhPrime1 + xxhPrime2, xxhPrime2, zero, zero - xxhPrime1}
	}
	round := func(acc, lane uint32) uint32 {
		return bits.RotateLeft32(acc+lane*xxhPrime2, 13) * xxhPrime1
	}
	le := binary.LittleEndian
	a, b, c, e := d.lanes[0], d.lanes[1], d.lanes[2], d.lanes[3]
	for ; len(p) >= 16; p = p[16:] {
		a = round(a, le.Uint32(p))
		b = round(b, le.Uint32(p[4:]))
		c = round(c, le.Uint32(p[8:]))
		e = round(e, le.Uint32(p[12:]))
	}
	d.lanes = [4]uint32{a, b, c, e}
}

func (d *xxh32Digest) sum() uint32 {
	h := xxhPrime5
	if d.long {
		h = bits.RotateLeft32(d.lanes[0], 1) + bits.RotateLeft32(d.lanes[1], 7) + bits.RotateLeft32(d.lanes[2], 12) + bits.RotateLeft32(d.lanes[3], 18)
	}
	h += d.size
	p := d.rest[:d.n]
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+binary.LittleEndian.Uint32(p)*xxhPrime3, 17) * xxhPrime4
	}
	for _, c := range p {
		h = bits.RotateLeft32(h+uint32(c)*xxhPrime5, 11) * xxhPrime1
	}
	h = (h ^ h>>15) * xxhPrime2
	h = (h ^ h>>13) * xxhPrime3
	return h ^ h>>16
}
