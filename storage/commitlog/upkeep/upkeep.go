package upkeep

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// Options says when slots are rewritten into segments. The zero value is for a node in
// production.
type Options struct {
	Bytes   int64         // make a checkpoint after so many bytes of new slots, and a pass after half as many; 32 MiB
	Slots   int           // or after so many new slots; 2,000
	Debt    int           // writers are slowed down beyond so many times Bytes or Slots, and stopped at twice that; 8
	Age     time.Duration // or so long after the last pass; 10 minutes
	Grace   time.Duration // after which an idle log makes a pass for what is left to delete; a minute
	Segment int           // bytes of a segment; 16 MiB, less if the bucket prefers smaller objects
	Keys    int           // keys that compaction keeps in memory at once; 1,048,576, which take 40 MB
	Adopt   int           // runs of so many bytes or more may stay where they are: see loads.adopts; 128 KiB
	Off     bool          // no upkeep: everything stays in slots
}

func (u Options) withDefaults(b storage.Bucket) Options {
	u.Bytes = cmp.Or(u.Bytes, 32<<20)
	u.Slots = cmp.Or(u.Slots, 2_000)
	u.Debt = cmp.Or(u.Debt, 8)
	u.Age = cmp.Or(u.Age, 10*time.Minute)
	u.Grace = cmp.Or(u.Grace, time.Minute)
	u.Segment = cmp.Or(u.Segment, 16<<20)
	u.Keys = cmp.Or(u.Keys, 1<<20)
	u.Adopt = cmp.Or(u.Adopt, 128<<10)
	if size := storage.PreferredSize(b); size > 0 {
		u.Segment = min(u.Segment, size)
	}
	return u
}

// Check returns an error for limits that make no sense.
func (u Options) Check() error {
	if u.Bytes < 0 || u.Slots < 0 || u.Debt < 0 || u.Age < 0 || u.Grace < 0 || u.Segment < 0 || u.Keys < 0 || u.Adopt < 0 {
		return errors.New("negative limit of the upkeep")
	}
	return nil
}

// Maintainer keeps the log small: it rewrites slots into segments, drops what retention
// no longer keeps, makes checkpoints, and deletes objects that are no longer needed.
// Every change takes effect by an entry in the log, so a crash at any point leaves at
// most objects that nothing refers to.
type Maintainer struct {
	log    Host
	o      Options
	epoch  uint64            // of the owner, as the next: from start on
	knows  func(uint64) bool // whether the log knows an epoch: journal.Recovered.Knows
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}   // closed when run has returned
	wake   chan struct{}   // capacity 1
	calls  chan chan error // of Maintain

	debt    debt
	asked   atomic.Int32 // calls of Maintain that have no answer yet
	saved   atomic.Int64 // bytes of the last checkpoint
	through atomic.Int64 // when the last complete pass ended, ms since 1970

	memory segmentMemory

	ordered  chan order   // see do
	orders   atomic.Int32 // that wait or are under way
	released atomic.Bool  // by Release

	wanted   atomic.Bool     // the next slot applied is followed by a snapshot
	snapshot chan checkpoint // capacity 1

	// Of run alone.
	number  uint64            // of the last segment of this epoch
	last    time.Time         // when the last pass ended
	stored  time.Time         // when the last checkpoint was stored
	began   time.Time         // when the last pass began that rewrote something
	clean   bool              // the leftovers of older epochs were deleted
	unused  journal.Position  // all slots before it were no longer needed when the last pass ended
	cut     journal.Position  // all slots before it were deleted, but for those that serve as segments
	garbage []state.SegmentID // segments that were garbage when the last pass ended
	mine    tally             // what the upkeep has proposed since it rewrote slots
	more    bool              // the last pass has left something for the next
	reading bool              // pieces are being read to be written anew: their segments must stay

	compacting bool // the same for compaction, which ends early for an order

	stuck    map[state.Place]bool  // has a run that cannot be read: not rewritten until tried again
	tried    time.Time             // when all partitions were tried last
	horizons map[state.Place]int64 // ms since 1970: when tombstones that compaction has met may be removed
	skipped  map[state.Place]bool  // has a piece that cannot be read: this owner does not compact it again
	later    time.Time             // when to try compaction again after it failed
	neededAt time.Time             // when it was asked last what is needed
	apart    apart
}

// checkpoint is a snapshot of the state before a position.
type checkpoint struct {
	pos  journal.Position
	body []byte
}

// Host is what the upkeep needs of the log that it keeps small.
type Host struct {
	Bucket    storage.Bucket
	Shard     uint32
	level     int // of the format, from start on
	FillBytes int // a slot with more than one request in it is not larger
	Logger    *slog.Logger
	Now       func() time.Time
	Defaults  func() map[string]string // Options.Defaults

	View       func(func(*state.State))                                  // calls a function with the durable state
	Needed     func(key state.Place) *Needed                             // Options.Needed of the log; may be nil
	Run        func(key state.Place, base int64) []byte                  // the batches of a run if they are in memory, else nil
	Snapshot   func() []byte                                             // a checkpoint's body; only while a slot is applied
	Propose    func(ctx context.Context, kind uint16, body []byte) error // makes an entry durable, ahead of those of writers
	Checkpoint func(ctx context.Context, pos journal.Position, body []byte) error
	Truncate   func(ctx context.Context, before journal.Position, keep func(journal.Position) bool) error // deletes slots: journal.Truncate
	Remove     func(ctx context.Context, slots []journal.Position) error                                  // deletes slots that Truncate has kept
	Unreadable func(key state.Place, base int64, err error)                                               // is told of runs that cannot be read
	Settled    func()                                                                                     // is called when writers that are held back may go on
	Fail       func(error) error                                                                          // ends the log, and returns the reason why it ended
	lost       func(Loss)                                                                                 // in a repair, is told of what is given up; else nil
}

// New returns the upkeep of a log, which Start begins. It ends with ctx.
func New(ctx context.Context, l Host, u Options) *Maintainer {
	m := &Maintainer{
		log: l, o: u.withDefaults(l.Bucket), ended: make(chan struct{}),
		wake: make(chan struct{}, 1), calls: make(chan chan error), ordered: make(chan order), snapshot: make(chan checkpoint, 1),
		memory: newSegmentMemory(),
		stuck:  make(map[state.Place]bool), horizons: make(map[state.Place]int64), skipped: make(map[state.Place]bool),
	}
	m.ctx, m.cancel = context.WithCancel(ctx)
	return m
}

// Repair makes the upkeep pass over what cannot be read, and call lost for it. It is
// only for an upkeep that was not started.
func (m *Maintainer) Repair(lost func(Loss)) { m.log.lost = lost }

// Start begins the upkeep of an owner: with its epoch, the format level of the bucket, and
// which epochs the log knows.
func (m *Maintainer) Start(epoch uint64, level int, knows func(epoch uint64) bool) {
	m.epoch, m.log.level, m.knows = epoch, level, knows
	m.inherit()
	go m.run()
}

// Restored notes that a recovery starts over.
func (m *Maintainer) Restored() { m.debt.clear() }

// Waiting returns how much in slots is not rewritten behind a checkpoint yet.
func (m *Maintainer) Waiting() (bytes, slots int64) {
	owed := m.debt.owed()
	return owed.bytes, owed.slots
}

// LastPass returns when the last complete pass ended, or when the upkeep began.
func (m *Maintainer) LastPass() time.Time { return time.UnixMilli(m.through.Load()) }

// HasMore reports whether the last pass has left something for the next.
func (m *Maintainer) HasMore() bool { return m.more }

// Stop begins what Close does, and does not wait.
func (m *Maintainer) Stop() { m.cancel() }

// Close ends the pass under way and waits for it.
func (m *Maintainer) Close() {
	m.cancel()
	<-m.ended
}

// Applied must be called for each slot, by the goroutine that applies it.
func (m *Maintainer) Applied(pos journal.Position, entries []journal.Entry) {
	size := int64(0)
	for i := range entries {
		size += int64(len(entries[i].Body))
	}
	if m.enough(m.debt.add(size)) {
		m.nudge()
	}
	if m.wanted.CompareAndSwap(true, false) {
		m.snapshot <- checkpoint{journal.Position{Epoch: pos.Epoch, Slot: pos.Slot + 1}, m.log.Snapshot()}
	}
}

// inherit counts what lies in slots after a recovery: all of it must be rewritten.
func (m *Maintainer) inherit() {
	left := tally{}
	for _, slot := range m.loads(nil).slots {
		left.bytes += slot.all
		left.slots++
	}
	m.debt.inherit(left)
}

// enough reports whether what is not in segments is worth a pass: half of what is worth a
// checkpoint, so that all of it is still in the tail cache.
func (m *Maintainer) enough(rest tally) bool {
	return rest.bytes >= (m.o.Bytes+1)/2 || rest.slots >= int64(m.o.Slots+1)/2
}

// saveShare bounds what checkpoints add to the bytes that are written: if they take
// largeSave or more, the next one follows when saveShare times the bytes of the last have
// been appended. Smaller ones follow each pass.
const (
	saveShare = 24
	largeSave = 1 << 20
)

// worth is how much debt a checkpoint must settle: as much as a pass takes on, or more if
// checkpoints are large. A larger debt makes a recovery longer, by the time that it takes
// to read it.
func (m *Maintainer) worth() tally {
	times := 1.0
	if saved := m.saved.Load(); saved >= largeSave {
		times = max(times, float64(saveShare*saved)/float64(m.o.Bytes))
	}
	return tally{int64(times * float64(m.o.Bytes)), int64(times * float64(m.o.Slots))}
}

// saves reports whether a pass, of which it is known what it leaves, ends with a
// checkpoint. What the pass leaves is no reason for one: an upkeep that has fallen behind
// would make large checkpoints instead of catching up.
func (m *Maintainer) saves(p *pass) bool {
	settles, worth := m.debt.settles(p.mark, p.left), m.worth()
	return settles.bytes >= worth.bytes || settles.slots >= worth.slots || m.log.Now().Sub(m.stored) >= m.o.Age
}

// strain returns how much is not in segments, divided by the limit beyond which writers are
// slowed down. A few slots are always within the limit, and as much as is worth a
// checkpoint may come while a large one is made. What only waits for a checkpoint does not
// count: writers would be held up by each.
func (m *Maintainer) strain() float64 {
	if m.o.Off {
		return 0
	}
	rest, limit, more := m.debt.toPlace(), m.worth(), int64(m.o.Debt-1)
	limit.bytes = max(limit.bytes+more*m.o.Bytes, int64(4*m.log.FillBytes))
	limit.slots += more * int64(m.o.Slots)
	return max(float64(rest.bytes)/float64(limit.bytes), float64(rest.slots)/float64(limit.slots))
}

func (m *Maintainer) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// look is how often the maintainer checks whether something is due.
const look = 5 * time.Second

// run makes a pass whenever one is due, until the log ends.
func (m *Maintainer) run() {
	defer close(m.ended)
	if m.o.Off {
		return
	}
	m.last = m.log.Now()
	m.through.Store(m.last.UnixMilli())
	tick := time.NewTicker(look)
	defer tick.Stop()
	for wait := time.Duration(0); ; {
		var answer chan error
		var o order
		select {
		case <-m.wake:
		case <-tick.C:
		case answer = <-m.calls:
		case o = <-m.ordered:
		case <-m.ctx.Done():
			return
		}
		if m.released.Swap(false) || m.apart.ends(m.log.Now()) {
			m.apart = apart{}
		}
		if o.run != nil {
			m.obey(o)
			continue
		}
		if answer == nil && (m.log.Now().Sub(m.last) < wait || !m.due()) {
			if m.log.Now().Sub(m.last) >= look {
				m.memory.drop()
			}
			continue
		}
		if answer != nil || m.log.Now().Sub(m.tried) >= m.o.Age {
			clear(m.stuck)
			m.tried = m.log.Now()
		}
		idle := m.log.Now().Sub(m.last) >= m.o.Grace
		err := m.keep(answer != nil || idle)
		for answer != nil && err == nil && m.more {
			err = m.keep(true)
		}
		if wait = 0; err != nil {
			m.last, wait = m.log.Now(), m.o.retry()
		} else if m.apart.slices.Len() == 0 && (answer != nil || !m.log.Now().Before(m.later)) {
			if err = m.pass(&pass{}, true); err != nil {
				m.later = m.log.Now().Add(m.o.retry())
			}
		}
		if err != nil && m.ctx.Err() == nil {
			m.log.Logger.Warn("log upkeep failed: trying again", "shard", m.log.Shard, "err", err)
		}
		if answer != nil {
			answer <- err
		}
		if m.ctx.Err() != nil {
			return
		}
	}
}

// retry returns how long to wait after a failed pass.
func (u Options) retry() time.Duration { return min(u.Grace, 10*time.Second) }

// due reports whether there is enough to do for a pass.
func (m *Maintainer) due() bool {
	idle := m.log.Now().Sub(m.last) >= m.o.Grace
	for _, t := range m.tasks() {
		if t.due != nil && (idle || t.urgent) && t.due() {
			return true
		}
	}
	return false
}

// pressing reports whether there is enough to rewrite for a pass.
func (m *Maintainer) pressing() bool {
	return m.enough(m.debt.toPlace()) || m.debt.owed().bytes > 0 && m.log.Now().Sub(m.last) >= m.o.Age
}

// truncates reports whether there are enough slots to delete for a pass: each pass
// itself leaves some.
func (m *Maintainer) truncates() bool {
	return m.cut.Epoch < m.unused.Epoch || m.cut.Epoch == m.unused.Epoch && m.cut.Slot+16 < m.unused.Slot
}

// ErrEnded: the upkeep has ended.
var ErrEnded = errors.New("upkeep of the log has ended")

// Maintain makes a pass now, and returns when it is done: see Log.Maintain.
func (m *Maintainer) Maintain(ctx context.Context) error {
	m.asked.Add(1)
	defer m.asked.Add(-1)
	answer := make(chan error, 1)
	select {
	case m.calls <- answer:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return ErrEnded
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return ErrEnded
	}
}

// Keep makes a pass without compaction, which ends with a checkpoint. Writers that are
// held back may go on when it settles debt.
func (m *Maintainer) Keep() error { return m.keep(true) }

// keep is Keep. The pass ends with a checkpoint if save is set, or saves reports so.
func (m *Maintainer) keep(save bool) error {
	m.mine = tally{}
	p := &pass{mark: m.debt.mark(), saves: save}
	err := m.pass(p, false)
	if err == nil {
		m.last = m.log.Now()
		m.through.Store(m.last.UnixMilli())
		m.debt.settle(p.mark, p.left, p.saves)
		m.deductOwn()
	}
	m.debt.ended(err)
	m.log.Settled()
	return err
}

// deductOwn takes what the upkeep has written out of the debt.
func (m *Maintainer) deductOwn() {
	m.debt.deduct(m.mine)
	m.mine = tally{}
}

// passIfDue makes the pass that has become due while compaction is at work, which
// may be so for hours.
func (m *Maintainer) passIfDue() error {
	if m.ctx.Err() != nil {
		return m.ctx.Err()
	}
	if m.orders.Load() > 0 && m.compacting {
		return errInterrupted
	}
	if !m.pressing() {
		return nil
	}
	if err := m.keep(false); err != nil {
		return passError{err}
	}
	return nil
}

// passError hides the error of a pass, so that it is not taken for an error of the
// partition that is being compacted: it wraps nothing.
type passError struct{ err error }

func (e passError) Error() string { return "make a pass meanwhile: " + e.err.Error() }

// truncate deletes the slots that were no longer needed when the last pass ended, and
// finds those that are no longer needed now.
func (m *Maintainer) truncate(p *pass) error {
	l := m.log
	if m.cut.Before(m.unused) {
		if err := l.Truncate(m.ctx, m.unused, m.serves); err != nil && m.ctx.Err() != nil {
			return m.ctx.Err()
		} else if err != nil {
			l.Logger.Warn("unneeded slots not deleted: trying again", "shard", l.Shard, "before", m.unused, "err", err)
		} else {
			m.cut = m.unused
		}
	}
	m.unused, m.garbage = m.useless(p.checkpoint)
	m.garbage = m.garbage[:min(len(m.garbage), l.FillBytes/2/state.MaxSwept)]
	return nil
}

// save notes what was deleted, and makes a checkpoint right behind that.
func (m *Maintainer) save(p *pass) error {
	c, err := m.note(p.swept)
	if err != nil {
		return err
	}
	p.checkpoint = c.pos
	if err := m.log.Checkpoint(m.ctx, c.pos, c.body); err != nil {
		return err
	}
	m.stored = m.log.Now()
	m.saved.Store(int64(len(c.body)))
	return nil
}

// note proposes an entry of what was deleted, and takes a snapshot right behind it.
func (m *Maintainer) note(swept []state.SegmentID) (checkpoint, error) {
	select {
	case <-m.snapshot: // of a pass that failed
	default:
	}
	m.wanted.Store(true)
	// The previous owner may not know yet that it has lost the shard, and may store a
	// segment now. So the owner after this one looks through its epoch once more.
	cleaned := max(m.epoch, 2) - 2
	if err := m.propose(state.KindSwept, state.EncodeSwept(cleaned, m.cut, swept, m.log.level)); err != nil {
		m.wanted.Store(false)
		return checkpoint{}, fmt.Errorf("note deleted segments: %w", err)
	}
	select {
	case c := <-m.snapshot:
		// Slots must not be deleted for a checkpoint that cannot be read back.
		if err := state.VerifyCheckpoint(c.body); err != nil {
			return checkpoint{}, m.log.Fail(fmt.Errorf("read back the checkpoint before %v: %w", c.pos, err))
		}
		return c, nil
	case <-m.ctx.Done():
		return checkpoint{}, m.ctx.Err()
	}
}

// propose makes an entry durable. Once the upkeep ends it proposes nothing more: an entry
// that it did not wait for may still take effect, and a second one with the same pieces
// would break the log.
func (m *Maintainer) propose(kind uint16, body []byte) error {
	if err := m.ctx.Err(); err != nil {
		return err
	}
	m.mine.bytes += int64(len(body))
	m.mine.slots++
	return m.log.Propose(m.ctx, kind, body)
}

// serves reports whether a slot serves as a segment.
func (m *Maintainer) serves(pos journal.Position) (yes bool) {
	m.log.View(func(s *state.State) { yes = s.Slots.Has(pos) })
	return yes
}

// useless returns the first slot that an extent refers to, at most limit, and the
// segments that nothing refers to. Of slots these are only those before m.cut: no
// extent refers to them, so they will never serve as segments again. The others go when
// all slots up to there are deleted.
func (m *Maintainer) useless(limit journal.Position) (first journal.Position, garbage []state.SegmentID) {
	m.log.View(func(s *state.State) {
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				if len(p.Index) > 0 && p.Index[0].Position().Before(limit) {
					limit = p.Index[0].Position()
				}
			}
		}
		for _, id := range s.Garbage {
			if !id.Slot || id.Position().Before(m.cut) {
				garbage = append(garbage, id)
			}
		}
	})
	return limit, garbage
}

// hasGarbage reports whether there are segments to delete, now or later.
func (m *Maintainer) hasGarbage() bool {
	has := len(m.garbage) > 0
	m.log.View(func(s *state.State) { has = has || len(s.Garbage) > 0 })
	return has
}
