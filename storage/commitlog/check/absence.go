package check

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
)

// SegmentList has the segments that a List of the bucket has shown.
type SegmentList struct {
	IDs     map[state.SegmentID]bool
	strange []string // keys that are not keys of segments
}

// ListSegments lists the segments of a shard.
func ListSegments(ctx context.Context, b storage.Bucket, shard uint32) (SegmentList, error) {
	l := SegmentList{IDs: make(map[state.SegmentID]bool)}
	prefix := fmt.Sprintf("%04d/segment/", shard)
	err := listAll(ctx, b, prefix, "", func(key string) bool {
		e, n, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		epoch, eerr := strconv.ParseUint(e, 10, 64)
		number, nerr := strconv.ParseUint(n, 10, 64)
		if eerr != nil || nerr != nil || segment.Key(shard, epoch, number) != key {
			l.strange = append(l.strange, key)
		} else {
			l.IDs[state.SegmentID{Epoch: epoch, Number: number}] = true
		}
		return true
	})
	return l, err
}

// listAll calls each with the keys that begin with prefix and are greater than after,
// in order, until it returns false.
func listAll(ctx context.Context, b storage.Bucket, prefix, after string, each func(key string) bool) error {
	const page = 100_000 // a bucket in a folder reads the whole folder for each page
	for {
		var keys []string
		err := storage.Until(ctx, func() (err error) {
			keys, err = b.List(ctx, prefix, after, page)
			return err
		}, nil)
		if err != nil {
			return fmt.Errorf("list %s: %w", prefix, err)
		}
		for _, key := range keys {
			if after = key; !each(key) {
				return nil
			}
		}
		if len(keys) < page {
			return nil
		}
	}
}

// gone reports whether there is no object under key. A List may have begun before the
// object was stored.
func gone(ctx context.Context, b storage.Bucket, key string) (bool, error) {
	err := storage.Until(ctx, func() error {
		_, err := b.Get(ctx, key, 0, 1)
		return err
	}, fs.ErrNotExist)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// Listing is a List of segments that runs while the log is recovered.
type Listing struct {
	SegmentList
	bucket storage.Bucket
	shard  uint32
	Err    error
	done   chan struct{}     // closed when the list is complete or given up
	slots  *journal.Position // the slots of the log before it are there; nil: not looked
}

// StartListing begins to list the segments of a shard. It ends with ctx.
func StartListing(ctx context.Context, b storage.Bucket, shard uint32) *Listing {
	x := &Listing{bucket: b, shard: shard, done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.SegmentList, x.Err = ListSegments(ctx, b, shard)
	}()
	return x
}

// Wait returns when the list is complete or given up.
func (x *Listing) Wait() { <-x.done }

// Verify proves that all objects that a recovered log refers to exist. When it is called
// again for the same log, which has grown, it looks only for those that are new: a log
// never refers again to an object to which it did not refer any more.
func (x *Listing) Verify(ctx context.Context, s *state.State, r journal.Recovered) error {
	if x.Wait(); x.Err != nil {
		return x.Err
	}
	others := make(map[uint32]bool)
	for id, pieces := range s.Segments {
		if id.Other != 0 && !x.IDs[id] && !others[id.Other] {
			others[id.Other] = true
			if err := x.listOther(ctx, id.Other-1); err != nil {
				return err
			}
		}
		if x.IDs[id] {
			continue
		}
		key := id.Key(x.shard)
		if missing, err := gone(ctx, x.bucket, key); err != nil {
			return err
		} else if missing {
			return journal.Missing(key, fmt.Sprintf("the log has %d pieces of partitions in it", pieces))
		}
		x.IDs[id] = true
	}
	for id := range x.IDs {
		if id.Other != 0 {
			continue // the log of its own shard knows
		}
		// This node has not stored any in its epoch yet, and a later owner may have.
		if err := unknownEpoch(s, id, x.shard, r, r.End.Epoch+1); err != nil {
			return err
		}
	}
	if x.slots != nil && *x.slots == r.Checkpoint {
		return nil
	}
	if err := slotsThere(ctx, x.bucket, x.shard, s, r.Checkpoint); err != nil {
		return err
	}
	x.slots = &r.Checkpoint
	return nil
}

// listOther lists the segments of another shard, to which a log refers whose slices came
// from there.
func (x *Listing) listOther(ctx context.Context, shard uint32) error {
	list, err := ListSegments(ctx, x.bucket, shard)
	for id := range list.IDs {
		id.Other = shard + 1
		x.IDs[id] = true
	}
	return err
}

// unknownEpoch returns an error for a segment of an epoch, lower than before, that the
// log does not know: only an owner stores segments, so the HEADER of the epoch is
// missing.
func unknownEpoch(s *state.State, id state.SegmentID, shard uint32, r journal.Recovered, before uint64) error {
	if id.Epoch <= s.Cleaned || r.Knows(id.Epoch) || id.Epoch >= before {
		return nil
	}
	return journal.Missing(journal.SlotKey(shard, journal.Position{Epoch: id.Epoch}),
		fmt.Sprintf("an owner of epoch %d has stored %s", id.Epoch, segment.Key(shard, id.Epoch, id.Number)))
}
