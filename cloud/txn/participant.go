package txn

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/weir"
)

// Participant is what one shard has of transactions whose coordinators are in other
// shards, while this node owns it. It is a state.Machine.
//
// A transaction has a number, which grows with each of its transactional id. Before
// anything becomes part of it here, the coordinator is asked for the number, and records
// that this shard is part of it. The end comes with the number, too: one that repeats an
// earlier end does nothing, and nothing of a number that has ended is admitted any more,
// however late the coordinator's answer comes. As in Coordinator, what adds to a
// transaction is counted from its admission until its outcome is known, and the end waits
// until the count is zero.
type Participant struct {
	opts Options
	log  Log // set by Start, before any other call

	ctx     context.Context // of the goroutines, from Start to Close
	stop    context.CancelFunc
	running sync.WaitGroup // the goroutine that forgets, and those that ask coordinators

	mu        sync.Mutex               // guards everything below, and every participation
	serving   bool                     // between Start and Close
	producers map[int64]*participation // by producer id
	settling  bool                     // nothing new becomes part of a transaction
	away      weir.SliceSet            // groups and partitions in these slices are, or are about to be, in another shard
}

// participation is a producer's transactions in this shard.
type participation struct {
	id int64
	participated

	open     uint64            // number of the transaction that something was admitted to; 0: none, or an earlier owner did
	verified map[Part]uint64   // parts of that transaction, with its number
	asking   map[Part]*waiting // parts that the coordinator is being asked about
	staging  map[*staging]struct{}
	inFlight int           // what was admitted and whose outcome is not known yet
	idle     chan struct{} // closed when inFlight is zero; not nil while an end waits for that
	ending   chan struct{} // closed when the end under way is over; nil if there is none
}

// participated is the part of a participation that comes from entries of the log. Only
// Apply changes it.
type participated struct {
	ended   uint64             // number of the last transaction that has ended
	updated int64              // ms since 1970
	number  uint64             // of the transaction that has staged offsets; 0: none has
	groups  map[string]offsets // offsets that wait for a commit
	size    int                // bytes that their commit will take
}

// waiting are batches that wait for an answer of the coordinator, in order.
type waiting []func(admitted error)

// NewParticipant returns an empty participant. It serves after Start.
func NewParticipant(o Options) *Participant {
	return &Participant{opts: o.withDefaults(), producers: make(map[int64]*participation)}
}

// Start begins to serve.
func (p *Participant) Start(_ context.Context, log machine.WaitingLog) { p.serve(log) }

func (p *Participant) serve(log Log) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ctx, p.stop = context.WithCancel(context.Background())
	p.log, p.serving = log, true
	if p.opts.Shards != nil {
		p.running.Go(func() { p.sweep(p.ctx) })
	}
}

// Close stops the goroutines and waits for them; they may be waiting for the log. Later
// requests get ErrClosed. Requests under way end as the log does.
func (p *Participant) Close() error {
	p.mu.Lock()
	serving := p.serving
	p.serving = false
	p.mu.Unlock()
	if serving {
		p.stop()
		p.running.Wait()
	}
	return nil
}

// of returns the participation of a producer. The caller holds mu.
func (p *Participant) of(id int64) *participation {
	x, ok := p.producers[id]
	if !ok {
		x = &participation{id: id, verified: make(map[Part]uint64), asking: make(map[Part]*waiting), staging: make(map[*staging]struct{})}
		p.producers[id] = x
	}
	return x
}

// drop forgets a participation of which nothing is to be remembered. The caller holds mu.
func (p *Participant) drop(x *participation) {
	if x.ended == 0 && x.number == 0 && !x.active() && p.producers[x.id] == x {
		delete(p.producers, x.id)
	}
}

// active reports whether anything is remembered that is not durable.
func (x *participation) active() bool {
	return x.open != 0 || x.inFlight > 0 || x.ending != nil || len(x.verified)+len(x.asking)+len(x.staging) > 0
}

// admit decides whether something may become part of a transaction, and counts it if it
// may. It says to ask again if that transaction has ended, or is about to: the coordinator
// decides then. The caller holds mu.
func (p *Participant) admit(x *participation, number uint64) error {
	switch {
	case !p.serving:
		return ErrClosed
	case x.ending != nil, p.settling && x.open == 0, number <= x.ended && !noRecheck(p.opts.Mutations), x.open != 0 && x.open != number:
		return ErrConcurrent
	}
	x.open = number
	x.inFlight++
	return nil
}

// done undoes the count of admit.
func (p *Participant) done(x *participation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if x.inFlight--; x.inFlight == 0 && x.idle != nil {
		close(x.idle)
		x.idle = nil
	}
}

// verify asks the coordinator for the number of a transaction of which part is one.
func (p *Participant) verify(ctx context.Context, part Part) (uint64, error) {
	if noVerify(p.opts.Mutations) {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.of(part.Producer.ID).ended + 1, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tellTime)
	defer cancel()
	number, err := p.opts.Shards.Verify(ctx, part)
	if err == nil || slices.ContainsFunc(decisive, func(e error) bool { return errors.Is(err, e) }) {
		return number, err
	}
	// Where the coordinator is, is nothing that the caller asked for.
	return 0, fmt.Errorf("ask the coordinator of transactional id %q: %w: %v", part.ID, ErrUnavailable, err)
}

// decisive are the errors that are a coordinator's answer. It is not changed.
var decisive = []error{ErrInvalidID, ErrUnknownID, ErrFenced, ErrConcurrent, ErrNotInTransaction, ErrTooLarge}

// Pending returns the partitions of a group in which a transaction with a coordinator
// elsewhere may commit an offset. See Coordinator.Pending.
func (p *Participant) Pending(name string) map[group.Partition]struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	pending := make(map[group.Partition]struct{})
	for _, x := range p.producers {
		for at := range x.groups[name] {
			pending[at] = struct{}{}
		}
		for s := range x.staging {
			s.addTo(pending, name)
		}
	}
	return pending
}

// sweep forgets producers that have ended no transaction for long, until ctx ends.
//
// What is forgotten is the number of the last end. It is of use while something about that
// transaction can still arrive: for seconds, unless a process was stopped meanwhile. If the
// same end comes once more although nothing new has begun, there is a second marker, which
// changes nothing.
func (p *Participant) sweep(ctx context.Context) {
	for {
		p.forget(p.opts.Now().Add(-p.opts.Expiry).UnixMilli())
		select {
		case <-time.After(sweepEvery):
		case <-ctx.Done():
			return
		}
	}
}
