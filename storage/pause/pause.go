// Package pause waits for some time, unless there is no use in waiting any more.
package pause

import (
	"context"
	"time"
)

// For waits for d, or until ctx ends. It returns ctx's error if that was first.
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
