package commitlog

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/storagetest"
)

func prepared(t testing.TB, b storage.Bucket, change ...func(*Options)) *Candidate {
	t.Helper()
	c, err := Prepare(context.Background(), options(b, change...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

// successor is what a candidate does between Expect and Yield.
func successor(c *Candidate, nonce [16]byte) func(context.Context) error {
	return func(ctx context.Context) error {
		if err := c.Claim(ctx, 0, nonce); err != nil {
			return err
		}
		return c.Follow(ctx)
	}
}

func taken(t testing.TB, c *Candidate) *Log {
	t.Helper()
	l, err := c.Take(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

var nonce = [16]byte{1}

// TestHandOver: what is in flight is answered, what is in line is not written, and the
// successor goes on where the owner ends, with the same machines.
func TestHandOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		g := &gate{Faults: storagetest.NewFaults(b, 1)}
		l := open(t, g, with(&recorder{kinds: []uint16{100}}), func(o *Options) { o.Depth = 2 })
		topic := createTopic(t, l, "t", 1)
		must(l.Propose(t.Context(), 100, []byte("x")))
		m := &recorder{kinds: []uint16{100}}
		c := prepared(t, b, with(m))
		must(l.Propose(t.Context(), 100, []byte("y")))
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		if m.got = slices.Clone(m.got); !slices.Equal(m.got, []string{"100:x"}) {
			t.Errorf("the candidate has applied %q", m.got)
		}

		g.Plan(func(c storagetest.Call) storagetest.Outcome {
			if c.Verb == storagetest.Create && strings.Contains(c.Keys[0], "/log/") {
				return storagetest.Outcome{Before: time.Second}
			}
			return storagetest.Outcome{}
		})
		var answers []<-chan result
		end, err := l.HandOver(t.Context(), nonce, func(ctx context.Context) error {
			err := successor(c, nonce)(ctx)
			must(l.Confirm(ctx))
			for _, value := range []string{"b", "c", "d", "e"} { // two fly, two wait
				answers = append(answers, send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(value + strings.Repeat(" ", leaveBytes))}))
				synctest.Wait()
			}
			return err
		})
		if err != nil || end.Epoch != 1 {
			t.Fatalf("handed over at %v: %v", end, err)
		}
		for i, answer := range answers {
			switch r := <-answer; {
			case i < 2 && r.err != nil:
				t.Errorf("append %d was in flight: %v", i, r.err)
			case i >= 2 && (!errors.Is(r.err, ErrHandedOver) || !errors.Is(r.err, ErrClosed)):
				t.Errorf("append %d was in line: %v", i, r.err)
			}
		}
		if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch("f")}); !errors.Is(r.err, ErrHandedOver) {
			t.Error(r.err)
		}
		<-l.Done()
		if err := l.Err(); !errors.Is(err, ErrHandedOver) || !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		must(l.Close())
		next := taken(t, c)
		if base := appended(t, next, Append{Topic: topic.ID, Batch: recordtest.Batch("g")}); base != 3 || next.Epoch() != 2 {
			t.Errorf("appended at %d in epoch %d", base, next.Epoch())
		}
		must(next.Propose(t.Context(), 100, []byte("z")))
		if !slices.Equal(m.got, []string{"100:x", "100:y", "100:z"}) {
			t.Errorf("the machine has %q", m.got)
		}
		must(next.Maintain(t.Context()))
		must(next.Close())
		sound(t, b)
	})
}

// TestHandOverFails: the log goes on if the successor is not ready, and is fenced by its
// claim.
func TestHandOverFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		l := open(t, b)
		topic := createTopic(t, l, "t", 1)
		_, err := l.HandOver(t.Context(), nonce, func(context.Context) error { return errors.ErrUnsupported })
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
		must(l.Maintain(t.Context()))
		must(l.Confirm(t.Context()))
		c := prepared(t, b)
		must(c.Claim(t.Context(), 2, nonce))
		if err := l.Confirm(t.Context()); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
		if _, err := l.HandOver(t.Context(), nonce, successor(c, nonce)); !errors.Is(err, ErrFenced) {
			t.Error(err)
		}
	})
}

// TestResume: the successor does not come. The node goes on with what was acknowledged.
func TestResume(t *testing.T) {
	for _, claims := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := mem.New()
			old := &recorder{kinds: []uint16{100}}
			l := open(t, b, with(old))
			topic := createTopic(t, l, "t", 1)
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
			must(l.Maintain(t.Context()))
			must(l.Propose(t.Context(), 100, []byte("x")))
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("b")})
			if _, err := l.Resume(t.Context(), options(b)); err == nil {
				t.Error("an owner has resumed")
			}
			_, err := l.HandOver(t.Context(), nonce, func(ctx context.Context) error {
				if claims {
					return prepared(t, b, with(&recorder{kinds: []uint16{100}})).Claim(ctx, 2, nonce)
				}
				return nil
			})
			must(err)
			must(l.Close())
			m := &recorder{kinds: []uint16{100}}
			c, err := l.Resume(t.Context(), options(b, with(m)))
			must(err)
			must(c.Claim(t.Context(), 0, [16]byte{}))
			next := taken(t, c)
			appended(t, next, Append{Topic: topic.ID, Batch: recordtest.Batch("c")})
			must(next.Propose(t.Context(), 100, []byte("y")))
			if got := readAll(t, next, topic.ID, 0); !slices.Equal(got, []string{"a", "b", "c"}) || !slices.Equal(m.got, []string{"100:x", "100:y"}) {
				t.Errorf("read %q, the machine has %q", got, m.got)
			}
			must(next.Maintain(t.Context()))
			must(next.Close())
			sound(t, b)
			l = open(t, b, with(&recorder{kinds: []uint16{100}}))
			if got := readAll(t, l, topic.ID, 0); !slices.Equal(got, []string{"a", "b", "c"}) {
				t.Errorf("recovered %q", got)
			}
		})
	}
}

// TestCandidateVerifies: a candidate looks for segments that were stored after it had
// listed them, and does not take over when one is missing.
func TestCandidateVerifies(t *testing.T) {
	for _, missing := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			b := mem.New()
			l := open(t, b)
			topic := createTopic(t, l, "t", 1)
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("a")})
			must(l.Maintain(t.Context()))
			c := prepared(t, b)
			must(c.Claim(t.Context(), 0, nonce))
			appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("b")})
			must(l.Maintain(t.Context()))
			_ = l.Close()
			keys, err := b.List(t.Context(), "0000/segment/", "", 10)
			must(err)
			if len(keys) != 2 || keys[1] != segment.Key(0, 1, 2) {
				t.Fatalf("segments %q", keys)
			}
			if missing {
				must(b.Delete(t.Context(), keys[1]))
			}
			next, err := c.Take(t.Context())
			if missing != errors.Is(err, storage.ErrMissing) {
				t.Errorf("missing %v: %v", missing, err)
			}
			if err == nil {
				must(next.Close())
			}
		})
	}
}

// TestRandomHandOvers hands a log from one node to the next again and again, over a bucket
// that loses answers, while writers append. They send what was refused once more.
func TestRandomHandOvers(t *testing.T) {
	first, runs := rand.Uint64()>>16, storagetest.Rounds(25)
	for seed := first; seed < first+uint64(runs); seed++ {
		synctest.Test(t, func(t *testing.T) { randomHandOvers(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func randomHandOvers(t *testing.T, seed uint64) {
	rng := rand.New(rand.NewPCG(seed, 1))
	b := mem.New()
	f := storagetest.NewFaults(b, seed)
	small := func(o *Options) { o.Upkeep.Bytes, o.Upkeep.Slots = 2000, 8 }
	l := open(t, f, small)
	topic := createTopic(t, l, "t", 1)
	f.Random(storagetest.Odds{Fail: 0.02, Applied: 0.02, Late: 0.02, Before: 10 * time.Millisecond, After: 10 * time.Millisecond})

	var mu sync.Mutex
	owner, stop := l, false
	current := func() (*Log, bool) {
		mu.Lock()
		defer mu.Unlock()
		return owner, stop
	}
	acked := make([][]string, 4)
	var writers sync.WaitGroup
	for w := range acked {
		writers.Go(func() {
			for k := 0; ; k++ {
				l, stop := current()
				if stop {
					return
				}
				value := fmt.Sprintf("%d.%d", w, k)
				if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Batch(value)}); r.err == nil {
					acked[w] = append(acked[w], value)
				} else if !errors.Is(r.err, ErrFenced) && !errors.Is(r.err, ErrClosed) {
					t.Errorf("%s: %v", value, r.err)
				}
				time.Sleep(3 * time.Millisecond)
			}
		})
	}
	handed := 0
	for range 6 {
		time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		c, err := Prepare(t.Context(), options(f, small))
		for err != nil { // it reads the object `cluster` once
			c, err = Prepare(t.Context(), options(f, small))
		}
		time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
		must(c.Follow(t.Context()))
		me := [16]byte{2, byte(handed)}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		end, err := l.HandOver(ctx, me, successor(c, me))
		cancel()
		must(err)
		must(l.Close())
		if rng.IntN(3) == 0 { // the successor dies
			c.Close()
			if c, err = l.Resume(t.Context(), options(f, small)); err != nil {
				t.Fatal(err)
			}
			must(c.Claim(t.Context(), 0, [16]byte{}))
		}
		l = taken(t, c)
		if got := (journal.Position{Epoch: uint64(l.Epoch())}); !end.Before(got) {
			t.Errorf("epoch %d after the end %v", l.Epoch(), end)
		}
		mu.Lock()
		owner = l
		mu.Unlock()
		handed++
	}
	time.Sleep(100 * time.Millisecond)
	mu.Lock()
	stop = true
	mu.Unlock()
	writers.Wait()
	must(l.Close())
	time.Sleep(time.Hour)
	f.Land()
	auditHandOvers(t, b, topic, acked)
}

// auditHandOvers checks that everything acknowledged is there once, in its writer's order.
func auditHandOvers(t *testing.T, b storage.Bucket, topic state.Topic, acked [][]string) {
	l := open(t, b)
	defer l.Close()
	got := readAll(t, l, topic.ID, 0)
	for w, values := range acked {
		i := 0
		for _, v := range got {
			if i < len(values) && v == values[i] {
				i++
			} else if strings.HasPrefix(v, fmt.Sprint(w, ".")) && slices.Contains(values, v) {
				t.Errorf("%s is there out of order, or twice", v)
			}
		}
		if i < len(values) || len(values) == 0 {
			t.Errorf("writer %d: %d of %d acknowledged records are there", w, i, len(values))
		}
	}
	sound(t, b)
}
