package journal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/weirmq/weir/storage"
)

// Limits of what a journal holds. They are checked before anything is stored.
const (
	// MaxSlot is the size in bytes of the largest slot object.
	MaxSlot = 16 << 20

	// MaxCheckpoint is the size in bytes of the largest checkpoint object: its body,
	// 122 bytes, and 8 for each epoch of which slots may still exist.
	MaxCheckpoint = 256 << 20

	// SlotOverhead and EntryOverhead are the bytes that a slot object has besides its
	// bodies, per slot and per entry.
	SlotOverhead  = fixedSize
	EntryOverhead = entrySize

	// MaxDepth is the largest Options.Depth. A slot further than that behind a hole
	// shows that a slot is missing at the hole.
	MaxDepth = 16

	// MaxInfo is the length in bytes of the longest Options.Info, MaxNode
	// that of the longest Options.Node, MaxShard the highest shard number.
	MaxInfo  = 4 << 10
	MaxNode  = 255
	MaxShard = 9999
)

// closeTimeout is how long Close waits for the slots in flight.
const closeTimeout = 10 * time.Second

// closingTimeout is how long Close tries to write the closing object.
const closingTimeout = 3 * time.Second

// Errors of this package, to be tested with errors.Is.
var (
	// ErrFenced: a higher epoch owns the shard, or another node has claimed this one
	// first. This journal acknowledges nothing more.
	ErrFenced = errors.New("fenced by a higher epoch")

	// ErrClosed: the journal was closed.
	ErrClosed = errors.New("journal closed")

	// ErrYielded: the owner has ended its epoch, for a successor. What it wrote is
	// acknowledged.
	ErrYielded = errors.New("epoch yielded")

	// ErrCorrupt: an object's content does not match its name. The error names the key.
	ErrCorrupt = errors.New("corrupt object")

	// ErrForeign: a name that only this claim may use has another object that is no
	// SEAL. Two writers share an epoch, because of a bug or a bucket that overwrites.
	// Stop the process.
	ErrForeign = errors.New("foreign object under this epoch")

	// ErrFormat: the log was written in a format that this version does not
	// know.
	ErrFormat = errors.New("unknown format")

	// ErrTooLarge: the entries do not fit into one slot (MaxSlot) or the body not into
	// a checkpoint (MaxCheckpoint), or the claim's node or info is too long.
	ErrTooLarge = errors.New("too large")

	// ErrPosition: a checkpoint at a position for which this owner has no acknowledged
	// state, or has it no longer; or a deletion of a SEAL, or beyond the newest durable
	// checkpoint. Nothing was done.
	ErrPosition = errors.New("position refused")
)

// Position names a slot, and the state before that slot. The zero Position is before every slot.
type Position struct{ Epoch, Slot uint64 }

// Before reports whether p comes earlier in the log than q.
func (p Position) Before(q Position) bool {
	return p.Epoch < q.Epoch || p.Epoch == q.Epoch && p.Slot < q.Slot
}

// IsZero reports whether p is the zero Position.
func (p Position) IsZero() bool { return p == Position{} }

// String returns "epoch/slot".
func (p Position) String() string { return fmt.Sprintf("%d/%d", p.Epoch, p.Slot) }

// Entry is one change. The journal does not interpret it.
type Entry struct {
	Kind uint16
	Body []byte

	// Sum is the CRC32C of Body, if Summed is set: then Write need not compute it.
	Sum    uint32
	Summed bool

	// At is the byte offset of Body within its slot object (see SlotKey).
	// The journal sets it.
	At int64
}

// State is what the entries change. The caller implements it.
type State interface {
	// Apply gets the entries of one slot, all of them. It is called only when that slot
	// and everything before it is durable, in the order of the log, from one goroutine
	// at a time, in recovery and in normal running alike. In normal running the call is
	// the acknowledgement.
	//
	// The journal does not use the bodies any more; Apply may keep them. Apply must not
	// call Write, Checkpoint, Truncate or Close. An error ends Open or Replay, and
	// stops a running journal.
	Apply(pos Position, entries []Entry) error

	// Restore replaces everything that was applied and restored before by the content
	// of a checkpoint: body, as it was given to Journal.Checkpoint, is the state before
	// pos. The next Apply is for pos. Restore is called in Open and Replay only, from
	// the goroutine that calls Apply there, and more than once if a newer checkpoint
	// appears meanwhile. It may keep body. An error ends Open or Replay.
	Restore(pos Position, body []byte) error
}

// Options configure a journal. Bucket is required.
type Options struct {
	Bucket storage.Bucket
	Shard  uint32

	// Node and Info are stored in the claim, for people and standbys to read: the name
	// of this node, and opaque bytes (its addresses, for example). They do not identify
	// the owner: epoch and nonce do.
	Node string
	Info []byte

	// Epoch, if set, is the epoch that Open must claim: the next one, as far as the
	// caller knows. If it is already claimed, Open returns ErrFenced and has done
	// nothing.
	Epoch uint64

	Level int // the format level to write at (FORMAT.md); 0 means 1

	// Verify, if set, is called by Open and Replay when s holds the whole log; Open
	// calls it before this node becomes the owner. They return its error.
	Verify func(ctx context.Context, r Recovered) error

	// Lost, if set, makes Open a repair: it skips what is missing or damaged, and calls
	// Lost for each. s must accept a log with missing parts. The caller must write a
	// checkpoint before anything else: no node can lead the shard with what lies before
	// it.
	Lost func(err error)

	Depth  int // slots in flight at once, at most MaxDepth; 0 means 4
	Window int // Gets under way at once in recovery, each of a whole slot; 0 means 16

	Log *slog.Logger // nil: no log

	mutations mutations
	jitter    func() float64 // in [0,1); nil: math/rand/v2
}

func (o *Options) validate() error {
	switch {
	case o.Bucket == nil:
		return errors.New("journal needs a bucket")
	case o.Shard > MaxShard:
		return fmt.Errorf("shard %d is not in 0..%d", o.Shard, MaxShard)
	case len(o.Node) > MaxNode:
		return fmt.Errorf("%w: node name of %d bytes, limit %d", ErrTooLarge, len(o.Node), MaxNode)
	case len(o.Info) > MaxInfo:
		return fmt.Errorf("%w: info of %d bytes, limit %d", ErrTooLarge, len(o.Info), MaxInfo)
	case o.Depth < 0 || o.Depth > MaxDepth || o.Window < 0:
		return fmt.Errorf("depth %d is not in 0..%d, or window %d is negative", o.Depth, MaxDepth, o.Window)
	}
	if o.Depth == 0 {
		o.Depth = 4
	}
	if o.Window == 0 {
		o.Window = 16
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.jitter == nil {
		o.jitter = rand.Float64
	}
	return nil
}

// Journal is the writing end of a shard's log, held by the owner of one epoch.
// Its methods may be called from many goroutines.
type Journal struct {
	store     store
	state     State // only run calls it
	claim     Claim
	recovered Recovered // what was read before
	level     int

	ctx    context.Context // ends when the journal stops, and every Create with it
	cancel context.CancelFunc
	wg     sync.WaitGroup // run, and one per slot in flight

	tokens       chan struct{}     // holds one token per slot in flight, Depth at most
	durableSlots chan *pendingSlot // durable slots, in the order in which they became durable
	closing      chan struct{}     // closed by the first Close or Yield
	done         chan struct{}     // closed by stop

	mu       sync.Mutex
	closed   bool           // guarded by mu; no slot is written once it is set
	yielding bool           // guarded by mu; closed was set by Yield
	expected [16]byte       // guarded by mu; the nonce of the claim that is expected; zero: none
	err      error          // guarded by mu; the first cause of done
	next     uint64         // guarded by mu; the slot that the next Write takes
	queue    []*pendingSlot // guarded by mu; written and not yet applied, in slot order
	counts   slotCounts     // guarded by mu; which positions are acknowledged

	upkeep      chan struct{} // holds a token while a Checkpoint or Truncate is under way, or a claim is expected
	way         way           // guarded by upkeep; what the next checkpoint records of the log before it
	older       []Position    // guarded by upkeep; checkpoints that may be in the bucket, known durable or not
	mayReappear []Position    // guarded by upkeep; own checkpoints that may appear again after their deletion
	tombstone   Position      // guarded by upkeep; the newest tombstone of this owner
	saved       Position      // guarded by mu; a copy of way.start

	asked     uint64   // used only by Asked's caller; the newest question that was seen
	forgotten Position // used only by Asked's caller; questions before it are deleted
}

// Open makes this node the owner of the shard. It claims the next epoch, restores the
// newest checkpoint into s, applies every slot after it, seals each earlier epoch, and
// returns when the header of the new epoch is durable. From then on no earlier owner
// can acknowledge anything. What lies before the checkpoint is not read.
//
// A call to the bucket that fails is repeated, with back-off, until ctx ends. The
// Journal outlives ctx. After an error s holds a part of the log, or nothing, and must
// be discarded.
//
// If an object is not there and another one shows that it existed, it is missing, and
// the log does not end there. Then Open seals and deletes nothing, and this node does
// not lead.
//
// Errors: ErrFenced if another node claims the same or a higher epoch meanwhile,
// ErrCorrupt, ErrCorrupt with storage.ErrMissing, ErrForeign, ErrFormat, those of s and
// Verify, and those of the bucket.
func Open(ctx context.Context, o Options, s State) (*Journal, error) {
	c, err := NewCandidate(o, s)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := c.Claim(ctx, o.Epoch, [16]byte{}); err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	j, err := c.Take(ctx)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	return j, nil
}

// newJournal makes the Journal of the claim of w, which holds the whole log before it.
func newJournal(o Options, w *walker) *Journal {
	j := &Journal{
		store:        w.store,
		state:        w.state,
		claim:        w.mine,
		level:        o.Level,
		tokens:       make(chan struct{}, o.Depth),
		durableSlots: make(chan *pendingSlot, o.Depth+1),
		closing:      make(chan struct{}),
		done:         make(chan struct{}),
		next:         1,
		counts:       slotCounts{low: 1, entries: []uint64{w.entries}},
		upkeep:       make(chan struct{}, 1),
		way:          w.way,
		older:        w.listed,
		saved:        w.start,
		recovered:    w.recovered(),
	}
	j.ctx, j.cancel = context.WithCancel(context.Background())
	return j
}

// writeHeader makes the header of this epoch durable.
func (j *Journal) writeHeader(ctx context.Context) error {
	pos := Position{Epoch: j.claim.Epoch}
	raw := j.claim.header(j.store.shard, j.way)
	if st := j.store; headerLate(j.store.mutations) {
		j.wg.Go(func() { _, _ = st.createOwn(j.ctx, SlotKey(st.shard, pos), raw) })
		return nil
	}
	if _, err := j.store.createOwn(ctx, SlotKey(j.store.shard, pos), raw); err != nil {
		return fmt.Errorf("write header of epoch %d: %w", j.claim.Epoch, err)
	}
	return nil
}

// Epoch returns the epoch that this journal owns, or owned until it stopped.
func (j *Journal) Epoch() uint64 { return j.claim.Epoch }

// InFlight returns the number of slots that were written and of which it is not known
// that they and all slots before them are durable.
func (j *Journal) InFlight() int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return len(j.queue)
}

// Done is closed when the journal acknowledges nothing more: it was fenced, stopped by
// an error, or closed. Err then returns the reason.
func (j *Journal) Done() <-chan struct{} { return j.done }

// Err returns nil while the journal runs, and then the first reason why it stopped:
// ErrFenced, ErrForeign, ErrCorrupt, the error of State.Apply, ErrYielded, or ErrClosed.
func (j *Journal) Err() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.err
}

// Confirm asks the bucket whether a higher epoch was claimed. An owner calls it from
// time to time and stops serving if the bucket does not answer. It is needed because an
// idle owner meets no SEAL; and behind a busy one a claimant may walk for long, always
// too late to seal the slot that is about to become durable. After ErrFenced the
// journal has stopped; after any other error of the bucket it runs on, and nothing is
// known.
func (j *Journal) Confirm(ctx context.Context) error {
	if err := j.Err(); err != nil {
		return err
	}
	c, err := readClaim(ctx, j.store.bucket, j.store.shard, j.claim.Epoch+1)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	j.mu.Lock()
	expected := j.expected // after the reading: what is there was expected before it was made
	j.mu.Unlock()
	if err == nil && expected != [16]byte{} && c.Nonce == expected {
		return j.confirmExpected(ctx)
	}
	return j.confirmAbove(ctx, j.claim.Epoch+1)
}

// confirmAbove is Confirm of which the given epoch is the first to fence.
func (j *Journal) confirmAbove(ctx context.Context, epoch uint64) error {
	rival, found, err := j.store.higherClaim(ctx, epoch)
	if err != nil {
		return fmt.Errorf("confirm epoch %d: %w", j.claim.Epoch, err)
	}
	if !found {
		return nil
	}
	return j.fenced(fmt.Errorf("%w: epoch %d is claimed by %s", ErrFenced, epoch, rival))
}

// fenced stops the journal with err, and returns it.
func (j *Journal) fenced(err error) error {
	j.stop(err)
	return err
}

// stop ends the journal with the reason err, unless it has already ended. Creates under
// way are cancelled: what they leave behind lies at or behind the first hole, and the
// next owner decides about it.
func (j *Journal) stop(err error) {
	j.mu.Lock()
	first := j.err == nil
	if first {
		j.err = err
		j.closed = true
		close(j.done)
		j.cancel()
	}
	j.mu.Unlock()
	if first && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrYielded) {
		j.store.log.Error("journal stopped", "shard", j.store.shard, "epoch", j.claim.Epoch, "err", err)
	}
}

// Close ends the journal. It takes no more entries, waits up to ten seconds for the
// slots in flight to be applied, and gives up the rest: those are neither acknowledged
// nor known to be lost; the next owner finds out. After Close has returned, Apply is
// not called any more, and Checkpoint and Truncate have been given up. Close returns
// nil if the journal ran until now, or has yielded, and has applied everything that was
// written, else the reason why not.
func (j *Journal) Close() error {
	j.mu.Lock()
	if !j.closed {
		j.closed = true
		close(j.closing)
	}
	j.mu.Unlock()
	limit := time.NewTimer(closeTimeout)
	defer limit.Stop()
	j.waitInFlight(limit.C)
	j.writeClosing()
	j.stop(ErrClosed)
	j.wg.Wait()
	j.endExpectation()
	j.upkeep <- struct{}{}
	<-j.upkeep

	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.queue) > 0 || !errors.Is(j.err, ErrClosed) && !errors.Is(j.err, ErrYielded) {
		return fmt.Errorf("close journal with %d slots not acknowledged: %w", len(j.queue), j.err)
	}
	return nil
}

// writeClosing leaves a closing object behind the last slot, if all slots are
// acknowledged. A node that later finds fewer slots knows that some are missing. A
// crash before it, or in it, leaves a log whose end is not known.
func (j *Journal) writeClosing() {
	j.mu.Lock()
	pos := Position{j.claim.Epoch, j.next}
	whole := j.err == nil && len(j.queue) == 0
	j.mu.Unlock()
	if !whole || j.level < 2 {
		return
	}
	key, o := closingKey(j.store.shard, pos), closingObject(j.store.shard, j.claim, pos)
	// One attempt only: a node that is closing does not wait for a bucket that does not
	// answer.
	err := j.store.attempt(j.ctx, closingTimeout, func(ctx context.Context) error { return j.store.bucket.Create(ctx, key, o.encode()) })
	if err != nil && !errors.Is(err, storage.ErrExists) {
		j.store.log.Warn("journal closed without a closing object: if its last slots are deleted later, nobody will notice",
			"shard", j.store.shard, "key", key, "err", err)
	}
}

// waitInFlight waits until no slot is in flight, the journal has stopped or the limit
// is over. It takes the token of every slot, since no Write needs one any more.
func (j *Journal) waitInFlight(limit <-chan time.Time) {
	for range cap(j.tokens) {
		select {
		case j.tokens <- struct{}{}:
		case <-j.done:
			return
		case <-limit:
			return
		}
	}
}
