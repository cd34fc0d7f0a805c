package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// handover is a hand-over of a shard whose log takes three seconds to read, and what goes
// wrong in it.
type handover struct {
	happens func(w *world) successor
	claims  int           // takeovers; none of them is needed if nobody dies
	moves   int           // the least
	gap     time.Duration // without an owner, at most
	mutated mutations
}

// once returns a successor that does something the first time that a step is done.
func once(step Step, do func(owner, next *host) error) func(*world) successor {
	return func(*world) successor {
		var first sync.Once
		return func(owner, next *host, now Step, done bool) (err error) {
			if now == step && done {
				first.Do(func() { err = do(owner, next) })
			}
			return err
		}
	}
}

const recovers = 3 * time.Second

func handovers() map[string]handover {
	const T = 2 * time.Second
	return map[string]handover{
		"nothing happens": {moves: 2, gap: T / 4},
		"an earlier version": {moves: 2, gap: recovers + T/2, happens: func(w *world) successor {
			w.earlier = true
			return nil
		}},
		"it declines":            {gap: T / 4, happens: func(*world) successor { return func(_, _ *host, _ Step, _ bool) error { return ErrDeclined } }},
		"it dies with its claim": {moves: 1, gap: T / 2, happens: once(StepClaim, func(_, next *host) error { next.kill(); return nil })},
		"its answer is lost": {moves: 2, gap: T / 2, happens: func(*world) successor {
			var first sync.Once
			return func(_, _ *host, step Step, done bool) (err error) {
				first.Do(func() { err = errLost })
				return err
			}
		}},
		"it dies when it is to take over": {moves: 1, gap: T, happens: func(*world) successor {
			return func(_, next *host, step Step, _ bool) error {
				if step == StepTake {
					next.kill()
				}
				return nil
			}
		}},
		"it is frozen when it is to take over": {moves: 1, gap: 2 * T, happens: once(StepClaim, func(_, next *host) error {
			time.AfterFunc(time.Minute, next.resume)
			next.freeze()
			return nil
		})},
		"the owner dies behind the claim": {claims: 3, gap: 3 * T, happens: once(StepClaim, func(owner, _ *host) error { owner.kill(); return nil })},
	}
}

// run plays it with a node that has four shards, and another one that comes. It returns what
// was not as it should be.
func (h handover) run(t *testing.T, seed uint64) (faults []string) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, seed)
		w.takeover, w.latency, w.recovery, w.mutations = 2*time.Second, 20*time.Millisecond, recovers, h.mutated
		w.idle = func(shard uint32) bool { return shard%2 == 0 }
		defer w.end()
		w.start("a")
		time.Sleep(20 * time.Second)
		w.figures()
		if h.happens != nil {
			w.succeeds = h.happens(w)
		}
		w.start("b")
		time.Sleep(90 * time.Second)
		f := w.figures()
		if f.none > 0 || f.claims > h.claims || f.moves < h.moves || f.gap > h.gap {
			faults = append(faults, fmt.Sprintf("%+v, want %d takeovers and a gap of %v at most, and at least %d moves", f, h.claims, h.gap, h.moves))
		}
	})
	return faults
}

// TestHandOver: only the time between the end of one epoch and the beginning of the next is
// without an owner. Whatever becomes of the successor, somebody serves the shard soon.
func TestHandOver(t *testing.T) {
	for name, h := range handovers() {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(rounds(20)) {
				for _, fault := range h.run(t, seed) {
					t.Error(fault)
				}
			}
		})
	}
}

// TestNoSuccessorAtTheEnd: a node that has ended becomes no candidate any more: nobody would
// wait for that.
func TestNoSuccessorAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 2, 1)
		defer w.end()
		w.start("a")
		time.Sleep(30 * time.Second)
		b := w.start("b")
		time.Sleep(30 * time.Second)
		of := uint32(0)
		if w.owner(of) == "b" {
			of = 1
		}
		m := b.manager()
		epoch := m.shards[of].known
		b.mu.Lock()
		cancel := b.cancel
		b.mu.Unlock()
		cancel()
		b.lives.Wait()
		for _, step := range []Step{StepFollow, StepClaim} {
			if done, err := m.succeed(t.Context(), Succession{of, epoch, [16]byte{1}, step}); done || err == nil || !strings.Contains(err.Error(), "stops") {
				t.Errorf("%s: %v, %v", step, done, err)
			}
		}
	})
}

// TestSuccession: a step arrives as it was sent.
func TestSuccession(t *testing.T) {
	q := Succession{Shard: 3, Epoch: 7, Nonce: [16]byte{1, 2, 255}, Step: StepTake}
	body, err := q.Encode()
	if err != nil || len(body) > MaxSuccession {
		t.Fatal(len(body), err)
	}
	if got, err := readSuccession(append(bytes.TrimSuffix(body, []byte("}")), `,"later":1}`...)); err != nil || got != q {
		t.Errorf("read %+v, %v", got, err)
	}
	for _, change := range [][2]string{{`"epoch":7`, `"epoch":0`}, {"0102ff", "01ff"}, {"0102ff00000000000000000000000000", "00000000000000000000000000000000"}, {"take", "steal"}, {"{", ""}} {
		if got, err := readSuccession(bytes.Replace(body, []byte(change[0]), []byte(change[1]), 1)); !errors.Is(err, errSuccession) {
			t.Errorf("with %q: %+v, %v", change[1], got, err)
		}
	}
	for answer, want := range map[string]error{`{"done":true}`: nil, `{}`: nil, `{"declined":"no"}`: ErrDeclined, `[`: errSuccession} {
		if done, err := ReadSucceeded([]byte(answer)); !errors.Is(err, want) || done != (answer == `{"done":true}`) {
			t.Errorf("%s: %v, %v", answer, done, err)
		}
	}
	m := New(ManagerOptions{Shards: func() uint32 { return 1 }})
	if answer, err := m.Succeeds(context.Background(), body); err != nil || !bytes.Contains(answer, []byte("declined")) {
		t.Errorf("of a shard that is not known: %s, %v", answer, cmp.Or(err, errors.New("no error")))
	}
}
