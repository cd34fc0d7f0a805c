package storage

import (
	"context"
	"fmt"
)

// Limit lets at most n calls into b at the same time (n > 0); others wait for their
// turn. A call whose context ends while it waits does nothing.
func Limit(b Bucket, n int) Bucket {
	return &limited{b, make(chan struct{}, n)}
}

type limited struct {
	below Bucket
	slots chan struct{}
}

func (l *limited) Create(ctx context.Context, key string, body []byte) error {
	if err := l.enter(ctx); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	defer l.leave()
	return l.below.Create(ctx, key, body)
}

func (l *limited) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := l.enter(ctx); err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	defer l.leave()
	return l.below.Get(ctx, key, off, n)
}

func (l *limited) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := l.enter(ctx); err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, err)
	}
	defer l.leave()
	return l.below.List(ctx, prefix, after, max)
}

func (l *limited) Delete(ctx context.Context, keys ...string) error {
	if err := l.enter(ctx); err != nil {
		return fmt.Errorf("delete %d keys: %w", len(keys), err)
	}
	defer l.leave()
	return l.below.Delete(ctx, keys...)
}

func (l *limited) Close() error { return Close(l.below) }

func (l *limited) enter(ctx context.Context) error {
	select {
	case l.slots <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *limited) leave() { <-l.slots }

func (l *limited) Unwrap() Bucket { return l.below }
