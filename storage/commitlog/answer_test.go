package commitlog

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/storagetest"
)

// TestAnswer: an idle owner that is asked writes a slot with no entries, with
// which the log is whole, and an owner that is not asked writes nothing.
func TestAnswer(t *testing.T) {
	b := mem.New()
	l := open(t, b)
	if who, asked, err := l.Answer(t.Context()); who != "" || asked || err != nil {
		t.Errorf("asked %v by %q, %v", asked, who, err)
	}
	if got, want := l.Acked(), (journal.Position{Epoch: 1, Slot: 1}); got != want {
		t.Errorf("acknowledged up to %v, want %v", got, want)
	}
	for n := range uint64(3) {
		if err := journal.Ask(t.Context(), b, 0, 1, "b"); err != nil {
			t.Fatal(err)
		}
		if who, asked, err := l.Answer(t.Context()); who != "b" || !asked || err != nil {
			t.Errorf("asked %v by %q, %v", asked, who, err)
		}
		if got, want := l.Acked(), (journal.Position{Epoch: 1, Slot: n + 2}); got != want {
			t.Errorf("acknowledged up to %v, want %v", got, want)
		}
		if grown, err := journal.HasSlot(t.Context(), b, 0, journal.Position{Epoch: 1, Slot: n + 1}); !grown || err != nil {
			t.Errorf("the answer is not in the bucket: %v", err)
		}
	}
	topic := createTopic(t, l, "after", 1).ID
	appended(t, l, Append{Topic: topic, Batch: recordtest.Batch("one")})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	sound(t, b)
	l = open(t, b)
	defer l.Close()
	if got, want := l.Acked(), (journal.Position{Epoch: 2, Slot: 1}); got != want {
		t.Errorf("the next owner has acknowledged up to %v, want %v", got, want)
	}
}

// TestAnswerWithoutBucket: the answer waits for the bucket as any append does,
// and as long as its context.
func TestAnswerWithoutBucket(t *testing.T) {
	way := storagetest.NewFaults(mem.New(), 1)
	l := open(t, way)
	defer l.Close()
	if err := journal.Ask(t.Context(), way, 0, 1, "b"); err != nil {
		t.Fatal(err)
	}
	way.Plan(func(c storagetest.Call) storagetest.Outcome {
		if c.Verb == storagetest.Create {
			return storagetest.Outcome{Fate: storagetest.Fail}
		}
		return storagetest.Outcome{}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, asked, err := l.Answer(ctx); !asked || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("asked %v, %v", asked, err)
	}
	way.Plan(nil)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.Answer(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("a closed log answers with %v", err)
	}
}
