package cluster

import (
	"context"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// witness looks in the bucket whether an owner that does not answer is alive: it is
// if its log grows. An owner that has nothing to write is asked there, once each time
// that it has to prove it, and answers with a slot.
type witness struct {
	s     *supervisor
	owner Node

	next    journal.Position // in the owner's log: a slot here is new
	listed  bool             // next is where the log ended when it was last listed
	grew    time.Time        // when the log was last seen to have grown
	asked   time.Time        // when the unanswered question was created; zero: there is none
	limit   time.Duration    // time after asked within which a live owner answers
	lastSaw time.Time        // when the last look that found nothing new began
}

// forget starts again: the owner has answered. next, if known, is the first slot that
// it had not acknowledged then.
func (w *witness) forget(next journal.Position) {
	w.listed, w.grew, w.asked, w.lastSaw = false, time.Time{}, time.Time{}, time.Time{}
	if next.Epoch == w.next.Epoch {
		w.next = next
	}
}

// look reports whether the log has grown since the last look. The first look only
// finds its end: what was written before the owner fell silent proves nothing. Every
// later look makes one request to the bucket; the first one, and each that finds
// something new, lists as well.
func (w *witness) look(ctx context.Context) (grown bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.s.m.o.Takeover)
	defer cancel()
	began := time.Now()
	if !w.listed {
		if w.next, err = journal.NextSlot(ctx, w.s.m.o.Bucket, w.s.shard, w.next); err != nil {
			return false, err
		}
		w.listed = true
		return false, w.ask(ctx, time.Since(began))
	}
	if grown, err = journal.HasSlot(ctx, w.s.m.o.Bucket, w.s.shard, w.next); err != nil {
		return false, err
	}
	if grown {
		if w.next, err = journal.NextSlot(ctx, w.s.m.o.Bucket, w.s.shard, w.next); err != nil {
			return true, nil // it has grown; the next look finds its end
		}
		w.grew, w.asked = began, time.Time{}
		return true, nil
	}
	w.lastSaw = began
	if w.asked.IsZero() && time.Since(w.grew) >= w.s.m.o.Takeover/2 {
		return false, w.ask(ctx, time.Since(began))
	}
	return false, nil
}

// ask creates a question. An owner looks for questions every half of the takeover
// time. In the rest of that time it must see the question and answer, in a slow
// bucket too: one is the time of a request before. One request that was slow by chance does
// not make the bucket a slow one.
func (w *witness) ask(ctx context.Context, one time.Duration) error {
	if w.owner.Boot == "" {
		return nil // a version that does not look for questions
	}
	began := time.Now()
	if err := journal.Ask(ctx, w.s.m.o.Bucket, w.s.shard, w.next.Epoch, w.s.m.o.Self.Name); err != nil {
		return err
	}
	w.s.m.counters.Asks.Add(1)
	w.asked = time.Now()
	w.limit = w.s.m.o.Takeover/2 + max(w.s.m.o.Takeover/4, 5*min(w.asked.Sub(began), 2*one))
	return nil
}

// due returns when the owner will have had the time to answer through the bucket.
func (w *witness) due() time.Duration {
	if w.asked.IsZero() {
		return 0
	}
	return w.limit - time.Since(w.asked)
}

// silent reports whether the bucket has had the time to show that the owner is alive,
// and has not shown it.
func (w *witness) silent() bool {
	if w.owner.Boot == "" {
		return !w.lastSaw.IsZero()
	}
	return !w.asked.IsZero() && w.lastSaw.Sub(w.asked) >= w.limit
}
