// Package quota limits how much of the server clients may use: bytes per second that
// they write and read, and time for their requests, for users, clients and their
// combinations (KIP-13, KIP-55, KIP-124). The limits are in the journal; each owner of
// the shard counts their use by itself.
package quota

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

// Limits of what is stored.
const (
	MaxEntries = 10_000
	MaxName    = 1_000 // bytes: of a user, a client id
)

// Default, as a name, stands for all users or clients without limits of their own.
const Default = "<default>"

// Entity is what limits apply to: a user, a client id, or a client id of a user. A part
// that is not given is "".
type Entity struct {
	User   string `json:"user,omitempty"`
	Client string `json:"client,omitempty"`
}

// Limits of an entity; 0: none.
type Limits struct {
	Produce int64   `json:"produce,omitempty"` // bytes per second
	Consume int64   `json:"consume,omitempty"` // bytes per second
	Request float64 `json:"request,omitempty"` // time of work in each second, in percent: 100 is one core's
}

// Entry is an entity with its limits.
type Entry struct {
	Entity
	Limits
}

func (e Entry) check() error {
	if e.Entity == (Entity{}) {
		return fmt.Errorf("%w: it is for a user, a client, or both", ErrInvalid)
	}
	for _, name := range []string{e.User, e.Client} {
		if len(name) > MaxName || strings.ToValidUTF8(name, "") != name {
			return fmt.Errorf("%w: a name has more than %d bytes, or is no text", ErrInvalid, MaxName)
		}
	}
	if e.Produce < 0 || e.Consume < 0 {
		return fmt.Errorf("%w: bytes per second are positive", ErrInvalid)
	}
	if e.Request < 0 || math.IsNaN(e.Request) || math.IsInf(e.Request, 0) {
		return fmt.Errorf("%w: a percentage of request time is positive and finite", ErrInvalid)
	}
	return nil
}

// Options configure Quotas.
type Options struct {
	Now func() time.Time // the clock for counting use; nil means time.Now
}

// Quotas is a state.Machine.
type Quotas struct {
	now     func() time.Time
	timed   atomic.Int64  // how many limits are on time; changed with mu held
	changes atomic.Uint64 // see Changes

	changing machine.Turn // one change at a time, from the check to the durable entry
	log      machine.Log  // set by Start

	mu      sync.Mutex // guards what follows
	limits  map[Entity]Limits
	buckets map[bucketKey]*bucket // not part of the journal's state
}

// New returns Quotas without limits.
func New(o Options) *Quotas {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Quotas{now: o.Now, limits: make(map[Entity]Limits), buckets: make(map[bucketKey]*bucket)}
}

// Start begins to serve.
func (q *Quotas) Start(_ context.Context, log machine.WaitingLog) { q.Serve(log) }

// Serve makes Quotas accept changes, which it writes to log.
func (q *Quotas) Serve(log machine.Log) { q.log = log }

// Close ends the service, for which nothing runs.
func (q *Quotas) Close() error { return nil }

// timed is 1 if one of the limits is on time.
func (l Limits) timed() int64 {
	if l.Request > 0 {
		return 1
	}
	return 0
}

// Set changes the limits of an entity by calling change, or only checks whether that is
// possible. Durable on return. Errors: ErrInvalid, ErrTooMany.
func (q *Quotas) Set(ctx context.Context, e Entity, change func(*Limits), dry bool) error {
	defer q.changing.Take(ctx)()
	q.mu.Lock()
	was, exists := q.limits[e]
	full := len(q.limits) >= MaxEntries && !exists
	q.mu.Unlock()
	next := Entry{e, was}
	change(&next.Limits)
	if err := next.check(); err != nil {
		return err
	}
	if full && next.Limits != (Limits{}) {
		return fmt.Errorf("%w: there may be %d", ErrTooMany, MaxEntries)
	}
	if dry || next.Limits == was {
		return nil
	}
	return machine.Propose(ctx, q.log, kindLimits, "a quota entry", next)
}

// Entries lists all limits, by user and client.
func (q *Quotas) Entries() []Entry {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := make([]Entry, 0, len(q.limits))
	for entity, limits := range q.limits {
		all = append(all, Entry{entity, limits})
	}
	slices.SortFunc(all, func(a, b Entry) int {
		return cmp.Or(strings.Compare(a.User, b.User), strings.Compare(a.Client, b.Client))
	})
	return all
}
