package broker

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// TestAwaitSure: a request waits if what this node owns was not confirmed for a while, until
// it is known whether that is still so.
func TestAwaitSure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		if err := awaitSure(Mutations{}); err != nil {
			t.Error(err)
		}
	})
}

// awaitSure is called in a bubble of synctest.
func awaitSure(m Mutations) error {
	const takeover = 2 * time.Second
	b := newBroker(Options{Takeover: takeover, Mutations: m})
	waited := func() time.Duration {
		began := time.Now()
		b.AwaitSure(context.Background())
		return time.Since(began)
	}
	stopped := func() { // the process does not run for a while
		b.change(3, "", func(served) served { return served{owner: b.o.Self, lease: newLease(time.Now())} })
		time.Sleep(3 * time.Second)
	}
	for name, c := range map[string]struct {
		then func()
		want time.Duration
	}{
		"it is confirmed":     {func() { b.Sure(3, time.Now()) }, takeover / 4},
		"another node has it": {func() { b.FollowAt(3, Node{ID: 2, Name: "b"}, 7, "") }, takeover / 4},
		"it is in doubt": {func() {
			b.replace(func(next *table) {
				s := next.shards[3]
				s.doubt = true
				next.shards[3] = s
			})
			b.turnOver()
		}, takeover / 4},
		"an old answer comes": {func() { b.Sure(3, time.Now().Add(-2*time.Second)) }, takeover},
	} {
		stopped()
		timer := time.AfterFunc(takeover/4, c.then)
		got := waited()
		timer.Stop()
		if got != c.want {
			return fmt.Errorf("%s: waited for %v, want %v", name, got, c.want)
		}
	}
	b.change(3, "", func(served) served { return served{owner: b.o.Self, lease: newLease(time.Now())} })
	time.Sleep(takeover / 2) // a node that runs asks so often
	if got := waited(); got != 0 {
		return fmt.Errorf("a node that is sure has waited for %v", got)
	}
	b.Sure(3, time.Now())
	b.Sure(3, time.Now().Add(-takeover)) // two questions, answered in the other order
	if got := waited(); got != 0 {
		return fmt.Errorf("after the answer to an earlier question, a node that is sure has waited for %v", got)
	}
	stopped()
	ctx, cancel := context.WithTimeout(context.Background(), takeover/8)
	defer cancel()
	began := time.Now()
	if b.AwaitSure(ctx); time.Since(began) != takeover/8 {
		return fmt.Errorf("a client that is gone has waited for %v", time.Since(began))
	}
	return nil
}
