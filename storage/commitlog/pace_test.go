package commitlog

import (
	"context"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// patience is how long writers wait for an upkeep that makes no progress.
const patience = 10 * time.Second

// strained is an upkeep that is slower than writers: slots of 64 KiB take 5 ms, the
// segment of a pass, which is for 128 KiB, 40.
func strained(t *testing.T, b *mem.Bucket) (*storagetest.Faults, func(*Options)) {
	t.Helper()
	f := storagetest.NewFaults(b, 1)
	f.Plan(sluggish)
	return f, func(o *Options) {
		o.SlotBytes, o.Depth = 64<<10, 1
		o.Upkeep = upkeep.Options{Bytes: 64 << 10, Segment: 32 << 10}
	}
}

// strainedLimit is the bytes beyond which writers are slowed down then.
const strainedLimit = 8 * 64 << 10

func sluggish(c storagetest.Call) storagetest.Outcome {
	switch {
	case c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/log/"):
		return storagetest.Outcome{Before: 5 * time.Millisecond}
	case c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/segment/"):
		return storagetest.Outcome{Before: 40 * time.Millisecond}
	}
	return storagetest.Outcome{}
}

// flood appends batches of 8 KiB as fast as it can until ctx ends, 16 at a time, and
// calls answered for each.
func flood(ctx context.Context, l *Log, topic weir.TopicID, answered func(error)) {
	var all sync.WaitGroup
	raw := make([]byte, 8<<10)
	_, _ = rand.NewChaCha8([32]byte{}).Read(raw) // what cannot be compressed
	value := string(raw)
	for range 16 {
		all.Go(func() {
			for ctx.Err() == nil {
				r := <-send(l, Append{Topic: topic, Batch: recordtest.Batch(value)})
				if answered(r.err); r.err != nil {
					return
				}
			}
		})
	}
	all.Wait()
}

// Writers that are faster than the upkeep are slowed down to its speed, evenly, and
// what a new owner has to read stays bounded.
func TestWritersKeepPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		f, o := strained(t, b)
		l := open(t, f, o)
		topic := createTopic(t, l, "t", 1)
		const warm, long = 5 * time.Second, 20 * time.Second
		var mu sync.Mutex // guards all below
		var most int64
		var gap time.Duration
		began := time.Now()
		last := began
		early, late := 0, 0
		ctx, cancel := context.WithTimeout(t.Context(), warm+long)
		defer cancel()
		flood(ctx, l, topic.ID, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.Error(err)
			}
			most = max(most, l.Stats().Waiting)
			switch now := time.Now(); {
			case now.Sub(began) < time.Second/20:
				early++
				last = now
			case now.Sub(began) > warm:
				late++
				gap = max(gap, now.Sub(last))
				last = now
			default:
				last = now
			}
		})
		if most <= strainedLimit || most >= 2*strainedLimit+64<<10 { // the last slot leaves below twice the limit
			t.Errorf("%d KiB were waiting, the limit is %d", most>>10, strainedLimit>>10)
		}
		// A slot takes 5 ms and has 7 of them; a pass takes 50, with its two entries,
		// or up to 60, and has 16.
		rate := float64(late) / long.Seconds()
		t.Logf("%d KiB were waiting at most, %d batches in 50 ms, then %.0f a second, longest gap %v, held back for %v", most>>10, early, rate, gap, l.Stats().Throttled)
		if early < 50 || rate < 240 || rate > 340 {
			t.Errorf("%d batches in the first 50 ms, then %.0f a second", early, rate)
		}
		if gap > 100*time.Millisecond {
			t.Errorf("no answer for %v", gap)
		}
		if d := l.Stats().Throttled; d < long/4 || d > long {
			t.Errorf("held back for %v of %v", d, warm+long)
		}

		// A killed owner leaves no more than that.
		_ = f.Close()
		next := open(t, b, o, func(o *Options) { o.Upkeep.Off = true })
		if n := next.Stats().Waiting; n < 64<<10 || n > 2*strainedLimit+3*64<<10 {
			t.Errorf("%d KiB to recover", n>>10)
		}
		must(next.Close())
	})
}

// bulky makes checkpoints large.
type bulky struct{ recorder }

func (bulky) Snapshot() []byte     { return make([]byte, 1<<20) }
func (bulky) Restore([]byte) error { return nil }

// An upkeep that has fallen behind does not catch up by large checkpoints. They neither
// hold writers up, nor let them get further ahead.
func TestPaceWithLargeCheckpoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := strained(t, mem.New())
		l := open(t, f, o, with(&bulky{recorder{kinds: []uint16{130}}}))
		topic := createTopic(t, l, "t", 1)
		var checkpoints atomic.Int64
		f.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/checkpoint/") {
				checkpoints.Add(1)
			}
			return sluggish(c)
		})
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var mu sync.Mutex // guards all below
		appended, most, gap, last := int64(0), int64(0), time.Duration(0), time.Now()
		flood(ctx, l, topic.ID, func(err error) {
			mu.Lock()
			defer mu.Unlock()
			must(err)
			appended += 8 << 10
			most = max(most, l.Stats().Waiting)
			gap = max(gap, time.Since(last))
			last = time.Now()
		})
		const worth = 24 << 20
		t.Logf("%d checkpoints for %d MiB, %d MiB were waiting at most, longest gap %v", checkpoints.Load(), appended>>20, most>>20, gap)
		if n := appended/worth + 1; appended < 2*worth || checkpoints.Load() > n {
			t.Errorf("%d checkpoints of 1 MiB for %d MiB, want %d", checkpoints.Load(), appended>>20, n)
		}
		if most < worth || most > worth+2*(worth+strainedLimit)+1<<20 {
			t.Errorf("%d KiB were waiting", most>>10)
		}
		if gap > 100*time.Millisecond {
			t.Errorf("no answer for %v", gap)
		}
	})
}

// When the upkeep has nothing left to do, writers are not held back.
func TestPaceEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := strained(t, mem.New())
		l := open(t, f, o)
		topic := createTopic(t, l, "t", 1)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		flood(ctx, l, topic.ID, func(err error) { must(err) })
		time.Sleep(time.Minute)
		held := l.Stats().Throttled
		if n := l.Stats().Waiting; n >= 64<<10 || held == 0 {
			t.Errorf("%d bytes are waiting a minute later, writers were held back for %v", n, held)
		}
		began := time.Now()
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		if d := time.Since(began); d > 10*time.Millisecond || l.Stats().Throttled != held {
			t.Errorf("an answer after %v", d)
		}
	})
}

// An upkeep that the bucket refuses slows writers down for a while, not for good, and
// does so again when the bucket has recovered.
func TestRefusedUpkeep(t *testing.T) {
	for name, refused := range map[string]func(storagetest.Call) bool{
		"segments": func(c storagetest.Call) bool {
			return c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/segment/")
		},
		"checkpoints": func(c storagetest.Call) bool {
			return c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/checkpoint/")
		},
		"lists": func(c storagetest.Call) bool { return c.Verb == storagetest.List },
	} {
		if storagetest.Race && name != "segments" { // all are run without the race detector
			continue
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, o := strained(t, mem.New())
				must(open(t, f, o).Close()) // there is an older epoch to be looked through
				l := open(t, f, o)
				f.Plan(func(c storagetest.Call) storagetest.Outcome {
					out := sluggish(c)
					if refused(c) {
						out.Fate = storagetest.Fail
					}
					return out
				})
				topic := createTopic(t, l, "t", 1)
				ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
				defer cancel()
				n := 0
				var mu sync.Mutex // guards n
				count := func(err error) {
					mu.Lock()
					defer mu.Unlock()
					must(err)
					n++
				}
				flood(ctx, l, topic.ID, count)
				if waiting := l.Stats().Waiting; n < 2000 || waiting < 10*strainedLimit {
					t.Errorf("%d batches, %d KiB are waiting", n, waiting>>10)
				}
				if d := l.Stats().Throttled; d > patience+patience/2 {
					t.Errorf("held back for %v of %v", d, 2*patience)
				}

				f.Plan(sluggish)
				time.Sleep(time.Minute)
				if waiting := l.Stats().Waiting; waiting >= 64<<10+32<<10 { // too little for a checkpoint, and for a pass
					t.Errorf("%d KiB are waiting", waiting>>10)
				}
				n = 0
				ctx, cancel = context.WithTimeout(t.Context(), patience)
				defer cancel()
				flood(ctx, l, topic.ID, count)
				if waiting := l.Stats().Waiting; waiting > 3*strainedLimit {
					t.Errorf("%d batches and %d KiB are waiting", n, waiting>>10)
				}
			})
		})
	}
}

// Many slots with little in them are a debt too.
func TestPaceOfSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, o := strained(t, mem.New())
		l := open(t, f, o, func(o *Options) { o.Upkeep.Slots, o.Upkeep.Debt = 20, 2 })
		f.Plan(func(c storagetest.Call) storagetest.Outcome {
			out := sluggish(c)
			if c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/segment/") {
				out.Before = time.Second
			}
			return out
		})
		topic := createTopic(t, l, "t", 1)
		most := int64(0)
		for range 500 {
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
			most = max(most, slotsWaiting(l))
		}
		if most < 40 || most > 85 {
			t.Errorf("%d slots were waiting", most)
		}
	})
}

// A recovery that starts over forgets what it had read.
func TestDebtOfRecovery(t *testing.T) {
	l, err := prepare(options(mem.New()))
	must(err)
	body := l.snapshot()
	l.upkeep.Applied(journal.Position{Epoch: 1, Slot: 1}, []journal.Entry{{Body: make([]byte, 100)}})
	if slotsWaiting(l) != 1 {
		t.Error(slotsWaiting(l), "slots are owed")
	}
	must(applier{l}.Restore(journal.Position{}, body))
	if bytes, slots := l.upkeep.Waiting(); bytes != 0 || slots != 0 {
		t.Errorf("%d bytes in %d slots are owed", bytes, slots)
	}
}

// Urgent requests go first, are not kept out by a full line, and get an answer when
// the line ends.
func TestUrgentRequests(t *testing.T) {
	q := newLine(1000)
	var got []string
	push := func(name string, size int, urgent bool) {
		must(q.push(context.Background(), request{size: size - requestOverhead, urgent: urgent,
			admit: func(*builder) { got = append(got, name) }, refuse: func(error) { got = append(got, "no "+name) }}))
	}
	pull := func(limit int, held bool, want ...string) {
		t.Helper()
		got = nil
		for _, r := range q.pull(limit, held) {
			r.admit(nil)
		}
		if !slices.Equal(got, want) {
			t.Errorf("pulled %q, want %q", got, want)
		}
	}
	push("a", 500, false)
	push("b", 500, false)
	for _, name := range []string{"x", "y", "z"} {
		push(name, 400, true)
	}
	pull(900, false, "x", "y")
	pull(900, true, "z")
	push("x", 1000, true)
	pull(900, false, "x")
	push("y", 400, true)
	pull(900, false, "y", "a")
	if urgent, bytes, _ := q.state(); urgent || bytes != 500 {
		t.Errorf("%d bytes are left", bytes)
	}
	push("z", 400, true)
	got = nil
	q.close(ErrClosed)
	if !slices.Equal(got, []string{"no z", "no b"}) {
		t.Errorf("%q", got)
	}
}

// If compaction cannot read from the bucket, slots are still rewritten, and compaction
// completes when it can read again.
func TestRefusedCompaction(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		f := storagetest.NewFaults(b, 1)
		l := open(t, f, asked, func(o *Options) { o.Upkeep.Bytes, o.Upkeep.Slots = 64<<10, 100 })
		topic, beside := createCompacted(t, l, "t", 1), createTopic(t, l, "beside", 1)
		f.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb == storagetest.Get && strings.Contains(c.Keys[0], "/segment/") {
				return storagetest.Outcome{Fate: storagetest.Fail}
			}
			return storagetest.Outcome{}
		})
		most := int64(0)
		for i := range 2000 {
			if i < 100 {
				appended(t, l, Append{Topic: topic.ID, Batch: keyed(0, kv{string(rune('a' + i%7)), strings.Repeat("x", 1000), 1})})
			}
			appended(t, l, Append{Topic: beside.ID, Batch: recordtest.Batch("y")})
			most = max(most, slotsWaiting(l))
			time.Sleep(time.Second / 20)
		}
		// 100 are due every 5 s, a look at what cannot be read takes 10, and what is
		// rewritten in a pass is spread over a while.
		if most > 400 {
			t.Errorf("%d slots were waiting", most)
		}
		f.Plan(nil)
		maintained(t, l)
		if n := len(holes(t, l, topic.ID, 0)); n != 7 {
			t.Errorf("%d records", n)
		}
	})
}

// Segments of a pass are stored side by side, and installed in order.
func TestSegmentsLandSideBySide(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		f := storagetest.NewFaults(b, 1)
		l := open(t, f, asked, func(o *Options) { o.Upkeep.Segment = 1 << 10 })
		topic := createTopic(t, l, "t", 12)
		for p := range topic.Partitions {
			appended(t, l, Append{Topic: topic.ID, Partition: p, Batch: recordtest.Batch(strings.Repeat("x", 2<<10))})
		}
		var mu sync.Mutex // guards n
		n := 0
		f.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb != storagetest.Create || !strings.Contains(c.Keys[0], "/segment/") {
				return storagetest.Outcome{}
			}
			mu.Lock()
			defer mu.Unlock()
			n++
			return storagetest.Outcome{Before: time.Duration(1+n%3) * time.Second} // they overtake each other
		})
		began := time.Now()
		maintained(t, l)
		if took := time.Since(began); n != 12 || took > 12*time.Second || took < 4*time.Second {
			t.Errorf("%d segments in %v", n, took)
		}
		sound(t, b)
	})
}

func slotsWaiting(l *Log) int64 {
	_, slots := l.upkeep.Waiting()
	return slots
}
