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

// Options says when what lies in slots is rewritten into segments. The zero value
// is for a node in production.
type Options struct {
	Bytes   int64         // when the slots since the last time have so many bytes; 32 MiB
	Slots   int           // or when they are so many; 2,000
	Debt    int           // how many times as many may wait for it before writers are slowed down, and stopped at twice that; 8
	Age     time.Duration // or when the last time is so long ago; 10 minutes
	Grace   time.Duration // until a log that is idle makes a pass for what is left to delete; a minute
	Segment int           // bytes of a segment; 16 MiB, less where the bucket prefers that
	Keys    int           // that compaction keeps in memory at once; 1,048,576, which take 40 MB
	Off     bool          // never: the log is its slots
}

func (u Options) withDefaults(b storage.Bucket) Options {
	u.Bytes = cmp.Or(u.Bytes, 32<<20)
	u.Slots = cmp.Or(u.Slots, 2_000)
	u.Debt = cmp.Or(u.Debt, 8)
	u.Age = cmp.Or(u.Age, 10*time.Minute)
	u.Grace = cmp.Or(u.Grace, time.Minute)
	u.Segment = cmp.Or(u.Segment, 16<<20)
	u.Keys = cmp.Or(u.Keys, 1<<20)
	if size := storage.PreferredSize(b); size > 0 {
		u.Segment = min(u.Segment, size)
	}
	return u
}

// Check returns an error for limits that make no sense.
func (u Options) Check() error {
	if u.Bytes < 0 || u.Slots < 0 || u.Debt < 0 || u.Age < 0 || u.Grace < 0 || u.Segment < 0 || u.Keys < 0 {
		return errors.New("negative limit of the upkeep")
	}
	return nil
}

// Maintainer keeps the log small: it rewrites slots into segments, lets go what
// retention gives up, makes checkpoints, and deletes what nobody needs any more.
// All of it is in the log as entries before it counts, so a crash at any point
// leaves objects that nobody refers to, and nothing else.
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
	through atomic.Int64 // when the last pass got through, ms since 1970

	memory segmentMemory

	wanted   atomic.Bool     // the next slot applied is followed by a snapshot
	snapshot chan checkpoint // capacity 1

	// Of run alone.
	number  uint64            // of the last segment of this epoch
	last    time.Time         // when the last pass ended
	clean   bool              // what older epochs left over was deleted
	unused  journal.Position  // all slots before it were of no use when the last pass ended
	cut     journal.Position  // all slots before it were deleted
	garbage []state.SegmentID // were of no use when the last pass ended
	mine    tally             // what it has proposed since it rewrote slots
	more    bool              // the last pass has left something for the next
	reading bool              // compaction is under way: the segments that it reads must stay

	stuck    map[state.Place]bool  // has a run that cannot be read: not rewritten until tried again
	tried    time.Time             // when all partitions were tried last
	horizons map[state.Place]int64 // ms since 1970: when tombstones that compaction has met may go
	skipped  map[state.Place]bool  // has a piece that cannot be read: not compacted by this owner any more
	later    time.Time             // when compaction is due again that did not get through
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

	View       func(func(*state.State))                                  // lets a function look at the durable state
	Run        func(key state.Place, base int64) []byte                  // the batches of a run if they are in memory, else nil
	Snapshot   func() []byte                                             // a checkpoint's body; only while a slot is applied
	Propose    func(ctx context.Context, kind uint16, body []byte) error // makes an entry durable, ahead of those of writers
	Checkpoint func(ctx context.Context, pos journal.Position, body []byte) error
	Truncate   func(ctx context.Context, before journal.Position) error // deletes slots
	Unreadable func(key state.Place, base int64, err error)             // is told of runs that cannot be read
	Settled    func()                                                   // is called when writers who are held back may go on
	Fail       func(error) error                                        // ends the log, and returns why it has ended
	lost       func(Loss)                                               // of a repair: is told of what is given up; else nil
}

// New returns the upkeep of a log, which Start begins. It ends with ctx.
func New(ctx context.Context, l Host, u Options) *Maintainer {
	m := &Maintainer{
		log: l, o: u.withDefaults(l.Bucket), ended: make(chan struct{}),
		wake: make(chan struct{}, 1), calls: make(chan chan error), snapshot: make(chan checkpoint, 1),
		memory: newSegmentMemory(),
		stuck:  make(map[state.Place]bool), horizons: make(map[state.Place]int64), skipped: make(map[state.Place]bool),
	}
	m.ctx, m.cancel = context.WithCancel(ctx)
	return m
}

// Repair makes the upkeep one that passes over what cannot be read, and tells lost of it.
// It is for a log that was not started.
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

// Waiting is how much in slots is not rewritten behind a checkpoint yet.
func (m *Maintainer) Waiting() (bytes, slots int64) {
	owed := m.debt.owed()
	return owed.bytes, owed.slots
}

// LastPass is when the last pass got through, or when the upkeep began.
func (m *Maintainer) LastPass() time.Time { return time.UnixMilli(m.through.Load()) }

// HasMore reports whether the last pass has left something for the next.
func (m *Maintainer) HasMore() bool { return m.more }

// Close ends the pass under way and waits for it.
func (m *Maintainer) Close() {
	m.cancel()
	<-m.ended
}

// Applied is told of each slot, by who applies it.
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

// inherit counts what lies in slots after a recovery: all of it is to be rewritten.
func (m *Maintainer) inherit() {
	left := tally{}
	for _, size := range m.slotted(nil) {
		left.bytes += size
		left.slots++
	}
	m.debt.inherit(left)
}

// enough reports whether so much is worth a pass.
func (m *Maintainer) enough(owed tally) bool {
	return owed.bytes >= m.o.Bytes || owed.slots >= int64(m.o.Slots)
}

// strain is what is owed by the limit beyond which writers are slowed down. A few
// slots are always within it.
func (m *Maintainer) strain() float64 {
	if m.o.Off {
		return 0
	}
	owed, times := m.debt.owed(), float64(m.o.Debt)
	bytes := max(times*float64(m.o.Bytes), float64(4*m.log.FillBytes))
	return max(float64(owed.bytes)/bytes, float64(owed.slots)/(times*float64(m.o.Slots)))
}

func (m *Maintainer) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// look is how often the maintainer looks at its clocks.
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
		select {
		case <-m.wake:
		case <-tick.C:
		case answer = <-m.calls:
		case <-m.ctx.Done():
			return
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
		err := m.Keep()
		for answer != nil && err == nil && m.more {
			err = m.Keep()
		}
		if wait = 0; err != nil {
			m.last, wait = m.log.Now(), m.o.retry()
		} else if answer != nil || !m.log.Now().Before(m.later) {
			if err = m.pass(&pass{}, true); err != nil {
				m.later = m.log.Now().Add(m.o.retry())
			}
		}
		if err != nil && m.ctx.Err() == nil {
			m.log.Logger.Warn("upkeep of the log failed; it is tried again", "shard", m.log.Shard, "err", err)
		}
		if answer != nil {
			answer <- err
		}
	}
}

// retry is how long a pass that did not get through is left alone.
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
	owed := m.debt.owed()
	return m.enough(owed) || owed.bytes > 0 && m.log.Now().Sub(m.last) >= m.o.Age
}

// truncates reports whether there are slots worth a pass to delete them: each pass
// leaves some of its own.
func (m *Maintainer) truncates() bool {
	return m.cut.Epoch < m.unused.Epoch || m.cut.Epoch == m.unused.Epoch && m.cut.Slot+16 < m.unused.Slot
}

// errEnded: there is no upkeep any more.
var ErrEnded = errors.New("upkeep of the log has ended")

// Maintain makes a pass now, and returns when it is done: see Log.Maintain.
func (m *Maintainer) Maintain(ctx context.Context) error {
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

// Keep makes a pass of all of the upkeep but compaction, which nothing here waits
// for. What it settles lets writers go on who are held back.
func (m *Maintainer) Keep() error {
	mark := m.debt.mark()
	m.mine = tally{}
	p := &pass{}
	err := m.pass(p, false)
	if err == nil {
		m.debt.settle(mark, p.left)
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
	if m.ctx.Err() != nil || !m.pressing() {
		return m.ctx.Err()
	}
	if err := m.Keep(); err != nil {
		return passError{err}
	}
	return nil
}

// passError keeps what a pass met from being taken for a fault of the partition
// that is being compacted: it wraps nothing.
type passError struct{ err error }

func (e passError) Error() string { return "make a pass meanwhile: " + e.err.Error() }

// truncate deletes the slots that were of no use already when the last pass ended,
// and finds out what is of none behind the checkpoint.
func (m *Maintainer) truncate(p *pass) error {
	l := m.log
	if m.cut.Before(m.unused) {
		if err := l.Truncate(m.ctx, m.unused); err != nil && m.ctx.Err() != nil {
			return m.ctx.Err()
		} else if err != nil {
			l.Logger.Warn("unneeded slots are not deleted yet", "shard", l.Shard, "before", m.unused, "err", err)
		} else {
			m.cut = m.unused
		}
	}
	m.unused, m.garbage = m.useless(p.checkpoint)
	m.garbage = m.garbage[:min(len(m.garbage), l.FillBytes/2/state.MaxSwept)]
	m.last = l.Now()
	m.through.Store(m.last.UnixMilli())
	return nil
}

// save notes what was deleted, and makes a checkpoint right behind.
func (m *Maintainer) save(p *pass) error {
	c, err := m.note(p.swept)
	if err != nil {
		return err
	}
	p.checkpoint = c.pos
	return m.log.Checkpoint(m.ctx, c.pos, c.body)
}

// note notes what was deleted, and takes a snapshot right behind.
func (m *Maintainer) note(swept []state.SegmentID) (checkpoint, error) {
	select {
	case <-m.snapshot: // of a pass that did not get through
	default:
	}
	m.wanted.Store(true)
	// The owner before this one may not know yet that it is not the owner any
	// more, and store a segment now: its epoch is looked through once more by
	// the owner after this one.
	cleaned := max(m.epoch, 2) - 2
	if err := m.propose(state.KindSwept, state.EncodeSwept(cleaned, m.cut, swept, m.log.level)); err != nil {
		m.wanted.Store(false)
		return checkpoint{}, fmt.Errorf("note deleted segments: %w", err)
	}
	select {
	case c := <-m.snapshot:
		// What cannot be read back must not be what slots are deleted for.
		if _, _, err := state.DecodeCheckpoint(c.body); err != nil {
			return checkpoint{}, m.log.Fail(fmt.Errorf("read back the checkpoint before %v: %w", c.pos, err))
		}
		return c, nil
	case <-m.ctx.Done():
		return checkpoint{}, m.ctx.Err()
	}
}

func (m *Maintainer) propose(kind uint16, body []byte) error {
	m.mine.bytes += int64(len(body))
	m.mine.slots++
	return m.log.Propose(m.ctx, kind, body)
}

// useless returns the first slot that an extent refers to, at most limit, and the
// segments that nobody refers to.
func (m *Maintainer) useless(limit journal.Position) (first journal.Position, garbage []state.SegmentID) {
	m.log.View(func(s *state.State) {
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				if len(p.Index) > 0 && p.Index[0].Position().Before(limit) {
					limit = p.Index[0].Position()
				}
			}
		}
		garbage = append(garbage, s.Garbage...)
	})
	return limit, garbage
}

// hasGarbage reports whether there are segments to delete, now or later.
func (m *Maintainer) hasGarbage() bool {
	has := len(m.garbage) > 0
	m.log.View(func(s *state.State) { has = has || len(s.Garbage) > 0 })
	return has
}
