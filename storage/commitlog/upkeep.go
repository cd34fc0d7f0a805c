package commitlog

import (
	"cmp"
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
)

// Upkeep says when what lies in slots is rewritten into segments. The zero value
// is for a node in production.
type Upkeep struct {
	Bytes   int64         // when the slots since the last time have so many bytes; 32 MiB
	Slots   int           // or when they are so many; 2,000
	Age     time.Duration // or when the last time is so long ago; 10 minutes
	Grace   time.Duration // until a log that is idle makes a pass for what is left to delete; a minute
	Segment int           // bytes of a segment; 16 MiB, less where the bucket prefers that
	Keys    int           // that compaction keeps in memory at once; 1,048,576, which take 40 MB
	Off     bool          // never: the log is its slots
}

func (u Upkeep) withDefaults(b storage.Bucket) Upkeep {
	u.Bytes = cmp.Or(u.Bytes, 32<<20)
	u.Slots = cmp.Or(u.Slots, 2_000)
	u.Age = cmp.Or(u.Age, 10*time.Minute)
	u.Grace = cmp.Or(u.Grace, time.Minute)
	u.Segment = cmp.Or(u.Segment, 16<<20)
	u.Keys = cmp.Or(u.Keys, 1<<20)
	if size := storage.PreferredSize(b); size > 0 {
		u.Segment = min(u.Segment, size)
	}
	return u
}

// maintainer keeps the log small: it rewrites slots into segments, lets go what
// retention gives up, makes checkpoints, and deletes what nobody needs any more.
// All of it is in the log as entries before it counts, so a crash at any point
// leaves objects that nobody refers to, and nothing else.
type maintainer struct {
	log    *Log
	o      Upkeep
	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{}   // closed when run has returned
	wake   chan struct{}   // capacity 1
	calls  chan chan error // of Maintain

	bytes atomic.Int64 // applied since the last pass began
	slots atomic.Int64

	through atomic.Int64 // when the last pass got through, ms since 1970

	wanted   atomic.Bool     // the next slot applied is followed by a snapshot
	snapshot chan checkpoint // capacity 1

	// Of run alone.
	number  uint64           // of the last segment of this epoch
	last    time.Time        // when the last pass ended
	clean   bool             // what older epochs left over was deleted
	unused  journal.Position // all slots before it were of no use when the last pass ended
	cut     journal.Position // all slots before it were deleted
	garbage []segmentID      // were of no use when the last pass ended
	mine    int64            // bytes of entries that the pass under way has proposed
	more    bool             // the last pass has left something for the next

	stuck    map[placeKey]bool  // has a run that cannot be read: not rewritten until tried again
	tried    time.Time          // when all partitions were tried last
	horizons map[placeKey]int64 // ms since 1970: when tombstones that compaction has met may go
	spoiled  map[placeKey]bool  // has a piece that cannot be read: not compacted by this owner any more
}

// checkpoint is a snapshot of the state before a position.
type checkpoint struct {
	pos  journal.Position
	body []byte
}

func newMaintainer(l *Log, o Options) *maintainer {
	m := &maintainer{
		log: l, o: o.Upkeep.withDefaults(o.Bucket), ended: make(chan struct{}),
		wake: make(chan struct{}, 1), calls: make(chan chan error), snapshot: make(chan checkpoint, 1),
		stuck: make(map[placeKey]bool), horizons: make(map[placeKey]int64), spoiled: make(map[placeKey]bool),
	}
	m.ctx, m.cancel = context.WithCancel(context.Background())
	return m
}

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
	if m.bytes.Add(size) >= m.o.Bytes || m.slots.Add(1) >= int64(m.o.Slots) {
		m.nudge()
	}
	if m.wanted.CompareAndSwap(true, false) {
		m.snapshot <- checkpoint{journal.Position{Epoch: pos.Epoch, Slot: pos.Slot + 1}, m.log.snapshot()}
	}
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
	stop := context.AfterFunc(m.log.ctx, m.cancel)
	defer stop()
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
			continue
		}
		if answer != nil || m.log.now().Sub(m.tried) >= m.o.Age {
			clear(m.stuck)
			m.tried = m.log.now()
		}
		bytes, slots := m.bytes.Load(), m.slots.Load()
		err := m.pass()
		for answer != nil && err == nil && m.more {
			err = m.pass()
		}
		wait = 0
		if err != nil && m.ctx.Err() == nil {
			m.log.log.Warn("upkeep of the log did not get through, it is tried again", "shard", m.log.shard, "err", err)
			m.last, wait = m.log.now(), m.o.retry()
			m.bytes.Add(bytes) // what was due is due again
			m.slots.Add(slots)
		}
		if answer != nil {
			answer <- err
		}
	}
}

// retry is how long a pass that did not get through is left alone.
func (u Upkeep) retry() time.Duration { return min(u.Grace, 10*time.Second) }

// due says whether there is enough to do for a pass.
func (m *maintainer) due() bool {
	if m.bytes.Load() >= m.o.Bytes || m.slots.Load() >= int64(m.o.Slots) {
		return true
	}
	idle := m.log.now().Sub(m.last)
	if idle >= m.o.Age && m.bytes.Load() > 0 {
		return true
	}
	if idle < m.o.Grace {
		return false
	}
	return len(m.garbage) > 0 || m.useless() || m.log.hasGarbage() || m.forgets() || len(m.log.expired(m.log.now())) > 0
}

// useless says whether there are slots worth a pass to delete them: each pass
// leaves some of its own.
func (m *maintainer) useless() bool {
	return m.cut.Epoch < m.unused.Epoch || m.cut.Epoch == m.unused.Epoch && m.cut.Slot+16 < m.unused.Slot
}

// Maintain makes a pass now: on nil everything that was durable when it was
// called lies in segments, below a durable checkpoint. The log calls it by itself
// when it is due.
//
// Errors: ErrClosed, ErrFenced, ctx's, and what the pass met.
func (l *Log) Maintain(ctx context.Context) error {
	answer := make(chan error, 1)
	select {
	case l.upkeep.calls <- answer:
	case <-ctx.Done():
		return ctx.Err()
	case <-l.upkeep.ended:
		return cmp.Or(l.Err(), ErrClosed)
	}
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-l.upkeep.ended:
		return cmp.Or(l.Err(), ErrClosed)
	}
}

// pass is the whole of the upkeep, in an order in which a crash anywhere leaves
// the log whole: an object is there before the entry that refers to it, and an
// object is deleted only when the entry by which it is of no use is durable, and
// so is a checkpoint behind it if it is a slot.
func (m *maintainer) pass() error {
	l := m.log
	m.bytes.Store(0)
	m.slots.Store(0)
	m.mine = 0
	if !m.clean {
		if err := m.leftovers(); err != nil {
			return fmt.Errorf("delete what older epochs left over: %w", err)
		}
		m.clean = true
	}
	if err := m.rewrite(); err != nil {
		return fmt.Errorf("rewrite slots into segments: %w", err)
	}
	if err := m.compact(); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	for _, t := range l.expired(l.now()) {
		if err := m.propose(kindTrimmed, encodeTrimmed(t.key, t.start)); err != nil {
			return fmt.Errorf("trim %v: %w", t.key, err)
		}
	}
	swept := m.garbage
	m.garbage = nil
	if err := m.deleteSegments(swept); err != nil && m.ctx.Err() != nil {
		return m.ctx.Err()
	} else if err != nil {
		l.log.Warn("segments that nobody needs are not deleted yet", "shard", l.shard, "segments", len(swept), "err", err)
		swept = nil
	}
	c, err := m.settle(swept)
	if err != nil {
		return err
	}
	if err := l.journal.Checkpoint(m.ctx, c.pos, c.body); err != nil {
		return err
	}
	if m.cut.Before(m.unused) {
		if err := l.journal.Truncate(m.ctx, journal.Position{}, m.unused); err != nil && m.ctx.Err() != nil {
			return m.ctx.Err()
		} else if err != nil {
			l.log.Warn("slots that nobody needs are not deleted yet", "shard", l.shard, "before", m.unused, "err", err)
		} else {
			m.cut = m.unused
		}
	}
	m.unused, m.garbage = l.unused(c.pos)
	m.garbage = m.garbage[:min(len(m.garbage), l.slotBytes/2/maxSwept)]
	m.last = l.now()
	m.through.Store(m.last.UnixMilli())
	// What the pass itself has written is no reason for another one.
	m.bytes.Add(-m.mine)
	if m.more {
		m.bytes.Add(m.o.Bytes)
		m.nudge()
	}
	return nil
}

// settle notes what was deleted, and takes a snapshot right behind.
func (m *maintainer) settle(swept []segmentID) (checkpoint, error) {
	l := m.log
	select {
	case <-m.snapshot: // of a pass that did not get through
	default:
	}
	m.wanted.Store(true)
	// The owner before this one may not know yet that it is not the owner any
	// more, and store a segment now: its epoch is looked through once more by
	// the owner after this one.
	cleaned := max(uint64(l.epoch), 2) - 2
	if err := m.propose(kindSwept, encodeSwept(cleaned, m.cut, swept)); err != nil {
		m.wanted.Store(false)
		return checkpoint{}, fmt.Errorf("note deleted segments: %w", err)
	}
	select {
	case c := <-m.snapshot:
		// What cannot be read back must not be what slots are deleted for.
		if _, _, err := decodeBody(c.body); err != nil {
			l.fail(fmt.Errorf("read back the checkpoint before %v: %w", c.pos, err))
			return checkpoint{}, l.Err()
		}
		return c, nil
	case <-m.ctx.Done():
		return checkpoint{}, m.ctx.Err()
	}
}

func (m *maintainer) propose(kind uint16, body []byte) error {
	m.mine += int64(len(body))
	return m.log.propose(m.ctx, kind, body)
}

// propose makes an entry of the log's own durable.
func (l *Log) propose(ctx context.Context, kind uint16, body []byte) error {
	_, err := ask(ctx, l, len(body), func(b *builder) (struct{}, error) {
		b.put(kind, body)
		return struct{}{}, nil
	})
	return err
}

// unused returns the first slot that an extent refers to, at most limit, and the
// segments that nobody refers to.
func (l *Log) unused(limit journal.Position) (journal.Position, []segmentID) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for _, t := range l.state.topics {
		for _, p := range t.partitions {
			if len(p.index) > 0 && p.index[0].position().Before(limit) {
				limit = p.index[0].position()
			}
		}
	}
	return limit, append([]segmentID(nil), l.state.garbage...)
}

func (l *Log) hasGarbage() bool {
	l.mu.RLock()
	defer l.mu.RUnlock()
	return len(l.state.garbage) > 0
}
