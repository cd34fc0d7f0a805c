package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/weirmq/weir/storage/journal"
)

// SureTime is how old an owner's last confirmation may be when it begins a request that it
// answers from memory. Another node takes over after a silence of the takeover time, which
// may have begun one ping before the confirmation.
func SureTime(takeover time.Duration) time.Duration { return takeover * 3 / 4 }

// Confirm keeps asking the bucket whether another node has claimed the shard: an idle
// owner writes nothing and would never notice. It returns journal.ErrFenced when one
// has. It calls doubt when the last question that was answered was asked the takeover time
// ago, and again when a later one is answered. ask may be called while an earlier call is
// still under way.
//
// It asks every half of the takeover time, and so often that the last confirmation does not
// get older than SureTime if one request fails or is late: a slow bucket is asked earlier,
// and a question without an answer is repeated.
func Confirm(ctx context.Context, takeover time.Duration, ask func(context.Context) error, doubt func(bool)) error {
	if takeover == 0 {
		takeover = DefaultTakeover
	}
	ctx, cancel := context.WithCancel(ctx)
	c := confirming{takeover: takeover, answers: make(chan confirmed, mostQuestions), sure: time.Now(), answered: true}
	c.next = c.sure.Add(c.pause(0))
	defer c.asking.Wait()
	defer cancel()
	doubting := false
	for {
		if now := time.Since(c.sure) >= takeover; now != doubting {
			doubting = now
			doubt(now)
		}
		timer := time.NewTimer(c.idle(doubting))
		select {
		case <-ctx.Done():
		case a := <-c.answers:
			if errors.Is(a.err, journal.ErrFenced) {
				return a.err
			}
			c.take(a)
		case <-timer.C:
			if c.underWay < mostQuestions && !time.Now().Before(c.next) {
				c.question(ctx, ask)
			}
		}
		timer.Stop()
		if ctx.Err() != nil {
			return nil
		}
	}
}

// mostQuestions is how many questions of Confirm are under way at once.
const mostQuestions = 2

// confirming is the state of Confirm.
type confirming struct {
	takeover time.Duration
	answers  chan confirmed
	asking   sync.WaitGroup

	underWay int           // questions without an answer so far
	sure     time.Time     // when the newest of the questions was asked that were answered
	turn     time.Time     // when the question was asked that was repeated if it was late
	answered bool          // it, or one that repeats it, is answered: next is for the next one
	failed   int           // answers in a row that were errors
	took     time.Duration // how long an answer takes: the longest one lately
	next     time.Time     // when to ask again
}

// confirmed is an answer of the bucket.
type confirmed struct {
	asked time.Time
	took  time.Duration
	err   error
}

// late returns how long after a question without an answer it is repeated: when it takes
// longer than others lately. Then the request may be lost.
func (c *confirming) late() time.Duration { return max(c.takeover/8, c.took*9/8) }

// pause returns how long after a question the next one is due, if its answer took so long.
// In a fast bucket that is half of the takeover time after the answer. In a slow one a
// question must be able to fail and be repeated in time.
func (c *confirming) pause(took time.Duration) time.Duration {
	slow := SureTime(c.takeover) - c.late() - c.took - c.takeover/32
	return max(min(c.takeover/2+took, slow), c.takeover/8)
}

// idle returns how long there is nothing to do if no answer comes.
func (c *confirming) idle(doubting bool) time.Duration {
	d := c.takeover
	if c.underWay < mostQuestions {
		d = min(d, time.Until(c.next))
	}
	if !doubting {
		d = min(d, time.Until(c.sure.Add(c.takeover)))
	}
	return d
}

// question asks, and says when to ask once more if no answer comes.
func (c *confirming) question(ctx context.Context, ask func(context.Context) error) {
	c.underWay++
	asked := time.Now()
	if c.answered {
		c.turn, c.answered = asked, false
	}
	c.next = asked.Add(c.late())
	c.asking.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, c.takeover/2)
		defer cancel()
		err := ask(ctx)
		c.answers <- confirmed{asked, time.Since(asked), err}
	})
}

// take records an answer, and when to ask next. After an error it asks at once, and then
// again and again after a while.
func (c *confirming) take(a confirmed) {
	c.underWay--
	switch {
	case a.err == nil && a.asked.After(c.sure):
		c.sure = a.asked // the answer is at least as new as the question
		c.took = max(a.took, c.took*7/8)
		if !a.asked.Before(c.turn) {
			c.failed, c.answered = 0, true
			c.next = a.asked.Add(c.pause(a.took))
		}
	case a.err == nil || c.underWay > 0: // there may be an answer to the other question
	default:
		c.next = time.Now()
		if c.failed++; c.failed > 1 {
			c.next = c.next.Add(c.takeover / 8)
		}
	}
}
