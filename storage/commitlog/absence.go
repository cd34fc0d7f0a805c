package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
)

// segmentList is the segments that a List of the bucket has shown.
type segmentList struct {
	ids     map[segmentID]bool
	strange []string // keys that are none of a segment
}

// listSegments lists the segments of a shard.
func listSegments(ctx context.Context, b storage.Bucket, shard uint32) (segmentList, error) {
	l := segmentList{ids: make(map[segmentID]bool)}
	prefix := fmt.Sprintf("%04d/segment/", shard)
	err := listAll(ctx, b, prefix, "", func(key string) bool {
		e, n, _ := strings.Cut(strings.TrimPrefix(key, prefix), "/")
		epoch, eerr := strconv.ParseUint(e, 10, 64)
		number, nerr := strconv.ParseUint(n, 10, 64)
		if eerr != nil || nerr != nil || segment.Key(shard, epoch, number) != key {
			l.strange = append(l.strange, key)
		} else {
			l.ids[segmentID{epoch, number}] = true
		}
		return true
	})
	return l, err
}

// listAll calls each with the keys that begin with prefix and are greater than after,
// in order, until it returns false.
func listAll(ctx context.Context, b storage.Bucket, prefix, after string, each func(key string) bool) error {
	const page = 100_000 // each costs a folder a reading of all of it
	for {
		var keys []string
		err := insist(ctx, func() (err error) {
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

// gone reports whether there is no object under key: a List may have begun before it
// was stored.
func gone(ctx context.Context, b storage.Bucket, key string) (bool, error) {
	err := insist(ctx, func() error {
		_, err := b.Get(ctx, key, 0, 1)
		return err
	}, fs.ErrNotExist)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}

// listing is a List of segments that runs while the log is recovered.
type listing struct {
	segmentList
	err  error
	done chan struct{}
}

func (l *Log) startListing(ctx context.Context) *listing {
	x := &listing{done: make(chan struct{})}
	go func() {
		defer close(x.done)
		x.segmentList, x.err = listSegments(ctx, l.bucket, l.shard)
	}()
	return x
}

// verify proves that what the recovered log refers to is there, before this node
// becomes the owner: nothing has been written or deleted then but its claim and
// SEALs. The listing of the segments has begun before the recovery.
func (l *Log) verify(ctx context.Context, r journal.Recovered, x *listing) error {
	if err := l.recognize(ctx); err != nil {
		return err
	}
	<-x.done
	if x.err != nil {
		return x.err
	}
	if l.recovered = r; l.lost != nil {
		return nil // what is not there is found when it is read
	}
	for id := range l.state.segments {
		if x.ids[id] {
			continue
		}
		key := segment.Key(l.shard, id.epoch, id.number)
		if missing, err := gone(ctx, l.bucket, key); err != nil {
			return err
		} else if missing {
			return journal.Missing(key, fmt.Sprintf("the log has %d pieces of partitions in it", l.state.segments[id]))
		}
	}
	for id := range x.ids {
		// This node has stored none in its epoch yet, and who comes later may have.
		if err := unknownEpoch(l.state, id, l.shard, r, r.End.Epoch+1); err != nil {
			return err
		}
	}
	return slotsThere(ctx, l.bucket, l.shard, l.state, r.Checkpoint)
}

// unknownEpoch returns an error for a segment of an epoch, before the one given, of which the
// log knows nothing: only an owner stores segments, so the epoch had a header.
func unknownEpoch(s *state, id segmentID, shard uint32, r journal.Recovered, before uint64) error {
	if id.epoch <= s.cleaned || r.Knows(id.epoch) || id.epoch >= before {
		return nil
	}
	return journal.Missing(journal.SlotKey(shard, journal.Position{Epoch: id.epoch}),
		fmt.Sprintf("an owner of epoch %d has stored %s", id.epoch, segment.Key(shard, id.epoch, id.number)))
}

// slotsThere returns an error if a slot before the checkpoint is not there and has
// records that no segment has. The slots behind it have been read.
func slotsThere(ctx context.Context, b storage.Bucket, shard uint32, s *state, began journal.Position) error {
	wanted := make(map[journal.Position]placeKey)
	first := journal.Position{Epoch: math.MaxUint64}
	for _, t := range s.topics {
		for _, p := range t.partitions {
			for i := range p.index {
				pos := p.index[i].position()
				if !pos.Before(began) {
					break
				}
				wanted[pos] = p.key
				if pos.Before(first) {
					first = pos
				}
			}
		}
	}
	if len(wanted) == 0 {
		return nil
	}
	there := make(map[string]bool)
	end, after := journal.SlotKey(shard, began), journal.SlotKey(shard, journal.Position{Epoch: first.Epoch, Slot: first.Slot - 1})
	err := listAll(ctx, b, fmt.Sprintf("%04d/log/", shard), after, func(key string) bool {
		there[key] = true
		return key < end
	})
	if err != nil {
		return err
	}
	for pos, partition := range wanted {
		key := journal.SlotKey(shard, pos)
		if there[key] {
			continue
		}
		if missing, err := gone(ctx, b, key); err != nil {
			return err
		} else if missing {
			return journal.Missing(key, fmt.Sprintf("the log has records of %v in it", partition))
		}
	}
	return nil
}

// recognize compares the objects beside the log with what the log says of them, and
// finds out what it does not say yet. That goes into the first slot of this owner.
func (l *Log) recognize(ctx context.Context) error {
	keys := append([]string{clusterKey}, l.beside...)
	known := l.state.identity
	if known != nil {
		for _, s := range known.sums {
			if !slices.Contains(keys, s.key) {
				keys = append(keys, s.key)
			}
		}
	}
	there, err := objectsBeside(ctx, l.bucket, keys)
	if err != nil {
		return err
	}
	problems := differs(known, l.cluster, there)
	if len(problems) > 0 && l.lost == nil {
		return errors.Join(problems...)
	}
	for _, problem := range problems {
		l.lost(problem.Error())
	}
	says := &identity{anew: len(problems) > 0, level: l.cluster.Format, cluster: l.cluster.ID, sums: there}
	if l.Level() >= 2 && (known == nil || says.anew || says.level != known.level || !slices.Equal(says.sums, known.sums)) {
		l.unsaid = says
	}
	return nil
}
