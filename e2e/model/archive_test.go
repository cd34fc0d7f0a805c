package model

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing/synctest"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// archive is a bucket that also keeps what was created in it when it is deleted:
// the journal from its first slot on, whatever the upkeep does. Of a name that was
// created again it keeps what came first: only that can be part of the log.
type archive struct {
	storage.Bucket
	kept storage.Bucket
}

func (a archive) Create(ctx context.Context, key string, body []byte) error {
	if err := a.Bucket.Create(ctx, key, body); err != nil {
		return err
	}
	if !strings.Contains(key, "/epoch/") && !strings.Contains(key, "/log/") {
		return nil // no part of the journal before any upkeep
	}
	// What is there is there, whatever the caller waits for.
	if err := a.kept.Create(context.WithoutCancel(ctx), key, body); err != nil && !errors.Is(err, storage.ErrExists) {
		return fmt.Errorf("archive: %w", err)
	}
	return nil
}

// read replays the journal from its first slot.
func (w *world) read() (*ledger, error) {
	l := &ledger{names: map[weir.TopicID]string{}, deleted: map[weir.TopicID]bool{}, values: map[partition][]string{}}
	l.several = w.several()
	if l.several {
		w.mu.Lock()
		l.names = maps.Clone(w.names)
		w.mu.Unlock()
	}
	for _, id := range w.shardIDs() {
		_, err := journal.Replay(context.Background(), journal.Options{Bucket: w.bucket.kept, Shard: id, Window: 1}, l)
		if err != nil {
			return nil, fmt.Errorf("CORRUPT: %w", err)
		}
	}
	return l, nil
}

// reread takes the log over once more, from its newest checkpoint, and compares
// what readers get with what the journal says that was written: the upkeep has
// moved it, and changed nothing. The journal is read when nobody else can write to
// it any more: a call that was given up may have landed since the audit.
func (w *world) reread() error {
	for _, id := range w.shardIDs() {
		if err := w.rereadShard(id); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) rereadShard(id uint32) error {
	ctx := context.Background()
	log, err := commitlog.Open(ctx, commitlog.Options{
		Bucket: w.bucket.Bucket, Shard: id, Shards: w.shardCount(), Node: "reader", Upkeep: upkeep.Options{Off: true}, Log: w.slog, Mutations: w.mutations.log,
	})
	if err != nil {
		return fmt.Errorf("CORRUPT: take over at the end: %w", err)
	}
	defer log.Close()
	synctest.Wait() // the archive keeps what it has created
	l, err := w.read()
	if err != nil {
		return err
	}
	topics := log.Topics()
	if alive := len(l.names) - len(l.deleted); len(topics) != alive && !w.several() {
		return fmt.Errorf("ALTERED: %d topics of %d", len(topics), alive)
	}
	for _, t := range topics {
		for i := range t.Partitions {
			if w.route(weir.SliceOf(t.ID, i)) != id {
				continue
			}
			got, err := values(ctx, log, t.ID, i)
			if err != nil {
				return fmt.Errorf("UNREADABLE: partition %d of %s: %w", i, t.Name, err)
			}
			if want := l.values[partition{t.ID, i}]; !slices.Equal(got, want) {
				return fmt.Errorf("ALTERED: partition %d of %s has %q, written was %q", i, t.Name, got, want)
			}
		}
	}
	return nil
}

// values reads a partition from offset 0 on.
func values(ctx context.Context, log *commitlog.Log, topic weir.TopicID, partition int32) (all []string, err error) {
	for {
		next := int64(len(all))
		f, err := log.Fetch(ctx, topic, partition, next, 1<<20)
		if err != nil || len(f.Batches) == 0 {
			return all, err
		}
		for _, raw := range f.Batches {
			err := record.Batch(raw).Each(1<<20, func(r *record.Record) error {
				if r.Offset != int64(len(all)) {
					return fmt.Errorf("offset %d where %d was due", r.Offset, len(all))
				}
				all = append(all, string(r.Value))
				return nil
			})
			if err != nil {
				return all, err
			}
		}
	}
}
