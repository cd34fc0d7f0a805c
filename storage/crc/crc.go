// Package crc is the CRC32C (Castagnoli), the checksum of everything that Weir keeps and
// sends.
package crc

import (
	"hash"
	"hash/crc32"
)

// castagnoli is never changed.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Sum returns the CRC of p.
func Sum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// Update returns the CRC of bytes whose CRC is sum, followed by p.
func Update(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }

// New returns a hash of what is written to it.
func New() hash.Hash32 { return crc32.New(castagnoli) }

// The CRC of two adjacent byte ranges can be computed from the CRCs of both: it is a
// remainder in a ring of polynomials over GF(2), so appending bytes to a range multiplies
// its CRC by a power of x. Data that is copied into a larger object is therefore summed
// only once, when it is verified.

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

// Join returns the CRC of two adjacent byte ranges, given the CRC of each; size is the
// length of the second range in bytes.
func Join(first, second uint32, size int) uint32 {
	for i := 0; size > 0; i, size = i+1, size>>1 {
		if size&1 != 0 {
			first = multiply(powers[i], first)
		}
	}
	return first ^ second
}
