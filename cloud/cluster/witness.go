package cluster

import (
	"context"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// witness looks in the bucket whether an owner lives that does not answer: it
// does if its log grows. One that has nothing to write is asked there, once
// for each time that it must have shown itself, and answers with a slot.
type witness struct {
	o     Options
	owner Node

	next    journal.Position // of the owner's log: what lies there now is new
	listed  bool             // next is where the log ends, or ended
	grew    time.Time        // when the log was last seen to have grown
	asked   time.Time        // when the question was created that has no answer; zero: there is none
	limit   time.Duration    // after asked: by then an owner that lives has answered
	lastSaw time.Time        // when the last look began that found nothing new
}

// forget begins anew: the owner has answered, and next, if it is known, is what
// it had not acknowledged then.
func (w *witness) forget(next journal.Position) {
	w.listed, w.grew, w.asked, w.lastSaw = false, time.Time{}, time.Time{}, time.Time{}
	if next.Epoch == w.next.Epoch {
		w.next = next
	}
}

// look reports whether the log has grown since the last look. The first look
// only finds out where it ends, for what was written until the owner fell silent
// says nothing. Every look asks the bucket once, the first one and each that
// finds something new lists as well.
func (w *witness) look(ctx context.Context) (grown bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.o.Takeover)
	defer cancel()
	began := time.Now()
	if !w.listed {
		if w.next, err = journal.NextSlot(ctx, w.o.Bucket, w.o.Shard, w.next); err != nil {
			return false, err
		}
		w.listed = true
		return false, w.ask(ctx)
	}
	if grown, err = journal.HasSlot(ctx, w.o.Bucket, w.o.Shard, w.next); err != nil {
		return false, err
	}
	if grown {
		if w.next, err = journal.NextSlot(ctx, w.o.Bucket, w.o.Shard, w.next); err != nil {
			return true, nil // it has grown; where it ends the next look finds out
		}
		w.grew, w.asked = began, time.Time{}
		return true, nil
	}
	w.lastSaw = began
	if w.asked.IsZero() && time.Since(w.grew) >= w.o.Takeover/2 {
		return false, w.ask(ctx)
	}
	return false, nil
}

// ask creates a question. An owner looks for one every half of the takeover
// time; in what is left it must see it and answer, in a slow bucket too.
func (w *witness) ask(ctx context.Context) error {
	if w.owner.Boot == "" {
		return nil // of a version that does not look
	}
	began := time.Now()
	if err := journal.Ask(ctx, w.o.Bucket, w.o.Shard, w.next.Epoch, w.o.Self.Name); err != nil {
		return err
	}
	w.o.Counters.Asks.Add(1)
	w.asked = time.Now()
	w.limit = w.o.Takeover/2 + max(w.o.Takeover/4, 5*w.asked.Sub(began))
	return nil
}

// silent reports whether the bucket had the time to show that the owner lives,
// and did not.
func (w *witness) silent() bool {
	if w.owner.Boot == "" {
		return !w.lastSaw.IsZero()
	}
	return !w.asked.IsZero() && w.lastSaw.Sub(w.asked) >= w.limit
}
