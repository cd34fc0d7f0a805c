package commitlog

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
)

// ranges counts what is read of slots.
type ranges struct {
	storage.Bucket
	mu           sync.Mutex
	whole, parts int // guarded by mu: reads
	most         int // guarded by mu: bytes of the largest whole one
}

func (r *ranges) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	body, err := r.Bucket.Get(ctx, key, off, n)
	if strings.Contains(key, "/log/") && err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		if n < 0 {
			r.whole, r.most = r.whole+1, max(r.most, len(body))
		} else {
			r.parts++
		}
	}
	return body, err
}

// What is rewritten and no longer in memory is read again: large runs by themselves, so
// that a pass does not hold all of its slots in memory, small ones with their slot. One
// that cannot be read at first is read when it is its turn.
func TestRunsAreReadAgain(t *testing.T) {
	f := storagetest.NewFaults(mem.New(), 1)
	b := &ranges{Bucket: f}
	l := open(t, b, asked, func(o *Options) { o.TailBytes, o.Upkeep.Adopt = 1, 1<<30 })
	topic := createTopic(t, l, "t", 2)
	var want [2][]string
	noise := rand.NewChaCha8([32]byte{})
	for i := range 40 {
		raw := make([]byte, []int{200_000, 300, 131_072, 20_000}[i%4])
		_, _ = noise.Read(raw) // never fails
		p := i / 3 % 2
		want[p] = append(want[p], string(raw))
		appended(t, l, Append{Topic: topic.ID, Partition: int32(p), Batch: recordtest.Batch(string(raw))})
	}
	f.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Get && c.N%3 == 0 {
			return storagetest.Outcome{Fate: storagetest.Fail}
		}
		return storagetest.Outcome{}
	})
	maintained(t, l)
	f.Plan(nil)
	if b.most >= 128<<10 || b.whole == 0 || b.whole > 20 || b.parts < 20 {
		t.Errorf("%d slots were read, up to %d bytes, and %d parts of slots", b.whole, b.most, b.parts)
	}
	for p := range want {
		if got := readAll(t, l, topic.ID, int32(p)); !slices.Equal(got, want[p]) {
			t.Errorf("partition %d: %d records, want %d", p, len(got), len(want[p]))
		}
	}
	must(l.Close())
	sound(t, b)
}
