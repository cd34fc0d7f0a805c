package storage

import (
	"context"
	"errors"
	"time"

	"github.com/weirmq/weir/storage/pause"
)

// Until repeats a call until it succeeds, ctx ends, or the error is final, which is an
// answer, or ErrDamaged, which is permanent. final may be nil.
func Until(ctx context.Context, call func() error, final error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := call()
		if err == nil || final != nil && errors.Is(err, final) || errors.Is(err, ErrDamaged) || ctx.Err() != nil {
			return err
		}
		_ = pause.For(ctx, wait)
	}
}
