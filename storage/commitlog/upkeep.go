package commitlog

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

// Upkeep says when what lies in slots is rewritten into segments. The zero value
// is for a node in production.
type Upkeep struct {
	Bytes   int64         // when the slots since the last time have so many bytes; 32 MiB
	Slots   int           // or when they are so many; 2,000
	Debt    int           // how many times as many may wait for it before writers are slowed down, and stopped at twice that; 8
	Age     time.Duration // or when the last time is so long ago; 10 minutes
	Grace   time.Duration // until a log that is idle makes a pass for what is left to delete; a minute
	Segment int           // bytes of a segment; 16 MiB, less where the bucket prefers that
	Keys    int           // that compaction keeps in memory at once; 1,048,576, which take 40 MB
	Off     bool          // never: the log is its slots
}

func (u Upkeep) withDefaults(b storage.Bucket) Upkeep {
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

func (u Upkeep) check() error {
	if u.Bytes < 0 || u.Slots < 0 || u.Debt < 0 || u.Age < 0 || u.Grace < 0 || u.Segment < 0 || u.Keys < 0 {
		return errors.New("negative limit of the upkeep")
	}
	return nil
}

// maintainer keeps the log small: it rewrites slots into segments, lets go what
// retention gives up, makes checkpoints, and deletes what nobody needs any more.
// All of it is in the log as entries before it counts, so a crash at any point
// leaves objects that nobody refers to, and nothing else.
type maintainer struct {
	log    host
	o      Upkeep
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
	spoiled  map[state.Place]bool  // has a piece that cannot be read: not compacted by this owner any more
	later    time.Time             // when compaction is due again that did not get through
}

// checkpoint is a snapshot of the state before a position.
type checkpoint struct {
	pos  journal.Position
	body []byte
}

// host is what the upkeep needs of the log that it keeps small.
type host struct {
	bucket    storage.Bucket
	shard     uint32
	level     int // of the format, from start on
	fillBytes int // a slot with more than one request in it is not larger
	log       *slog.Logger
	now       func() time.Time
	defaults  func() map[string]string // Options.Defaults

	view       func(func(*state.State))                                  // lets a function look at the durable state
	run        func(key state.Place, base int64) []byte                  // the batches of a run if they are in memory, else nil
	snapshot   func() []byte                                             // a checkpoint's body; only while a slot is applied
	propose    func(ctx context.Context, kind uint16, body []byte) error // makes an entry durable, ahead of those of writers
	checkpoint func(ctx context.Context, pos journal.Position, body []byte) error
	truncate   func(ctx context.Context, before journal.Position) error // deletes slots
	unreadable func(key state.Place, base int64, err error)             // is told of runs that cannot be read
	settled    func()                                                   // is called when writers who are held back may go on
	fail       func(error) error                                        // ends the log, and returns why it has ended
	lost       func(Loss)                                               // of a repair: is told of what is given up; else nil
}

func newMaintainer(ctx context.Context, l host, u Upkeep) *maintainer {
	m := &maintainer{
		log: l, o: u.withDefaults(l.bucket), ended: make(chan struct{}),
		wake: make(chan struct{}, 1), calls: make(chan chan error), snapshot: make(chan checkpoint, 1),
		memory: newSegmentMemory(),
		stuck:  make(map[state.Place]bool), horizons: make(map[state.Place]int64), spoiled: make(map[state.Place]bool),
	}
	m.ctx, m.cancel = context.WithCancel(ctx)
	return m
}

// repair makes the upkeep one that passes over what cannot be read, and tells lost of it.
// It is for a log that was not started.
func (m *maintainer) repair(lost func(Loss)) { m.log.lost = lost }

// start begins the upkeep of an owner: with its epoch, the format level of the bucket, and
// which epochs the log knows.
func (m *maintainer) start(epoch uint64, level int, knows func(epoch uint64) bool) {
	m.epoch, m.log.level, m.knows = epoch, level, knows
	m.inherit()
	go m.run()
}

// restored notes that a recovery starts over.
func (m *maintainer) restored() { m.debt.clear() }

// waiting is how much in slots is not rewritten behind a checkpoint yet.
func (m *maintainer) waiting() (bytes, slots int64) {
	owed := m.debt.owed()
	return owed.bytes, owed.slots
}

// lastPass is when the last pass got through, or when the upkeep began.
func (m *maintainer) lastPass() time.Time { return time.UnixMilli(m.through.Load()) }

// hasMore reports whether the last pass has left something for the next.
func (m *maintainer) hasMore() bool { return m.more }

// close ends the pass under way and waits for it.
func (m *maintainer) close() {
	m.cancel()
	<-m.ended
}

// applied is told of each slot, by who applies it.
func (m *maintainer) applied(pos journal.Position, entries []journal.Entry) {
	size := int64(0)
	for i := range entries {
		size += int64(len(entries[i].Body))
	}
	if m.enough(m.debt.add(size)) {
		m.nudge()
	}
	if m.wanted.CompareAndSwap(true, false) {
		m.snapshot <- checkpoint{journal.Position{Epoch: pos.Epoch, Slot: pos.Slot + 1}, m.log.snapshot()}
	}
}

// inherit counts what lies in slots after a recovery: all of it is to be rewritten.
func (m *maintainer) inherit() {
	left := tally{}
	for _, size := range m.slotted(nil) {
		left.bytes += size
		left.slots++
	}
	m.debt.inherit(left)
}

// enough says whether so much is worth a pass.
func (m *maintainer) enough(owed tally) bool {
	return owed.bytes >= m.o.Bytes || owed.slots >= int64(m.o.Slots)
}

// strain is what is owed by the limit beyond which writers are slowed down. A few
// slots are always within it.
func (m *maintainer) strain() float64 {
	if m.o.Off {
		return 0
	}
	owed, times := m.debt.owed(), float64(m.o.Debt)
	bytes := max(times*float64(m.o.Bytes), float64(4*m.log.fillBytes))
	return max(float64(owed.bytes)/bytes, float64(owed.slots)/(times*float64(m.o.Slots)))
}

func (m *maintainer) nudge() {
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// look is how often the maintainer looks at its clocks.
const look = 5 * time.Second

// run makes a pass whenever one is due, until the log ends.
func (m *maintainer) run() {
	defer close(m.ended)
	if m.o.Off {
		return
	}
	m.last = m.log.now()
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
		if answer == nil && (m.log.now().Sub(m.last) < wait || !m.due()) {
			if m.log.now().Sub(m.last) >= look {
				m.memory.drop()
			}
			continue
		}
		if answer != nil || m.log.now().Sub(m.tried) >= m.o.Age {
			clear(m.stuck)
			m.tried = m.log.now()
		}
		err := m.keep()
		for answer != nil && err == nil && m.more {
			err = m.keep()
		}
		if wait = 0; err != nil {
			m.last, wait = m.log.now(), m.o.retry()
		} else if answer != nil || !m.log.now().Before(m.later) {
			if err = m.pass(&pass{}, true); err != nil {
				m.later = m.log.now().Add(m.o.retry())
			}
		}
		if err != nil && m.ctx.Err() == nil {
			m.log.log.Warn("upkeep of the log did not get through, it is tried again", "shard", m.log.shard, "err", err)
		}
		if answer != nil {
			answer <- err
		}
	}
}

// retry is how long a pass that did not get through is left alone.
func (u Upkeep) retry() time.Duration { return min(u.Grace, 10*time.Second) }

// due reports whether there is enough to do for a pass.
func (m *maintainer) due() bool {
	idle := m.log.now().Sub(m.last) >= m.o.Grace
	for _, t := range m.tasks() {
		if t.due != nil && (idle || t.urgent) && t.due() {
			return true
		}
	}
	return false
}

// pressing says whether there is enough to rewrite for a pass.
func (m *maintainer) pressing() bool {
	owed := m.debt.owed()
	return m.enough(owed) || owed.bytes > 0 && m.log.now().Sub(m.last) >= m.o.Age
}

// truncates reports whether there are slots worth a pass to delete them: each pass
// leaves some of its own.
func (m *maintainer) truncates() bool {
	return m.cut.Epoch < m.unused.Epoch || m.cut.Epoch == m.unused.Epoch && m.cut.Slot+16 < m.unused.Slot
}

// errEnded: there is no upkeep any more.
var errEnded = errors.New("upkeep of the log has ended")

// maintain makes a pass now, and returns when it is done: see Log.Maintain.
func (m *maintainer) maintain(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case m.calls <- answer:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return errEnded
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return errEnded
	}
}

// keep makes a pass of all of the upkeep but compaction, which nothing here waits
// for. What it settles lets writers go on who are held back.
func (m *maintainer) keep() error {
	mark := m.debt.mark()
	m.mine = tally{}
	p := &pass{}
	err := m.pass(p, false)
	if err == nil {
		m.debt.settle(mark, p.left)
		m.forgive()
	}
	m.debt.ended(err)
	m.log.settled()
	return err
}

// forgive takes what the upkeep has written out of the debt.
func (m *maintainer) forgive() {
	m.debt.forgive(m.mine)
	m.mine = tally{}
}

// breathe makes the pass that has become due while compaction is at work, which
// may be so for hours.
func (m *maintainer) breathe() error {
	if m.ctx.Err() != nil || !m.pressing() {
		return m.ctx.Err()
	}
	if err := m.keep(); err != nil {
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
func (m *maintainer) truncate(p *pass) error {
	l := m.log
	if m.cut.Before(m.unused) {
		if err := l.truncate(m.ctx, m.unused); err != nil && m.ctx.Err() != nil {
			return m.ctx.Err()
		} else if err != nil {
			l.log.Warn("slots that nobody needs are not deleted yet", "shard", l.shard, "before", m.unused, "err", err)
		} else {
			m.cut = m.unused
		}
	}
	m.unused, m.garbage = m.useless(p.checkpoint)
	m.garbage = m.garbage[:min(len(m.garbage), l.fillBytes/2/state.MaxSwept)]
	m.last = l.now()
	m.through.Store(m.last.UnixMilli())
	return nil
}

// save notes what was deleted, and makes a checkpoint right behind.
func (m *maintainer) save(p *pass) error {
	c, err := m.note(p.swept)
	if err != nil {
		return err
	}
	p.checkpoint = c.pos
	return m.log.checkpoint(m.ctx, c.pos, c.body)
}

// note notes what was deleted, and takes a snapshot right behind.
func (m *maintainer) note(swept []state.SegmentID) (checkpoint, error) {
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
			return checkpoint{}, m.log.fail(fmt.Errorf("read back the checkpoint before %v: %w", c.pos, err))
		}
		return c, nil
	case <-m.ctx.Done():
		return checkpoint{}, m.ctx.Err()
	}
}

func (m *maintainer) propose(kind uint16, body []byte) error {
	m.mine.bytes += int64(len(body))
	m.mine.slots++
	return m.log.propose(m.ctx, kind, body)
}

// useless returns the first slot that an extent refers to, at most limit, and the
// segments that nobody refers to.
func (m *maintainer) useless(limit journal.Position) (first journal.Position, garbage []state.SegmentID) {
	m.log.view(func(s *state.State) {
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
func (m *maintainer) hasGarbage() bool {
	has := len(m.garbage) > 0
	m.log.view(func(s *state.State) { has = has || len(s.Garbage) > 0 })
	return has
}
