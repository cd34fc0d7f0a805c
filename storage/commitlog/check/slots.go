package check

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// slot reads a slot that serves as a segment, and proves that each piece in it is as
// the log knows it.
func (a *auditor) slot(ctx context.Context, id state.SegmentID, all []state.Placed) error {
	object, found, err := a.object(ctx, id, all)
	if !found {
		return err
	}
	for i := range all {
		x := &all[i]
		if len(object) < int(x.At)+int(x.Size) {
			a.problem(fmt.Errorf("%w: it ends early", state.ErrCorrupt))
		} else if err := a.piece(x, object[x.At:][:x.Size]); err != nil {
			a.problem(state.Translate(err))
		}
	}
	return nil
}

// piece checks a piece in a slot. Run has verified its batches and that they lead from
// one end of the piece to the other.
func (a *auditor) piece(x *state.Placed, raw []byte) error {
	p := a.state.Partition(x.Key)
	leader := p.LeaderEpoch(int32(x.Segment.Epoch))
	if _, err := x.Ref(x.Key).Run(raw, leader); err != nil {
		return err
	}
	if int64(x.Records) != x.Next-x.Base {
		return fmt.Errorf("%w: %v has %d records, the log says %d", state.ErrCorrupt, x.Ref(x.Key), x.Next-x.Base, x.Records)
	}
	batches, _, err := state.CutRun(raw, x.Base, leader)
	if err != nil {
		return err
	}
	if x.Segment.Position().Before(a.began) { // the replay has read the others
		a.report.Bytes += int64(x.Size)
		for _, b := range batches {
			a.batch(x.Key, b, b.VerifyRecords(state.MaxInflated))
		}
	}
	a.compareBatches(x.Key, batches)
	return nil
}

// slotsThere returns an error if a slot before the checkpoint is missing and the log has
// records in it. The slots behind the checkpoint have been read.
func slotsThere(ctx context.Context, b storage.Bucket, shard uint32, s *state.State, began journal.Position) error {
	var wanted []journal.Position
	s.Slots.Each(func(pos journal.Position) {
		if pos.Before(began) {
			wanted = append(wanted, pos)
		}
	})
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			for i := 0; i < len(p.Index) && p.Index[i].Position().Before(began); i++ {
				wanted = append(wanted, p.Index[i].Position())
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	slices.SortFunc(wanted, comparePositions)
	wanted = slices.Compact(wanted)
	var mu sync.Mutex
	var missing []string // guarded by mu
	var errs error       // guarded by mu
	var wg sync.WaitGroup
	for part := range slices.Chunk(wanted, max(leastListed, (len(wanted)+listers-1)/listers)) {
		wg.Go(func() {
			gone, err := unlisted(ctx, b, shard, part)
			mu.Lock()
			defer mu.Unlock()
			missing, errs = append(missing, gone...), errors.Join(errs, err)
		})
	}
	if wg.Wait(); errs != nil {
		return errs
	}
	slices.Sort(missing)
	for _, key := range missing {
		if missing, err := gone(ctx, b, key); err != nil {
			return err
		} else if missing {
			return journal.Missing(key, "the log has records in it")
		}
	}
	return nil
}

// A List of a terabyte in slots takes a thousand requests on S3: so many run at once, but
// none for fewer slots than leastListed.
const (
	listers     = 8
	leastListed = 10_000
)

// unlisted returns the keys of the slots, which are in order, that a List does not show.
func unlisted(ctx context.Context, b storage.Bucket, shard uint32, wanted []journal.Position) (missing []string, err error) {
	// Both the list and wanted are in order.
	pass := func(key string) {
		for len(wanted) > 0 {
			next := journal.SlotKey(shard, wanted[0])
			if next > key {
				return
			}
			if wanted = wanted[1:]; next < key {
				missing = append(missing, next)
			}
		}
	}
	after := journal.SlotKey(shard, journal.Position{Epoch: wanted[0].Epoch, Slot: wanted[0].Slot - 1})
	err = listAll(ctx, b, journal.SlotPrefix(shard), after, func(key string) bool {
		pass(key)
		return len(wanted) > 0
	})
	for _, pos := range wanted {
		missing = append(missing, journal.SlotKey(shard, pos))
	}
	return missing, err
}

func comparePositions(a, b journal.Position) int {
	switch {
	case a.Before(b):
		return -1
	case b.Before(a):
		return 1
	}
	return 0
}
