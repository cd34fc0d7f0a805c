package commitlog

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// needs is which records of a partition are needed, for tests.
type needs struct {
	topic  weir.TopicID
	mu     sync.Mutex
	before int64          // guarded by mu
	has    map[int64]bool // guarded by mu
}

func (n *needs) needed(key state.Place) *Needed {
	if key.Topic != n.topic {
		return nil
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	return &Needed{Before: n.before, Count: func(first, next int64) (count int64) {
		n.mu.Lock()
		defer n.mu.Unlock()
		for offset := range n.has {
			if first <= offset && offset < next {
				count++
			}
		}
		return count
	}, Has: func(offset int64) bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.has[offset]
	}}
}

// set says what is needed from now on, and that what comes at before or behind it is.
func (n *needs) set(before int64, has ...int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.before, n.has = before, make(map[int64]bool)
	for _, offset := range has {
		n.has[offset] = true
	}
}

func (n *needs) hook(o *Options) { o.Needed = n.needed }

// lastingValues reads a partition that has holes.
func lastingValues(t testing.TB, l *Log, topic weir.TopicID) map[int64]string {
	t.Helper()
	values := map[int64]string{}
	start, end, err := l.Bounds(topic, 0)
	must(err)
	for next := start; next < end; {
		asked := next
		f, err := l.Fetch(context.Background(), topic, 0, asked, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if len(f.Batches) == 0 {
			t.Fatalf("nothing from offset %d on, the end is %d", next, end)
		}
		for _, raw := range f.Batches {
			must(record.Batch(raw).Verify())
			must(recordsOf(raw, func(offset int64, value string) {
				if offset < asked {
					return // small batches were joined since the last read
				}
				if _, twice := values[offset]; twice {
					t.Fatalf("offset %d is read twice", offset)
				}
				if offset >= start {
					values[offset] = value
				}
			}))
			next = record.Batch(raw).NextOffset()
		}
	}
	return values
}

// TestNeeded: one old message does not hold all that came after it. Messages that are
// needed are found at their offsets; the others go when enough of them are together.
func TestNeeded(t *testing.T) {
	for name, upkeep := range map[string]func(*Options){"rewritten": tiny, "adopted": adopting} {
		t.Run(name, func(t *testing.T) { neededRecords(t, upkeep) })
	}
}

func neededRecords(t *testing.T, upkeep func(*Options)) {
	b := mem.New()
	n := &needs{}
	l := open(t, b, upkeep, n.hook)
	topic, other := createTopic(t, l, "t", 1), createTopic(t, l, "other", 1)
	n.topic = topic.ID
	const many = 400
	value := func(i int) string { return fmt.Sprint(i, strings.Repeat("x", 2000)) }
	for i := range many {
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch(value(2*i), value(2*i+1))})
		appended(t, l, Append{Topic: other.ID, Batch: recordtest.Batch(value(i))})
	}
	size := func() int64 {
		t.Helper()
		maintained(t, l)
		maintained(t, l)
		size, err := l.Size(topic.ID, 0)
		must(err)
		return size
	}
	full := size()
	all := func() (all []int64) {
		for i := range int64(2 * many) {
			all = append(all, i)
		}
		return all
	}()
	check := func(has []int64, least, most int64) {
		t.Helper()
		n.set(2*many, has...)
		if got := size(); got < least || got > most {
			t.Errorf("%d bytes with %d of %d records needed, want %d to %d of %d", got, len(has), 2*many, least, most, full)
		}
		values := lastingValues(t, l, topic.ID)
		for _, offset := range has {
			if values[offset] != value(int(offset)) {
				t.Fatalf("offset %d is needed and has %.40q", offset, values[offset])
			}
		}
		if got := readAll(t, l, other.ID, 0); len(got) != many {
			t.Errorf("another topic has %d records", len(got))
		}
		sound(t, b)
	}
	check(all, full, full)
	check(slices.Concat(all[:200], all[204:]), full, full) // not worth it
	n.set(0, 0)                                            // nothing else is settled
	if got := size(); got != full {
		t.Errorf("%d bytes of %d, and nothing is below the horizon", got, full)
	}
	var some []int64
	for i := 0; i < 2*many; i += 8 {
		some = append(some, int64(i))
	}
	const ends = 150_000 // the first and the last piece
	check(append(all[:20:20], some[3:]...), full/10, full/6+ends)
	check(some[:1], 1000, ends)
	must(l.Close())
	l = open(t, b, upkeep, n.hook)
	check(some[:1], 1000, ends)
	if start, _, err := l.Bounds(topic.ID, 0); start != 0 || err != nil {
		t.Errorf("it begins at %d, %v", start, err)
	}
	must(second(l.DeleteRecords(t.Context(), topic.ID, 0, 2*many)))
	check(nil, 0, 0)
	must(l.Close())
	must(checkpointIsReplay(b))
}

// TestNeededAtRandom: whatever ceases to be needed, in whatever order, the rest is there.
// After each kill the next owner goes on.
func TestNeededAtRandom(t *testing.T) {
	for range storagetest.Rounds(20) {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { neededAtRandom(t, seed) })
	}
}

func neededAtRandom(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 5))
	b, n := mem.New(), &needs{has: map[int64]bool{}}
	adopt := []int{0, 1, 2000}[rng.IntN(3)]
	change := func(o *Options) { tiny(o); n.hook(o); o.Upkeep.Adopt = adopt }
	f := storagetest.NewFaults(b, seed)
	l := open(t, f, change)
	topic := createTopic(t, l, "t", 1)
	n.topic = topic.ID
	values := map[int64]string{}
	end := int64(0)
	for range 200 {
		switch k := rng.IntN(100); {
		case k < 60:
			builder := record.NewBuilder(record.Codec(rng.IntN(5)))
			for i := range 1 + rng.Int64N(5) {
				v := fmt.Sprint(end+i, "/", rng.Uint64(), strings.Repeat("x", rng.IntN(1500)))
				must(builder.Append(&record.Record{Value: []byte(v)}))
				values[end+i] = v
			}
			batch, err := builder.Build()
			must(err)
			appended(t, l, Append{Topic: topic.ID, Batch: batch})
			n.mu.Lock()
			for end < int64(len(values)) {
				n.has[end] = true
				end++
			}
			n.before = end
			n.mu.Unlock()
		case k < 85: // a part of what is needed is not needed any more
			share := rng.Float64()
			n.mu.Lock()
			for offset := range n.has {
				if offset%7 != 0 && rng.Float64() < share {
					delete(n.has, offset)
				}
			}
			n.mu.Unlock()
		case k < 95:
			maintained(t, l)
		case k < 97:
			_ = f.Close() // a kill
			f = storagetest.NewFaults(b, seed)
			l = open(t, f, change)
		default:
			_, err := l.DeleteRecords(t.Context(), topic.ID, 0, n.floor(end))
			must(err)
		}
		n.audit(t, l, values)
	}
	maintained(t, l)
	n.audit(t, l, values)
	sound(t, b)
	must(checkpointIsReplay(b))
}

// floor is the first offset that is needed.
func (n *needs) floor(end int64) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	for offset := range n.has {
		end = min(end, offset)
	}
	return end
}

func (n *needs) audit(t *testing.T, l *Log, values map[int64]string) {
	t.Helper()
	got := lastingValues(t, l, n.topic)
	n.mu.Lock()
	defer n.mu.Unlock()
	for offset := range n.has {
		if got[offset] != values[offset] {
			t.Fatalf("offset %d has %.40q, want %.40q", offset, got[offset], values[offset])
		}
	}
	for offset, value := range got {
		if value != values[offset] {
			t.Fatalf("offset %d has %.40q, want %.40q", offset, value, values[offset])
		}
	}
}

// TestNeededFaults spoils each call of a life in which records are dropped, as
// TestFaultMatrix does.
func TestNeededFaults(t *testing.T) {
	for name, upkeep := range map[string]func(*Options){"rewritten": tiny, "adopted": adopting} {
		t.Run(name, func(t *testing.T) {
			spoilEach(t, 15, func(b storage.Bucket) audit {
				n := &needs{}
				values := liveNeeded(b, n, upkeep)
				return func(t *testing.T, b storage.Bucket, land func()) {
					l, err := Open(within(t, time.Minute), options(b, upkeep, n.hook))
					if err != nil {
						t.Fatal(err)
					}
					defer func() { must(l.Close()); sound(t, b) }()
					land()
					if _, found := l.TopicByID(n.topic); found {
						n.audit(t, l, values)
						must(l.Maintain(t.Context()))
						n.audit(t, l, values)
					} else if n.topic != (weir.TopicID{}) {
						t.Error("the topic is gone")
					}
				}
			})
		})
	}
}

// liveNeeded appends records of which few are needed, and returns them; perhaps the last
// one is not durable. It ends at the first error.
func liveNeeded(b storage.Bucket, n *needs, upkeep func(*Options)) (values map[int64]string) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := Open(ctx, options(b, upkeep, n.hook))
	if err != nil {
		return nil
	}
	defer l.Close()
	context.AfterFunc(ctx, func() { _ = l.Close() })
	topic, err := l.CreateTopic(ctx, "t", 1, nil)
	if err != nil {
		return nil
	}
	n.topic, values = topic.ID, map[int64]string{}
	for round := range 2 {
		for range 6 {
			v := fmt.Sprint(len(values), strings.Repeat("x", 8000))
			values[int64(len(values))] = v
			if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(v)}); r.err != nil {
				return values
			}
		}
		if err := l.Maintain(ctx); err != nil {
			return values
		}
		n.set(int64(len(values)), 0, int64(5+round), int64(len(values)-1))
		if err := l.Maintain(ctx); err != nil {
			return values
		}
	}
	_ = l.Maintain(ctx)
	return values
}
