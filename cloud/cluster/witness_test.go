package cluster

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestTimeToAnswer: an owner has longer to answer through a slow bucket, but not because one
// request was slow by chance.
func TestTimeToAnswer(t *testing.T) {
	const T = 2 * time.Second
	for name, c := range map[string]struct {
		list, create time.Duration
		want         time.Duration
	}{
		"fast":          {time.Millisecond, time.Millisecond, T * 3 / 4},
		"a slow moment": {20 * time.Millisecond, 400 * time.Millisecond, T * 3 / 4},
		"slow":          {200 * time.Millisecond, 200 * time.Millisecond, T/2 + 2*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := storagetest.NewFaults(mem.New(), 1)
				b.Plan(func(q storagetest.Call) storagetest.Outcome {
					if q.Verb == storagetest.Create {
						return storagetest.Outcome{Before: c.create}
					}
					return storagetest.Outcome{Before: c.list}
				})
				m := New(ManagerOptions{Bucket: b, Shards: func() uint32 { return 1 }, Takeover: T})
				w := witness{s: newSupervisor(m, 0), owner: Node{Name: "a", Boot: "1"}, next: journal.Position{Epoch: 1}}
				if grown, err := w.look(t.Context()); grown || err != nil {
					t.Fatal(grown, err)
				}
				if w.limit != c.want {
					t.Errorf("the owner has %v, want %v", w.limit, c.want)
				}
			})
		})
	}
}
