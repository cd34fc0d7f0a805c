package commitlog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// TestFaultMatrix: what was answered with success is there exactly once, the rest at
// most once.
func TestFaultMatrix(t *testing.T) { faultMatrix(t, false) }

// TestFaultMatrixHandOver is TestFaultMatrix for a log that is handed over while slots are
// in flight.
func TestFaultMatrixHandOver(t *testing.T) { faultMatrix(t, true) }

func faultMatrix(t *testing.T, handsOver bool) {
	spoilEach(t, 15, func(b storage.Bucket) audit {
		f := newLife()
		f.handsOver = handsOver
		f.live(b)
		return func(t *testing.T, b storage.Bucket, land func()) {
			m := &recorder{kinds: []uint16{100}}
			l, err := Open(within(t, time.Minute), options(b, with(m)))
			if err != nil {
				t.Fatal(err)
			}
			land()
			f.audit(t, l, m)
			must(l.Close())
			sound(t, b)
		}
	})
}

// audit compares a bucket with the answers of a life. It opens the log as the next
// owner, and then calls land, upon which the calls that were still under way arrive.
type audit func(t *testing.T, b storage.Bucket, land func())

// spoilEach plays a life and spoils each of its calls of the bucket, of which it must
// make some, in turn and in each way; then the process lives on, or dies at that call.
// Afterwards audit must find no error.
func spoilEach(t *testing.T, least int, live func(storage.Bucket) audit) {
	t.Helper()
	var calls int
	synctest.Test(t, func(t *testing.T) {
		f := storagetest.NewFaults(mem.New(), 1)
		f.Plan(slow)
		live(f)
		calls = f.Calls()
	})
	if calls < least {
		t.Fatalf("a life makes %d calls only", calls)
	}
	row := 0
	for n := 1; n <= calls; n++ {
		for _, fate := range storagetest.Fates() {
			for _, dies := range []bool{false, true} {
				if row++; storagetest.Race && row%5 != 0 { // all are run without the race detector
					continue
				}
				t.Run(fmt.Sprintf("call %d %v dies=%v", n, fate, dies), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { spoil(t, n, fate, dies, live) })
				})
			}
		}
	}
}

// slow lets each call take a while, so that slots are in flight together.
func slow(storagetest.Call) storagetest.Outcome {
	return storagetest.Outcome{Before: time.Millisecond}
}

func spoil(t *testing.T, n int, fate storagetest.Fate, dies bool, live func(storage.Bucket) audit) {
	b := mem.New()
	f := storagetest.NewFaults(b, uint64(n))
	f.Plan(func(c storagetest.Call) storagetest.Outcome {
		if dies && c.N > n {
			_ = f.Close() // nothing more leaves this process
		}
		if c.N == n {
			return storagetest.Outcome{Fate: fate, Before: time.Millisecond}
		}
		return slow(c)
	})
	balance := live(f)
	if dies {
		_ = f.Close()
	}
	balance(t, b, func() { f.Land() })
}

// life is what a short-lived owner did, and its answers.
type life struct {
	handsOver bool

	topic   state.Topic
	created error
	grown   error
	altered error
	retired error
	ids     []int64
	records map[string]error // by value; nil: durable
	commits map[string]error // the machine's
}

func newLife() *life {
	return &life{records: map[string]error{}, commits: map[string]error{}, created: errNever, grown: errNever, altered: errNever, retired: errNever}
}

var errNever = errors.New("never tried")

// live opens a log and does a bit of everything. It ends early when the log
// does.
func (f *life) live(b storage.Bucket) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	l, err := Open(ctx, options(b, with(&recorder{kinds: []uint16{100}})))
	if err != nil {
		return
	}
	defer func() {
		if l != nil {
			_ = l.Close()
		}
	}()
	// A dead process never hears of its slots: Close gives them up.
	first := l
	context.AfterFunc(ctx, func() { _ = first.Close() })
	if f.topic, f.created = l.CreateTopic(ctx, "t", 1, nil); f.created != nil {
		return
	}
	if id, err := l.NewProducerID(ctx); err == nil {
		f.ids = append(f.ids, id)
	}
	waits := map[string]<-chan result{}
	put := func(value string, a Append) {
		a.Topic = f.topic.ID
		waits[value] = send(l, a)
		synctest.Wait()
	}
	if f.handsOver {
		if l = f.handOver(ctx, b, l); l != nil {
			f.commits["100:y"] = l.Propose(ctx, 100, []byte("y"))
			_ = l.Maintain(ctx)
		}
		return
	}
	full := strings.Repeat(" ", leaveBytes) // leaves while others fly
	put("a", Append{Batch: recordtest.Batch("a" + full), Source: source("g", 1, 0, 1, 1)})
	put("b", Append{Batch: recordtest.Batch("b" + full), Source: source("g", 1, 1, 2, 2)})
	put("b again", Append{Batch: recordtest.Batch("b"), Source: source("g", 1, 1, 2, 2)})
	put("p", Append{Batch: recordtest.Produced(7, 0, 0, "p"+full)})
	put("p again", Append{Batch: recordtest.Produced(7, 0, 0, "p")})
	put("q", Append{Batch: recordtest.Produced(7, 0, 1, "q")})
	put("c", Append{Batch: recordtest.Batch("c")})
	f.commits["100:x"] = l.Propose(ctx, 100, []byte("x"))
	f.grown = l.GrowTopic(ctx, f.topic.ID, 2)
	f.altered = l.AlterTopic(ctx, f.topic.ID, map[string]string{"k": "v"})
	for value, answer := range waits {
		f.records[value] = (<-answer).err
	}
	// The first pass makes segments and a checkpoint, the second deletes slots,
	// and the segment that the third has no use for any more.
	for _, value := range []string{"d", "e"} {
		_ = l.Maintain(ctx)
		f.records[value] = (<-send(l, Append{Topic: f.topic.ID, Batch: recordtest.Batch(value)})).err
	}
	if f.records["b"] == nil {
		f.retired = l.Retire(ctx, "g", buffer(1))
	}
	f.commits["100:y"] = l.Propose(ctx, 100, []byte("y"))
}

// handOver makes another log of the process the successor of l, and returns it, or l if it
// goes on, or nil.
func (f *life) handOver(ctx context.Context, b storage.Bucket, l *Log) *Log {
	c, err := Prepare(ctx, options(b, with(&recorder{kinds: []uint16{100}})))
	if err != nil {
		return l
	}
	f.commits["100:x"] = l.Propose(ctx, 100, []byte("x"))
	flying := map[string]<-chan result{}
	for _, value := range []string{"k", "l", "m"} {
		flying[value] = send(l, Append{Topic: f.topic.ID, Batch: recordtest.Batch(value + strings.Repeat(" ", leaveBytes))})
	}
	_, err = l.HandOver(ctx, [16]byte{1}, func(ctx context.Context) error {
		if err := c.Claim(ctx, 0, [16]byte{1}); err != nil {
			return err
		}
		return c.Follow(ctx)
	})
	_ = l.Close()
	for value, answer := range flying {
		f.records[value] = (<-answer).err
	}
	if err != nil {
		c.Close()
		return nil
	}
	next, err := c.Take(ctx)
	if err != nil {
		return nil
	}
	context.AfterFunc(ctx, func() { _ = next.Close() })
	return next
}

// audit compares what was promised with what the next owner has.
func (f *life) audit(t *testing.T, l *Log, m *recorder) {
	t.Helper()
	topic, ok := l.Topic("t")
	if !ok {
		if f.created == nil {
			t.Fatal("the topic is gone")
		}
		return
	}
	if f.grown == nil && topic.Partitions != 2 {
		t.Error("the growth is gone")
	}
	if f.altered == nil && topic.Configs["k"] != "v" {
		t.Error("the settings are gone")
	}
	if f.retired == nil && l.BufferState("g", buffer(1)) != weir.BufferRetired {
		t.Error("the retirement is gone")
	}
	stored := map[string]int{}
	for _, v := range readAll(t, l, topic.ID, 0) {
		stored[strings.TrimSpace(v)]++
	}
	for value, err := range f.records {
		value = value[:1] // "b again" is b
		if n := stored[value]; n > 1 || n == 0 && err == nil {
			t.Errorf("%s is there %d times, the answer was %v", value, n, err)
		}
	}
	for value, err := range f.commits {
		n := len(slices.DeleteFunc(slices.Clone(m.got), func(s string) bool { return s != value }))
		if n > 1 || n == 0 && err == nil {
			t.Errorf("%s is applied %d times, the answer was %v", value, n, err)
		}
	}
	if id, err := l.NewProducerID(t.Context()); err != nil || slices.Contains(f.ids, id) {
		t.Errorf("producer id %d after %v, %v", id, f.ids, err)
	}
	// The stream goes on where its mark is, wherever that is.
	if f.retired != nil && l.BufferState("g", buffer(1)) != weir.BufferRetired {
		mark, err := l.Mark(t.Context(), *stream("g", 1), topic.ID, 0)
		if err != nil || mark > 2 || int(mark) != stored["a"]+stored["b"] {
			t.Errorf("mark %d, %v, with %v stored", mark, err, stored)
		}
		if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("z"), Source: source("g", 1, mark, 3, 3)}); base < 0 {
			t.Error("what comes next was taken for a duplicate")
		}
	}
}
