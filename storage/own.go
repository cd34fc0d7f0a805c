package storage

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/pause"
)

// CreateOwn creates an object whose body no other writer has. After an unknown outcome
// it creates the same bytes again until the outcome is known: a read that finds nothing
// would prove nothing, because the object may still arrive. If the name is taken it
// compares, so that it finds the object of an attempt whose answer was lost.
//
// On nil the object is durable. Errors: ErrExists when the name is taken by another
// object; ErrUnknown when ctx or the bucket ended before the outcome was known; any
// other error means that nothing happened.
func CreateOwn(ctx context.Context, b Bucket, key string, body []byte) error {
	unknown := false
	for wait := 50 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := b.Create(ctx, key, body)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, ErrExists):
			return sameBody(ctx, b, key, body)
		case !errors.Is(err, ErrUnknown):
			if unknown {
				err = fmt.Errorf("%w: %w", ErrUnknown, err)
			}
			return err
		}
		unknown = true
		if pause.For(ctx, wait) != nil {
			return err
		}
	}
}

// sameBody returns nil if the object under key is body, and ErrExists if it is another.
func sameBody(ctx context.Context, b Bucket, key string, body []byte) error {
	there, err := b.Get(ctx, key, 0, -1)
	if err != nil {
		return fmt.Errorf("%w: read the object that has the name: %w", ErrUnknown, err)
	}
	if !bytes.Equal(there, body) {
		return ErrExists
	}
	return nil
}
