package record

import (
	"encoding/binary"
	"hash/crc32"
)

// The sum of two stretches of bytes that lie one behind the other follows from the
// sums of both: CRC32C is a remainder in a ring of polynomials over GF(2), so
// that bytes behind a stretch multiply its sum by a power of x. What is copied into
// larger objects is summed once, when it is verified.

// worth is the size in bytes from which JoinCRC is cheaper than another pass.
const worth = 8 << 10

// powers[i] is x to the power of 8·2^i, in the bit order of the sums: the highest
// power of x is the lowest bit. It is what 2^i bytes behind a stretch multiply by.
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

// JoinCRC returns the CRC32C of two stretches of bytes, one behind the other, of
// which the sums are known; size is that of the second one in bytes.
func JoinCRC(first, second uint32, size int) uint32 {
	for i := 0; size > 0; i, size = i+1, size>>1 {
		if size&1 != 0 {
			first = multiply(powers[i], first)
		}
	}
	return first ^ second
}

// ExtendCRC returns the CRC32C of a stretch of which the sum is known with b behind
// it. b must be a whole batch that has passed Verify: its records are not read
// again, its own CRC says what they are.
func ExtendCRC(sum uint32, b Batch) uint32 {
	if len(b) < worth {
		return crc32.Update(sum, castagnoli, b)
	}
	sum = crc32.Update(sum, castagnoli, b[:crcFrom])
	return JoinCRC(sum, binary.BigEndian.Uint32(b[atCRC:]), len(b)-crcFrom)
}
