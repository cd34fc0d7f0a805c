// Package pause sleeps until a time is over or a context ends.
package pause

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends. It returns ctx's error if ctx ended first.
func For(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
