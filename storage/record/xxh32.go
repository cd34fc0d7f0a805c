package record

import (
	"encoding/binary"
	"math/bits"
)

// xxh32 is the checksum of the LZ4 frame format: XXH32 with seed 0
// (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md).
func xxh32(p []byte) uint32 {
	const (
		prime1 uint32 = 0x9e3779b1
		prime2 uint32 = 0x85ebca77
		prime3 uint32 = 0xc2b2ae3d
		prime4 uint32 = 0x27d4eb2f
		prime5 uint32 = 0x165667b1
	)
	round := func(acc, lane uint32) uint32 {
		return bits.RotateLeft32(acc+lane*prime2, 13) * prime1
	}
	le := binary.LittleEndian
	h, size := prime5, uint32(len(p))
	if len(p) >= 16 {
		zero := uint32(0) // a variable: the sums below wrap
		a, b, c, d := zero+prime1+prime2, prime2, zero, zero-prime1
		for ; len(p) >= 16; p = p[16:] {
			a = round(a, le.Uint32(p))
			b = round(b, le.Uint32(p[4:]))
			c = round(c, le.Uint32(p[8:]))
			d = round(d, le.Uint32(p[12:]))
		}
		h = bits.RotateLeft32(a, 1) + bits.RotateLeft32(b, 7) + bits.RotateLeft32(c, 12) + bits.RotateLeft32(d, 18)
	}
	h += size
	for ; len(p) >= 4; p = p[4:] {
		h = bits.RotateLeft32(h+le.Uint32(p)*prime3, 17) * prime4
	}
	for _, c := range p {
		h = bits.RotateLeft32(h+uint32(c)*prime5, 11) * prime1
	}
	h = (h ^ h>>15) * prime2
	h = (h ^ h>>13) * prime3
	return h ^ h>>16
}
