package storage

import (
	"context"

	"github.com/weirmq/weir/storage/crc"
)

type sumKey struct{}

// summed is a body with a known checksum.
type summed struct {
	body []byte
	sum  uint32
}

// WithSum returns a context for the Create of body, whose CRC32C is sum: a store that
// keeps or sends a checksum need not compute it. sum must be exact: a store takes an
// object with a wrong sum for a torn one, and drops it.
func WithSum(ctx context.Context, body []byte, sum uint32) context.Context {
	if checkSums && crc.Sum(body) != sum {
		panic("storage: the sum of a body is not its CRC32C")
	}
	return context.WithValue(ctx, sumKey{}, summed{body, sum})
}

// Sum returns the CRC32C of body: the sum given to WithSum for the same memory, or else
// computed.
func Sum(ctx context.Context, body []byte) uint32 {
	known, _ := ctx.Value(sumKey{}).(summed)
	if len(body) > 0 && len(known.body) == len(body) && &known.body[0] == &body[0] {
		return known.sum
	}
	return crc.Sum(body)
}
