package record

import (
	"encoding/binary"
	"hash/crc32"
)

// The CRC32C of two adjacent byte ranges can be computed from the CRCs of both: CRC32C
// is a remainder in a ring of polynomials over GF(2), so appending bytes to a range
// multiplies its CRC by a power of x. Data that is copied into a larger object is
// therefore summed only once, when it is verified.

// worth is the size in bytes from which JoinCRC is cheaper than another pass.
const worth = 8 << 10

// powers[i] is x to the power of 8·2^i, in the bit order of the sums: the highest power
// of x is the lowest bit. Appending 2^i bytes to a range multiplies its CRC by it.
var powers = func() (p [32]uint32) {
	p[0] = 1 << (31 - 8)
	for i := range len(p) - 1 {
		p[i+1] = multiply(p[i], p[i])
	}
	return p
}()

// multiply returns the product of two polynomials modulo that of CRC32C.
func multiply(a, b uint32) (product uint32) {
	for ; a != 0; a <<= 1 {
		product ^= b & -(a >> 31)
		b = b>>1 ^ crc32.Castagnoli&-(b&1)
	}
	return product
}

// JoinCRC returns the CRC32C of two adjacent byte ranges, given the CRC of each; size
// is the length of the second range in bytes.
func JoinCRC(first, second uint32, size int) uint32 {
	for i := 0; size > 0; i, size = i+1, size>>1 {
		if size&1 != 0 {
			first = multiply(powers[i], first)
		}
	}
	return first ^ second
}

// ExtendCRC returns the CRC32C of a byte range, whose CRC is sum, followed by b. b must
// be a whole batch that has passed Verify: ExtendCRC uses the batch's own CRC and does
// not read its records again.
func ExtendCRC(sum uint32, b Batch) uint32 {
	if len(b) < worth {
		return crc32.Update(sum, castagnoli, b)
	}
	sum = crc32.Update(sum, castagnoli, b[:crcFrom])
	return JoinCRC(sum, binary.BigEndian.Uint32(b[atCRC:]), len(b)-crcFrom)
}
