package commitlog

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/freelist"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment/reader"
)

// Log is the commit log of one shard, held by its owner. Its methods may be
// called from many goroutines.
type Log struct {
	bucket     storage.Bucket
	shard      uint32
	cluster    identity.Cluster
	beside     []string          // Options.Beside
	recovered  journal.Recovered // how the log was recovered
	unsaid     *state.Identity   // of Open, then of the committer: the identity that the log must still record; nil: nothing
	journal    *journal.Journal
	epoch      int32     // leader epoch: the journal's
	opened     time.Time // when it began to append
	machines   state.Machines
	linger     time.Duration
	left       time.Time // of the committer: when the newest slot left the line
	slotBytes  int       // the largest slot
	fillBytes  int       // a slot with more than one request in it is not larger
	leaveBytes int       // a slot with so many bytes waits neither for another to land nor for the linger
	depth      int
	log        *slog.Logger
	now        func() time.Time
	defaults   func() map[string]string  // Options.Defaults
	needed     func(state.Place) *Needed // Options.Needed
	mutations  Mutations
	promised   promises

	mu      sync.RWMutex
	state   *state.State // guarded by mu; changed by the journal's goroutine only
	growths []*Growth    // guarded by mu

	spec     *speculation  // of the committer
	pacer    *upkeep.Pacer // of the committer, but for its total
	line     *line
	flight   *flight
	acked    atomic.Uint64  // number of the last slot that was applied
	changes  atomic.Uint64  // see Changes
	arrived  atomic.Int64   // when slices of another shard last came, ms since 1970; 0: none did
	outgoing outgoing       // slices that are being moved away
	tail     *cache         // runs as they are appended
	cold     *cache         // runs as they were read again
	slots    *freelist.List // memory for slots to come
	applying *memory        // of the slot that is being applied; only the goroutine that applies uses it
	encoded  int            // bytes of the last snapshot; only the goroutine that applies uses it
	blocks   *reader.Reader // of segments
	upkeep   *upkeep.Maintainer
	damages  damages
	feed     *feed // to mirrors

	lost   func(string)  // of a repair
	losses []upkeep.Loss // of a repair
	ids    idBlock

	closing   chan struct{}   // closed by stopCommitter
	stopping  sync.Once       // closes closing
	committed chan struct{}   // closed when the committer has stopped
	done      chan struct{}   // closed by fail
	ctx       context.Context // ends with done
	end       context.CancelFunc
	closed    chan struct{} // closed when Close has done its work
	shutting  atomic.Bool   // set by the first Close
	closeErr  error         // of Close; set before closed is closed

	errMu sync.Mutex
	err   error // guarded by errMu; why done is closed
}

// Open makes this node the owner of the shard: it fences every earlier owner,
// applies the whole log and returns when it may append. It creates the object
// `cluster` in a bucket that has none.
//
// Errors: ErrFenced when another node claims the shard meanwhile; ErrFormat for a
// bucket, an entry or a kind of entry that a later version has written; ErrCorrupt with
// the object's key, and with storage.ErrMissing if that object does not exist but must;
// and the bucket's. After an error the Machines may hold a part of the log and must be
// thrown away.
func Open(ctx context.Context, o Options) (*Log, error) { return openWith(ctx, o, nil) }

// openWith is Open. If lost is set it is a repair, which calls lost for all that it
// passes over.
func openWith(ctx context.Context, o Options, lost func(what string)) (*Log, error) {
	c, err := newCandidate(ctx, o, lost)
	if err != nil {
		return nil, fmt.Errorf("open commit log: %w", err)
	}
	if err := c.Claim(ctx, o.Epoch, [16]byte{}); err != nil {
		c.Close()
		return nil, fmt.Errorf("open commit log: %w", err)
	}
	return c.Take(ctx)
}

// prepare checks the options and makes an empty Log.
func prepare(o Options) (*Log, error) {
	const least, most = 64 << 10, journal.MaxSlot - 64<<10
	l := &Log{
		bucket:    o.Bucket,
		beside:    o.Beside,
		shard:     o.Shard,
		linger:    o.Linger,
		slotBytes: cmp.Or(o.SlotBytes, most),
		depth:     cmp.Or(o.Depth, 4),
		log:       cmp.Or(o.Log, slog.Default()),
		now:       o.Now,
		defaults:  o.Defaults,
		needed:    o.Needed,
		flight:    &flight{},
		closing:   make(chan struct{}),
		slots:     freelist.New(keptSlots),
		committed: make(chan struct{}),
		done:      make(chan struct{}),
		closed:    make(chan struct{}),
	}
	l.fillBytes = cmp.Or(o.SlotBytes, 4<<20)
	l.ctx, l.end = context.WithCancel(context.Background())
	tail := cmp.Or(o.TailBytes, 32<<20)
	switch {
	case o.Bucket == nil:
		return nil, errors.New("no bucket")
	case l.slotBytes < least || l.slotBytes > most:
		return nil, fmt.Errorf("slot size %d is not in %d..%d", l.slotBytes, least, most)
	case l.depth < 0 || l.linger < 0 || tail < 0:
		return nil, fmt.Errorf("negative depth %d, linger %v or tail %d", l.depth, l.linger, tail)
	}
	if size := storage.PreferredSize(o.Bucket); size > 0 {
		l.fillBytes = min(size, l.fillBytes)
	}
	if l.leaveBytes = leaveBytes; l.linger > 0 && storage.Billed(o.Bucket) {
		l.leaveBytes = l.fillBytes
	}
	if err := l.setMachines(o); err != nil {
		return nil, err
	}
	if l.defaults == nil {
		l.defaults = func() map[string]string { return nil }
	}
	if l.now == nil {
		l.now = time.Now
	}
	// A slow reader fills a cache of its own, so that it cannot evict what the others
	// are about to read.
	l.tail, l.cold = newCache(tail-tail/4), newCache(tail/4)
	l.blocks = reader.New(o.Bucket, objectKey, cmp.Or(o.BlockBytes, 32<<20))
	if err := o.Upkeep.Check(); err != nil {
		return nil, err
	}
	l.state = state.Empty()
	l.mutate(o.Mutations)
	l.spec = &speculation{durable: l.state}
	l.line = newLine(2 * l.fillBytes)
	l.upkeep = upkeep.New(l.ctx, l.host(), o.Upkeep)
	l.pacer = upkeep.NewPacer(l.upkeep)
	return l, nil
}

func (l *Log) setMachines(o Options) (err error) {
	if l.machines, err = state.NewMachines(o.Machines); err != nil {
		return err
	}
	l.feed, err = newFeed(o.Mirrored)
	return err
}

// mutate breaks the rules that a test has chosen. It also turns off checks of the
// state, which would end the log before a test could see what a missing rule does.
func (l *Log) mutate(m Mutations) {
	l.mutations, l.state.Mutations = m, m.State
	if m.any() {
		l.state.Tolerate = func(error) {}
	}
}

// translate makes the journal's errors match this package's, too.
func translate(err error) error {
	for theirs, ours := range map[error]error{
		journal.ErrFenced:  ErrFenced,
		journal.ErrCorrupt: state.ErrCorrupt,
		journal.ErrFormat:  state.ErrFormat,
	} {
		if errors.Is(err, theirs) && !errors.Is(err, ours) {
			return fmt.Errorf("%w: %w", ours, err)
		}
	}
	return err
}

// Epoch is the leader epoch of all batches that this owner appends.
func (l *Log) Epoch() int32 { return l.epoch }

// ClusterID returns the id of the cluster, and so of the bucket.
func (l *Log) ClusterID() string { return l.cluster.ID }

// Level returns the format level of the bucket when the log was opened. What a higher
// level adds must not be written. If `weirctl upgrade` raises the level meanwhile, this
// takes effect for the next owner.
func (l *Log) Level() int { return l.cluster.Format }

// Done is closed when the log has ended: closed, or fenced, or unable to go on.
func (l *Log) Done() <-chan struct{} { return l.done }

// Err returns why Done is closed, nil before.
func (l *Log) Err() error {
	l.errMu.Lock()
	defer l.errMu.Unlock()
	return l.err
}

// Confirm asks the bucket whether this node still owns the shard. An idle owner has no
// other way to find out. ErrFenced means that it does not, and never will again; after
// any other error it is not known.
func (l *Log) Confirm(ctx context.Context) error {
	if err := l.Err(); err != nil {
		return err
	}
	err := l.journal.Confirm(ctx)
	if errors.Is(err, journal.ErrFenced) {
		l.fail(err)
		return l.Err()
	}
	return err
}

// fail ends the log, the first time it is called: all waiting calls are answered, and
// nothing is read or admitted any more.
func (l *Log) fail(cause error) {
	if !errors.Is(cause, ErrClosed) {
		cause = fmt.Errorf("%w: %w", ErrFenced, cause)
	}
	l.errMu.Lock()
	first := l.err == nil
	if first {
		l.err = cause
	}
	l.errMu.Unlock()
	if !first {
		return
	}
	close(l.done)
	l.end()
	if !errors.Is(cause, ErrClosed) && !errors.Is(cause, ErrHandedOver) {
		l.log.Error("commit log stopped", "shard", l.shard, "epoch", l.epoch, "err", cause)
	}
	l.line.close(cause)
	l.flight.crash(cause)

	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range l.state.Topics {
		for _, p := range t.Parts {
			p.Wake()
		}
	}
}

// Close ends the log. Requests in line are not written and get ErrClosed; slots in
// flight get some seconds to land. It returns nil if all of them did.
func (l *Log) Close() error {
	if l.shutting.CompareAndSwap(false, true) {
		l.closeErr = l.shut()
		close(l.closed)
	}
	<-l.closed
	return l.closeErr
}

func (l *Log) shut() error {
	l.upkeep.Close()
	l.line.close(ErrClosed)
	l.stopCommitter()
	l.blocks.Close()
	err := l.journal.Close()
	if err != nil {
		err = fmt.Errorf("close commit log: %w", translate(err))
		l.fail(err)
	}
	l.fail(ErrClosed)
	return err
}
