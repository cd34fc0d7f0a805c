package txn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Log is the part of the commit log that the coordinator uses. The log passes entries
// to Coordinator.Apply before its calls return. Calls from one goroutine keep their
// order.
type Log interface {
	Append(a commitlog.Append, done func(base int64, err error))
	Submit(p commitlog.Proposal, done func(bases []int64, err error))
	ProposeAll(ctx context.Context, commands []commitlog.Command, end *commitlog.TransactionEnd) error
	NewProducerID(ctx context.Context) (int64, error)
	TopicByID(id weir.TopicID) (state.Topic, bool) // false only if the topic was deleted
}

// Options of a Coordinator. The zero value of each field means its default.
type Options struct {
	Shard      uint32             // its number; of use only with Shards
	Shards     Shards             // nil: there is one shard only
	Groups     *group.Coordinator // of the same shard; required for transactions with offsets
	MaxTimeout time.Duration      // longest transaction timeout accepted; 15 min
	Expiry     time.Duration      // a transactional id is forgotten after this long without a transaction; 7 days
	MaxIDs     int                // transactional ids; 100,000
	MaxBytes   int                // bytes that the end of one transaction may take in a slot: 256 for each partition, offsets with their metadata; 2 MiB
	Ended      func(Ending)       // called when the end of a transaction is durable; it must not block
	Now        func() time.Time   // time.Now
	Log        *slog.Logger       // slog.Default

	Mutations Mutations // of tests
}

func (o Options) withDefaults() Options {
	o.MaxTimeout = cmp.Or(o.MaxTimeout, 15*time.Minute)
	o.Expiry = cmp.Or(o.Expiry, 7*24*time.Hour)
	o.MaxIDs = cmp.Or(o.MaxIDs, 100_000)
	o.MaxBytes = cmp.Or(o.MaxBytes, 2<<20)
	if o.Ended == nil {
		o.Ended = func(Ending) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	return o
}

// Coordinator holds the transactional ids of one shard while this node owns it.
// It is a state.Machine.
type Coordinator struct {
	opts   Options
	log    Log // set by Start, before any other call
	groups *group.Coordinator

	wake    chan struct{}   // wakes the goroutine of the time-outs; capacity 1
	ctx     context.Context // of the goroutines, from Start to Close
	stop    context.CancelFunc
	running sync.WaitGroup // the goroutine of the time-outs, and those of decided transactions

	mu       sync.Mutex              // guards everything below, and every transaction
	serving  bool                    // between Start and Close
	ids      map[string]*transaction // by transactional id
	open     map[*transaction]struct{}
	prepared map[*transaction]struct{} // decided, and not complete
	staging  map[*staging]struct{}     // offsets that are on their way to the log
	alarm    int64                     // ms since 1970: when the time-outs are checked next
	settling bool                      // no transaction begins
	away     weir.SliceSet             // ids in these slices are, or are about to be, in another shard
}

// New returns an empty coordinator. It serves after Start.
func New(o Options) *Coordinator {
	return &Coordinator{
		opts:     o.withDefaults(),
		groups:   o.Groups,
		wake:     make(chan struct{}, 1),
		ids:      make(map[string]*transaction),
		open:     make(map[*transaction]struct{}),
		prepared: make(map[*transaction]struct{}),
		staging:  make(map[*staging]struct{}),
	}
}

// Start begins to serve. A takeover does not change when open transactions
// time out. Transactions that an earlier owner has decided are completed.
func (c *Coordinator) Start(_ context.Context, log machine.WaitingLog) { c.serve(log) }

func (c *Coordinator) serve(log Log) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.log, c.serving = log, true
	c.running.Go(func() { c.watch(c.ctx) })
	for t := range c.prepared {
		c.conclude(t, t.ending.how())
	}
}

// Close stops the goroutines and waits for them; they may be waiting for the log or for
// other shards. Later requests get ErrClosed. Requests under way end as the log does.
func (c *Coordinator) Close() error {
	c.mu.Lock()
	serving := c.serving
	c.serving = false
	c.mu.Unlock()
	if serving {
		c.stop()
		c.running.Wait()
	}
	return nil
}

// Open returns the number of transactions that have not ended.
func (c *Coordinator) Open() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open) + len(c.prepared)
}

// maxName is the length of the longest transactional id or group id, in bytes.
const maxName = 4096

// find returns the transaction of a producer, or an error if the producer may not use
// it. The caller holds mu.
func (c *Coordinator) find(id string, p Producer) (*transaction, error) {
	if err := c.check(id); err != nil {
		return nil, err
	}
	t, ok := c.ids[id]
	if !ok || !t.known() || t.producer.ID != p.ID {
		return nil, ErrUnknownID
	}
	return t, nil
}

// enter is find for calls that add to a transaction: they need the current epoch, and
// no other change may be under way. The caller holds mu.
func (c *Coordinator) enter(id string, p Producer) (*transaction, error) {
	t, err := c.find(id, p)
	switch {
	case err != nil:
		return nil, err
	case t.producer != p:
		return nil, ErrFenced
	case t.changing(), c.settling && t.state != Ongoing:
		return nil, ErrConcurrent
	}
	return t, nil
}

func (c *Coordinator) check(id string) error {
	if !c.serving {
		return ErrClosed
	}
	if id == "" || len(id) > maxName {
		return ErrInvalidID
	}
	if c.away.Has(weir.SliceOfTransaction(id)) {
		return ErrClosed
	}
	return nil
}

// propose makes commands durable and applied. The caller's ctx does not bound it: what
// is in flight is counted until it is certain whether it was written.
func (c *Coordinator) propose(ctx context.Context, what string, commands []commitlog.Command, end *commitlog.TransactionEnd) error {
	return unavailable(what, c.log.ProposeAll(context.WithoutCancel(ctx), commands, end))
}

// newProducerID returns a new producer id; durable when it returns nil.
func (c *Coordinator) newProducerID(ctx context.Context) (int64, error) {
	id, err := c.log.NewProducerID(ctx)
	return id, unavailable("get a producer id", err)
}

// unavailable wraps the log's error for an entry that it did not take.
func unavailable(what string, err error) error {
	if err == nil {
		return nil
	}
	if errors.Is(err, commitlog.ErrTooLarge) {
		return fmt.Errorf("%s: %w: %w", what, ErrTooLarge, err)
	}
	return fmt.Errorf("%s: %w: %w", what, ErrUnavailable, err)
}
