package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/weirmq/weir/storage/pause"
)

// RetryOptions configure Retry. The zero value is usable.
type RetryOptions struct {
	Attempts int           // of one call, the first one included; 0 = 8
	First    time.Duration // the pause after the first attempt; it doubles from there; 0 = 100 ms
	Max      time.Duration // the longest pause; 0 = 5 s
	Timeout  time.Duration // of one attempt; 0 = 30 s
}

// Retry puts a time limit on every call of b, and repeats failed calls where that is
// safe: Get, List and Delete after any error except a final one (see final), Create
// only if nothing happened. The caller must resolve ErrUnknown from a Create: a second
// attempt could find the object of the first, and Retry cannot tell which attempt
// created it.
//
// A Delete that returns nil after a repetition may still have an earlier
// attempt under way. That matters only if the name is created again.
func Retry(b Bucket, o RetryOptions) Bucket {
	if o.Attempts <= 0 {
		o.Attempts = 8
	}
	if o.First <= 0 {
		o.First = 100 * time.Millisecond
	}
	if o.Max <= 0 {
		o.Max = 5 * time.Second
	}
	if o.Timeout <= 0 {
		o.Timeout = 30 * time.Second
	}
	return &retrying{b, o}
}

type retrying struct {
	below Bucket
	RetryOptions
}

func (r *retrying) Create(ctx context.Context, key string, body []byte) error {
	return r.do(ctx, func(ctx context.Context) (again bool, err error) {
		err = r.below.Create(ctx, key, body)
		return !errors.Is(err, ErrExists) && !errors.Is(err, ErrUnknown), err
	})
}

func (r *retrying) Get(ctx context.Context, key string, off, n int64) (body []byte, err error) {
	err = r.do(ctx, func(ctx context.Context) (again bool, err error) {
		body, err = r.below.Get(ctx, key, off, n)
		return true, err
	})
	return body, err
}

func (r *retrying) List(ctx context.Context, prefix, after string, max int) (keys []string, err error) {
	err = r.do(ctx, func(ctx context.Context) (again bool, err error) {
		keys, err = r.below.List(ctx, prefix, after, max)
		return true, err
	})
	return keys, err
}

// Delete remembers an unknown outcome: it stays unknown if a later attempt is refused.
func (r *retrying) Delete(ctx context.Context, keys ...string) error {
	unknown := false
	err := r.do(ctx, func(ctx context.Context) (again bool, err error) {
		err = r.below.Delete(ctx, keys...)
		unknown = unknown || errors.Is(err, ErrUnknown)
		return true, err
	})
	if err != nil && unknown && !errors.Is(err, ErrUnknown) {
		return fmt.Errorf("%w: %w", ErrUnknown, err)
	}
	return err
}

func (r *retrying) Close() error { return Close(r.below) }

// do calls op until it succeeds, returns a final error, or attempts or time are used
// up.
func (r *retrying) do(ctx context.Context, op func(context.Context) (again bool, err error)) error {
	wait := r.First
	for attempt := 1; ; attempt++ {
		again, err := r.try(ctx, op)
		if err == nil || !again || final(err) || attempt == r.Attempts {
			return err
		}
		// Half of the wait is random, so that calls that were refused together are not
		// repeated together.
		if pause.For(ctx, wait/2+rand.N(wait/2+1)) != nil {
			return err
		}
		wait = min(2*wait, r.Max)
	}
}

// final reports whether a repetition would return the same error.
func final(err error) bool {
	return errors.Is(err, ErrKey) || errors.Is(err, ErrDamaged) || errors.Is(err, fs.ErrNotExist) ||
		errors.Is(err, fs.ErrInvalid) || errors.Is(err, fs.ErrPermission)
}

func (r *retrying) try(ctx context.Context, op func(context.Context) (bool, error)) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, r.Timeout)
	defer cancel()
	return op(ctx)
}

func (r *retrying) Unwrap() Bucket { return r.below }
