package storage

import (
	"context"
	"hash/crc32"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type sumKey struct{}

// summed is a body of which somebody knows the sum.
type summed struct {
	body []byte
	sum  uint32
}

// WithSum returns a context for the Create of body, whose CRC32C is sum: a store that
// keeps or sends one need not read the body for it. It must be exact: a store takes an
// object whose sum is wrong for one that was cut off, and drops it.
func WithSum(ctx context.Context, body []byte, sum uint32) context.Context {
	if checkSums && crc32.Checksum(body, castagnoli) != sum {
		panic("storage: the sum of a body is not its CRC32C")
	}
	return context.WithValue(ctx, sumKey{}, summed{body, sum})
}

// Sum returns the CRC32C of body: what WithSum said of this very memory, or else
// calculated.
func Sum(ctx context.Context, body []byte) uint32 {
	known, _ := ctx.Value(sumKey{}).(summed)
	if len(body) > 0 && len(known.body) == len(body) && &known.body[0] == &body[0] {
		return known.sum
	}
	return crc32.Checksum(body, castagnoli)
}
