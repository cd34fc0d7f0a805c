package shard

import (
	"context"
	"errors"
	"sync"

	"github.com/weirmq/weir/storage/weir"
)

// slicer is a service that has things in slices.
type slicer interface {
	CloseSlices(context.Context, weir.SliceSet) error
	OpenSlices(weir.SliceSet)
}

func (s *Shard) slicers() []slicer { return []slicer{s.Groups, s.Shares, s.Txns, s.Parts, s.Queues} }

// Settle keeps transactions from beginning, and returns nil when none is ongoing. The shard
// has data. Errors: ctx's. Unsettle ends it, also after an error.
func (s *Shard) Settle(ctx context.Context) error {
	return all(func(settle func(context.Context) error) error { return settle(ctx) }, s.Txns.Settle, s.Parts.Settle)
}

// Unsettle lets transactions begin.
func (s *Shard) Unsettle() {
	s.Txns.Unsettle()
	s.Parts.Unsettle()
}

// CloseSlices makes the machines refuse what is about those slices, which move to another
// shard, and returns nil when nothing of that is on its way. The transactions have settled.
// Errors: ctx's; then they are closed all the same. OpenSlices undoes it.
func (s *Shard) CloseSlices(ctx context.Context, set weir.SliceSet) error {
	return all(func(m slicer) error { return m.CloseSlices(ctx, set) }, s.slicers()...)
}

// OpenSlices undoes CloseSlices: the slices have not moved.
func (s *Shard) OpenSlices(set weir.SliceSet) {
	for _, m := range s.slicers() {
		m.OpenSlices(set)
	}
}

// all calls do with all of some, at once.
func all[T any](do func(T) error, some ...T) error {
	errs := make([]error, len(some))
	var wg sync.WaitGroup
	for i, one := range some {
		wg.Go(func() { errs[i] = do(one) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
