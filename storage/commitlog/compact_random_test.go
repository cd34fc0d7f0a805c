package commitlog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestRandomCompaction runs random lives of compacted topics against a model.
func TestRandomCompaction(t *testing.T) {
	for range storagetest.Rounds(40) {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { randomCompaction(t, seed) })
	}
}

func randomCompaction(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := mem.New()
	var now clock
	now.Store(1_000_000_000)
	retention := []string{"0", "1000", "1000000000000"}[rng.IntN(3)]
	hasty := rng.IntN(2) == 0
	adopt := []int{0, 1, 1500}[rng.IntN(3)]
	upkeep := func(o *Options) {
		tiny(o)
		o.Now, o.Upkeep.Keys = now.time, 1+rng.IntN(60)
		o.Upkeep.Adopt = adopt
		if hasty { // compaction is interrupted by a pass whenever it has installed something
			o.Upkeep.Age, o.Now = time.Millisecond, func() time.Time { return time.UnixMilli(now.Add(1)) }
		}
	}
	f := storagetest.NewFaults(b, seed)
	l := open(t, f, upkeep)
	topic := createCompacted(t, l, "t", 3, "delete.retention.ms", retention, "min.cleanable.dirty.ratio", []string{"0", "0.3", "0.9"}[rng.IntN(3)],
		"cleanup.policy", []string{"compact", "compact,delete"}[rng.IntN(2)])
	all, starts := make([][]kv, 3), make([]int64, 3)
	for range 80 {
		p := rng.IntN(3)
		now.Add(rng.Int64N(300))
		switch v := rng.IntN(100); {
		case v < 6:
			starts[p] += rng.Int64N(int64(len(all[p])) - starts[p] + 1)
			if start, err := l.DeleteRecords(t.Context(), topic.ID, int32(p), starts[p]); err != nil || start != starts[p] {
				t.Fatal(start, err)
			}
		case v < 25:
			maintained(t, l)
		case v < 32:
			if rng.IntN(2) == 0 {
				must(l.Close())
			}
			_ = f.Close() // a kill
			f = storagetest.NewFaults(b, seed)
			l = open(t, f, upkeep)
		default:
			var some []kv
			for range 1 + rng.IntN(8) {
				r := kv{fmt.Sprint("k", rng.IntN(25)), fmt.Sprint("v", len(all[p])+len(some), strings.Repeat("x", rng.IntN(1000))), rng.Int64N(1 << 41)}
				switch rng.IntN(12) {
				case 0:
					r.key = ""
				case 1, 2:
					r.value = ""
				case 3:
					r.key, r.value = "", ""
				}
				some = append(some, r)
			}
			if base := appended(t, l, Append{Topic: topic.ID, Partition: int32(p), Batch: keyed(record.Codec(rng.IntN(5)), some...)}); base != int64(len(all[p])) {
				t.Fatalf("base %d instead of %d", base, len(all[p]))
			}
			all[p] = append(all[p], some...)
		}
		plausible(t, holes(t, l, topic.ID, int32(p)), all[p], starts[p])
	}
	_ = f.Close()
	l = open(t, b, upkeep)
	settled(t, l, topic, all, starts, &now, retention != "1000000000000")
	if r := sound(t, b); r.Orphans > 0 {
		t.Errorf("%d orphans", r.Orphans)
	}
	must(checkpointIsReplay(b))
	l.mu.RLock()
	defer l.mu.RUnlock()
	must(summed(l.state))
}

// plausible proves that there is nothing that was not written, and that only records
// that may be removed are missing.
func plausible(t *testing.T, got map[int64]kv, all []kv, start int64) {
	t.Helper()
	for offset, r := range got {
		if offset < start || all[offset] != r {
			t.Fatalf("offset %d: %.50v, want %.50v", offset, r, all[offset])
		}
	}
	for offset, r := range lasting(all, start, false) {
		if got[offset] != r {
			t.Fatalf("offset %d: %.50v, want %.50v", offset, got[offset], r)
		}
	}
}

// settled makes passes until all is clean, and expects just what must be left.
func settled(t *testing.T, l *Log, topic state.Topic, all [][]kv, starts []int64, now *clock, forget bool) {
	t.Helper()
	for p := range all { // enough to be worth it
		for i := range 30 {
			r := kv{"more", strings.Repeat("y", 4000), int64(i)}
			appended(t, l, Append{Topic: topic.ID, Partition: int32(p), Batch: keyed(record.None, r)})
			all[p] = append(all[p], r)
		}
	}
	for range 2 {
		maintained(t, l)
		now.Add(3_600_000)
	}
	maintained(t, l)
	for p := range all {
		if pieces := l.pieces(state.Place{Topic: topic.ID, Partition: int32(p)}); dirty(pieces) < len(pieces) {
			continue // not worth it
		}
		got, want := holes(t, l, topic.ID, int32(p)), lasting(all[p], starts[p], !forget)
		if forget {
			sameRecords(t, got, want)
		}
		for offset, r := range got {
			if want[offset] != r {
				t.Fatalf("offset %d has %.50v still", offset, r)
			}
		}
	}
}

// TestCompactionFaults spoils each call of a life with compaction in turn, as
// TestFaultMatrix does; the values that were promised are the last ones of their
// keys, and the tombstone that was hides what is older.
func TestCompactionFaults(t *testing.T) {
	spoilEach(t, 30, func(b storage.Bucket) audit {
		sent, errs := liveCompacted(b)
		return func(t *testing.T, b storage.Bucket, land func()) { auditCompacted(t, b, land, sent, errs) }
	})
}

func auditCompacted(t *testing.T, b storage.Bucket, land func(), sent []kv, errs []error) {
	l, err := Open(within(t, time.Minute), options(b, tiny))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	land()
	newest := func() {
		t.Helper()
		topic, ok := l.Topic("t")
		if !ok {
			return
		}
		seen := map[string]string{}
		got := holes(t, l, topic.ID, 0)
		for _, offset := range slices.Sorted(maps.Keys(got)) {
			seen[got[offset].key] = got[offset].value
		}
		// What was sent after the last one that was promised may be there too.
		may := map[string][]string{}
		for i, r := range sent {
			if errs[i] == nil {
				may[r.key] = nil
			}
			may[r.key] = append(may[r.key], r.value)
		}
		for key, values := range may {
			if !slices.Contains(values, seen[key]) && !(errs[slices.IndexFunc(sent, func(r kv) bool { return r.key == key })] != nil && seen[key] == "") {
				t.Errorf("%s is %q, want one of %q", key, seen[key], values)
			}
		}
	}
	newest()
	maintained(t, l)
	newest()
	if topic, ok := l.Topic("t"); ok {
		seen := map[string]bool{}
		for offset, r := range holes(t, l, topic.ID, 0) {
			if seen[r.key] {
				t.Errorf("there is more than one %s, as at offset %d", r.key, offset)
			}
			seen[r.key] = true
		}
	}
	sound(t, b)
}

// liveCompacted writes, deletes and compacts, in one life, and returns what it
// sent, and the answers.
func liveCompacted(b storage.Bucket) (sent []kv, errs []error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := Open(ctx, options(b, tiny, func(o *Options) { o.Upkeep.Keys = 3 })) // a piece takes three rounds
	if err != nil {
		return nil, nil
	}
	defer l.Close()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	topic, err := l.CreateTopic(ctx, "t", 1, map[string]string{
		"cleanup.policy": "compact", "delete.retention.ms": "0", "min.cleanable.dirty.ratio": "0",
	})
	if err != nil {
		return nil, nil
	}
	for round := range 3 {
		for half := range 2 { // what one replaces lies in the same piece too
			var all []kv
			for i := range 4 {
				r := kv{fmt.Sprint("k", i), fmt.Sprint(round, half, strings.Repeat("x", 3000)), int64(round)}
				if i == round {
					r.value = ""
				}
				all = append(all, r)
			}
			err := (<-send(l, Append{Topic: topic.ID, Batch: keyed(record.None, all...)})).err
			for _, r := range all {
				sent, errs = append(sent, r), append(errs, err)
			}
		}
		if err := l.Maintain(ctx); errors.Is(err, ErrClosed) || errors.Is(err, ErrFenced) {
			return sent, errs
		}
	}
	return sent, errs
}
