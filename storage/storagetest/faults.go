package storagetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/storage"
)

// ErrInjected is the error of a call that the plan makes fail. It means that nothing
// happened, unless storage.ErrUnknown comes with it.
var ErrInjected = errors.New("injected fault")

// Verb names a method of storage.Bucket.
type Verb string

// The four methods.
const (
	Create Verb = "create"
	Get    Verb = "get"
	List   Verb = "list"
	Delete Verb = "delete"
)

// Call is one call of a Bucket, as a Plan sees it.
type Call struct {
	N    int      // 1, 2, 3 … in the order in which the calls came in
	Verb Verb     //
	Keys []string // the keys; of a List its prefix
}

// Fate is what happens to a call. For Get and List every fate but Succeed means Fail:
// they change nothing.
type Fate int

// The fates of a call that changes something.
const (
	Succeed Fate = iota // as the bucket below has it
	Fail                // ErrInjected: nothing happened and nothing will
	Applied             // ErrUnknown, but it was applied before the call returned
	Late                // ErrUnknown, not applied yet: it is applied by Land, or never
	Again               // ErrUnknown, applied, and Land may apply it again
)

// Fates lists all fates but Succeed, for a fault matrix.
func Fates() []Fate { return []Fate{Fail, Applied, Late, Again} }

// String returns the name of the fate for test names.
func (f Fate) String() string {
	return [...]string{"succeed", "fail", "applied", "late", "again"}[f]
}

// Outcome is the fate of a call and how long it takes. If the call's context ends, or
// the Faults are closed, while it waits, it returns ErrUnknown: during Before like
// Late, during After with its change applied.
type Outcome struct {
	Fate   Fate
	Before time.Duration // until anything happens
	After  time.Duration // from there to the answer
}

// Plan decides the outcome of each call. It may be called from many goroutines at once,
// and may block to delay a call.
type Plan func(Call) Outcome

// Nth is the plan that gives the nth call of all (counted from 1) the outcome
// o and lets the others succeed.
func Nth(n int, o Outcome) Plan {
	return func(c Call) Outcome {
		if c.N == n {
			return o
		}
		return Outcome{}
	}
}

// Odds are the probabilities of a random plan; the rest of 1 succeeds.
type Odds struct {
	Fail, Applied, Late, Again float64

	// Land is the probability that one of the pending changes is applied before a call.
	Land float64

	// Before and After are the longest delays, drawn for each call.
	Before, After time.Duration
}

// Faults is a bucket around another one whose calls fail according to a Plan. It stands
// for one process's connection to the store: give each simulated node its own around
// one shared bucket. It starts no goroutine, and all waiting uses timers, so it works
// inside the testing/synctest bubble in which it was made.
type Faults struct {
	below  storage.Bucket
	closed chan struct{}

	mu      sync.Mutex
	rng     *rand.Rand // guarded by mu
	plan    Plan       // guarded by mu; nil: all succeed
	calls   int        // guarded by mu
	pending []change   // guarded by mu: may land later, oldest first
}

// change is a Create or Delete that may still be applied, for the first time or again.
type change struct {
	call  Call
	apply func(context.Context) error
}

var _ storage.Bucket = (*Faults)(nil)

// NewFaults returns a Faults around b. All calls succeed until it gets a plan. The seed
// determines everything random in it.
func NewFaults(b storage.Bucket, seed uint64) *Faults {
	return &Faults{
		below:  b,
		closed: make(chan struct{}),
		rng:    rand.New(rand.NewPCG(seed, 0)),
	}
}

// Plan sets the plan for the calls to come; nil lets all succeed.
func (f *Faults) Plan(p Plan) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.plan = p
}

// Random sets a plan that draws each outcome with the given odds.
func (f *Faults) Random(o Odds) {
	f.Plan(func(Call) Outcome {
		f.mu.Lock()
		land := f.rng.Float64() < o.Land
		out := Outcome{Before: upTo(f.rng, o.Before), After: upTo(f.rng, o.After)}
		draw := f.rng.Float64()
		f.mu.Unlock()

		if land {
			f.LandOne()
		}
		for i, odds := range []float64{o.Fail, o.Applied, o.Late, o.Again} {
			if draw < odds {
				out.Fate = Fates()[i]
				break
			}
			draw -= odds
		}
		return out
	})
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return time.Duration(rng.Int64N(int64(d) + 1))
}

// Calls returns how many calls were made. In a run without faults that is the number of
// rows of a fault matrix.
func (f *Faults) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

// Pending returns the calls that may still be applied, oldest first.
func (f *Faults) Pending() []Call {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := make([]Call, len(f.pending))
	for i, c := range f.pending {
		calls[i] = c.call
	}
	return calls
}

// Land applies all pending changes, in random order, and returns how many there were.
// It works after Close too: requests of a dead process can still arrive.
func (f *Faults) Land() int {
	n := 0
	for f.LandOne() {
		n++
	}
	return n
}

// LandOne applies one pending change, drawn at random, and reports whether there was
// one.
func (f *Faults) LandOne() bool {
	f.mu.Lock()
	if len(f.pending) == 0 {
		f.mu.Unlock()
		return false
	}
	i := f.rng.IntN(len(f.pending))
	c := f.pending[i]
	f.pending = slices.Delete(f.pending, i, i+1)
	f.mu.Unlock()

	// A Create that finds the name taken arrived too late.
	_ = c.apply(context.Background())
	return true
}

// Forget drops all pending changes: they are never applied.
func (f *Faults) Forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = nil
}

// Unwrap returns the bucket that is tried.
func (f *Faults) Unwrap() storage.Bucket { return f.below }

// Close simulates the death of the process: calls that wait return, later calls fail
// and nothing happens, pending changes stay until Land or Forget. The bucket below
// stays open.
func (f *Faults) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.closed:
	default:
		close(f.closed)
	}
	return nil
}

// Create implements storage.Bucket.
func (f *Faults) Create(ctx context.Context, key string, body []byte) error {
	body = slices.Clone(body) // it may be applied after the caller has reused it
	return f.change(ctx, Create, []string{key}, func(ctx context.Context) error {
		return f.below.Create(ctx, key, body)
	})
}

// Delete implements storage.Bucket.
func (f *Faults) Delete(ctx context.Context, keys ...string) error {
	keys = slices.Clone(keys)
	return f.change(ctx, Delete, keys, func(ctx context.Context) error {
		return f.below.Delete(ctx, keys...)
	})
}

// Get implements storage.Bucket.
func (f *Faults) Get(ctx context.Context, key string, off, n int64) (body []byte, err error) {
	err = f.read(ctx, Get, key, func() error {
		body, err = f.below.Get(ctx, key, off, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// List implements storage.Bucket.
func (f *Faults) List(ctx context.Context, prefix, after string, max int) (keys []string, err error) {
	err = f.read(ctx, List, prefix, func() error {
		keys, err = f.below.List(ctx, prefix, after, max)
		return err
	})
	if err != nil {
		return nil, err
	}
	return keys, nil
}

// change runs a Create or Delete to its fate.
func (f *Faults) change(ctx context.Context, verb Verb, keys []string, apply func(context.Context) error) error {
	call, out, err := f.begin(ctx, verb, keys)
	if err != nil {
		return err
	}
	later := change{call, apply}
	if err := f.wait(ctx, out.Before); err != nil {
		if out.Fate != Fail {
			f.keep(later)
		}
		return unknown(verb, keys, err)
	}
	switch out.Fate {
	case Fail:
		err = fmt.Errorf("%s %q: %w", verb, keys, ErrInjected)
	case Late:
		f.keep(later)
		err = unknown(verb, keys, ErrInjected)
	case Applied, Again:
		_ = apply(ctx) // its answer is what gets lost
		if out.Fate == Again {
			f.keep(later)
		}
		err = unknown(verb, keys, ErrInjected)
	default:
		err = apply(ctx)
	}
	if waited := f.wait(ctx, out.After); waited != nil {
		return unknown(verb, keys, waited)
	}
	return err
}

// read runs a Get or List to its fate.
func (f *Faults) read(ctx context.Context, verb Verb, key string, do func() error) error {
	_, out, err := f.begin(ctx, verb, []string{key})
	if err != nil {
		return err
	}
	if err := f.wait(ctx, out.Before); err != nil {
		return fmt.Errorf("%s %s: %w", verb, key, err)
	}
	if out.Fate != Succeed {
		err = fmt.Errorf("%s %s: %w", verb, key, ErrInjected)
	} else {
		err = do()
	}
	if waited := f.wait(ctx, out.After); waited != nil {
		return fmt.Errorf("%s %s: %w", verb, key, waited)
	}
	return err
}

// begin numbers the call and asks the plan for its outcome.
func (f *Faults) begin(ctx context.Context, verb Verb, keys []string) (Call, Outcome, error) {
	if err := ctx.Err(); err != nil {
		return Call{}, Outcome{}, fmt.Errorf("%s %q: %w", verb, keys, err)
	}
	f.mu.Lock()
	f.calls++
	call, plan := Call{f.calls, verb, keys}, f.plan
	f.mu.Unlock()

	out := Outcome{}
	if plan != nil {
		out = plan(call)
	}
	select {
	case <-f.closed:
		return Call{}, Outcome{}, fmt.Errorf("%s %q: bucket closed: %w", verb, keys, ErrInjected)
	default:
		return call, out, nil
	}
}

// wait lets d pass unless the context ends or the Faults are closed first.
func (f *Faults) wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-f.closed:
		return ErrInjected
	}
}

func (f *Faults) keep(c change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pending = append(f.pending, c)
}

func unknown(verb Verb, keys []string, cause error) error {
	return fmt.Errorf("%s %q: %w: %w", verb, keys, storage.ErrUnknown, cause)
}
