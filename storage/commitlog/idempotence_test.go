package commitlog

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/record/recordtest"
)

// A new owner takes a producer in the middle of its sequence only when nothing that
// it sent to the owner before can come any more. Those that are known go on at once.
func TestUnknownProducerAfterTakeover(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		l := open(t, b)
		topic := createTopic(t, l, "t", 1)
		put := func(batch record.Batch, base int64, want error) {
			t.Helper()
			if r := <-send(l, Append{Topic: topic.ID, Batch: batch}); r.base != base || !errors.Is(r.err, want) {
				t.Errorf("%+v, want %d %v", r, base, want)
			}
		}
		put(recordtest.Produced(7, 0, 5, "a"), 0, nil) // the first owner of the bucket
		put(recordtest.Produced(7, 0, 4, "b"), -1, state.ErrOutOfOrderSequence)
		put(recordtest.Transactional(8, 0, 3, "a"), 1, nil)

		l = open(t, b)
		put(recordtest.Produced(7, 0, 6, "b"), 2, nil)
		put(recordtest.Produced(7, 0, 5, "a"), 0, nil) // a duplicate
		put(recordtest.Transactional(8, 0, 4, "b"), 3, nil)
		put(recordtest.Produced(9, 0, 1, "a"), -1, state.ErrUnknownProducer)
		time.Sleep(overtaking)
		put(recordtest.Produced(9, 0, 1, "a"), 4, nil)
		put(recordtest.Produced(9, 0, 0, "b"), -1, state.ErrOutOfOrderSequence)
		sound(t, b)
	})
}

// A duplicate of what flies gets the same offset, and not before it is durable.
func TestProducerInFlight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := mem.New()
		g := newGate(b)
		l := open(t, g, func(o *Options) { o.Depth = 10 })
		topic := createTopic(t, l, "t", 1)
		appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Batch("x")})
		release := g.hold()
		full := strings.Repeat("x", leaveBytes)
		put := func(epoch int16, sequence int32, n int) <-chan result {
			values := make([]string, n)
			values[0] = full // leaves while others fly
			a := send(l, Append{Topic: topic.ID, Batch: recordtest.Produced(7, epoch, sequence, values...)})
			synctest.Wait()
			return a
		}
		answers := []<-chan result{put(0, 0, 2), put(0, 2, 1), put(0, 0, 2), put(0, 4, 1), put(1, 0, 1), put(0, 3, 1)}
		for i, a := range answers {
			if !pending(a) {
				t.Errorf("answer %d is early", i)
			}
		}
		release()
		want := []result{{1, nil}, {3, nil}, {1, nil}, {-1, state.ErrOutOfOrderSequence}, {4, nil}, {-1, state.ErrProducerFenced}}
		for i, a := range answers {
			if r := <-a; r.base != want[i].base || !errors.Is(r.err, want[i].err) {
				t.Errorf("answer %d is %+v, want %+v", i, r, want[i])
			}
		}
		// The history is in the log: the next owner knows it.
		l = open(t, b)
		if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Produced(7, 1, 0, "")}); base != 4 {
			t.Errorf("duplicate at the new owner got offset %d", base)
		}
		if r := <-send(l, Append{Topic: topic.ID, Batch: recordtest.Produced(7, 0, 3, "")}); !errors.Is(r.err, state.ErrProducerFenced) {
			t.Error(r.err)
		}
		if base := appended(t, l, Append{Topic: topic.ID, Batch: recordtest.Produced(7, 1, 1, "")}); base != 5 {
			t.Error(base)
		}
		sound(t, b)
	})
}

func TestNewProducerID(t *testing.T) {
	b := mem.New()
	seen := map[int64]bool{}
	for range 3 { // each owner takes up where the last one may have been
		l := open(t, b)
		for range idBlockSize + 10 {
			id, err := l.NewProducerID(t.Context())
			if err != nil || id <= 0 || seen[id] {
				t.Fatal(id, err, seen[id])
			}
			seen[id] = true
		}
	}
	sound(t, b)
}
