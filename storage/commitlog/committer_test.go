package commitlog

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// priced is a bucket that takes 30 ms for a Create, and perhaps money.
type priced struct {
	storage.Bucket
	billed bool
}

func (s priced) Traits() storage.Traits { return storage.Traits{Billed: s.billed} }

func (s priced) Create(ctx context.Context, key string, body []byte) error {
	time.Sleep(30 * time.Millisecond)
	return s.Bucket.Create(ctx, key, body)
}

const testLinger = 100 * time.Millisecond

func lingering(o *Options) { o.Linger = testLinger }

// The first request after a pause leaves at once; those that follow it wait for others.
func TestLinger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(mem.New())
		l := open(t, g, lingering)
		topic := createTopic(t, l, "t", 1)
		time.Sleep(pauses * testLinger)
		appends := func(value string, want time.Duration) {
			t.Helper()
			began := time.Now()
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(value)})
			if d := time.Since(began); d != want {
				t.Errorf("a record of %d bytes took %v, want %v", len(value), d, want)
			}
		}
		appends("after a pause", 0)
		appends("behind another", testLinger)
		time.Sleep(pauses*testLinger - 1)
		appends("almost after a pause", testLinger)
		time.Sleep(pauses * testLinger)
		appends("after a pause", 0)

		began, before := time.Now(), g.Calls()
		first := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		time.Sleep(60 * time.Millisecond)
		second := send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("b")})
		if a, b := <-first, <-second; a.err != nil || b.err != nil {
			t.Fatal(a.err, b.err)
		}
		if d := time.Since(began); d != testLinger || g.Calls() != before+1 {
			t.Errorf("took %v and %d calls, want the linger and one", d, g.Calls()-before)
		}
		appends(strings.Repeat("x", leaveBytes), 0)
	})
}

// written sends batches of size bytes, one each period, for a time, and returns how
// many slots they became and the longest wait for an answer.
func written(t *testing.T, l *Log, b *gate, size int, period, length time.Duration) (slots int, longest time.Duration) {
	t.Helper()
	topic := createTopic(t, l, "t", 4)
	time.Sleep(time.Second)
	var mu sync.Mutex
	var wg sync.WaitGroup
	one := recordtest.Batch(strings.Repeat("x", size))
	before := b.Calls()
	for i := range int(length / period) {
		wg.Add(1)
		began := time.Now()
		l.Append(Append{Topic: topic.ID, Partition: int32(i % 4), Batch: append([]byte(nil), one...)}, func(_ int64, err error) {
			defer wg.Done()
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			longest = max(longest, time.Since(began))
		})
		time.Sleep(period)
	}
	wg.Wait()
	return b.Calls() - before, longest
}

// TestLingerHolds: where requests cost money a linger of 100 ms is ten slots a second
// at most, however fast the log is written, unless they are full. Elsewhere 256 KiB
// leave at once.
func TestLingerHolds(t *testing.T) {
	const length = 5 * time.Second
	const lingers = int(length / testLinger)
	for name, c := range map[string]struct {
		billed      bool
		linger      time.Duration
		size        int // bytes
		period      time.Duration
		least, most int // slots
		longest     time.Duration
	}{
		"26 MB/s, billed":     {true, testLinger, 26_000, time.Millisecond, lingers - 2, lingers + 1, 200 * time.Millisecond},
		"1 MB/s, billed":      {true, testLinger, 1_000, time.Millisecond, lingers - 5, lingers + 1, 200 * time.Millisecond},
		"5 records/s, billed": {true, testLinger, 1_000, 200 * time.Millisecond, 25, 25, 30 * time.Millisecond},
		"100 MB/s, billed":    {true, testLinger, 100_000, time.Millisecond, 115, 140, 200 * time.Millisecond}, // full ones
		"26 MB/s, not billed": {false, testLinger, 26_000, time.Millisecond, 430, 520, 200 * time.Millisecond},
		"26 MB/s, no linger":  {true, 0, 26_000, time.Millisecond, 430, 520, 70 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			b := newGate(mem.New())
			l := open(t, priced{b, c.billed}, func(o *Options) {
				o.Linger, o.Upkeep = c.linger, upkeep.Options{Age: time.Hour, Bytes: 1 << 40, Debt: 1}
			})
			slots, longest := written(t, l, b, c.size, c.period, length)
			if slots < c.least || slots > c.most || longest > c.longest {
				t.Errorf("%s: %d slots, the longest wait was %v; want %d to %d slots and %v at most", name, slots, longest, c.least, c.most, c.longest)
			}
			if err := l.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}
