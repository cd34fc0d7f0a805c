//go:build weirtest

package check

import (
	"context"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// Spoiler changes what a log says before Check compares it with what lies at rest.
type Spoiler func(*state.State)

// Problems returns what Check then finds in shard 0.
func (spoil Spoiler) Problems(ctx context.Context, b storage.Bucket) ([]string, error) {
	a := &auditor{bucket: b}
	a.begin(state.Empty(), journal.Position{})
	if _, err := journal.Replay(ctx, journal.Options{Bucket: b}, a); err != nil {
		return nil, err
	}
	spoil(a.state)
	err := a.placement(ctx)
	return a.report.Problems, err
}
