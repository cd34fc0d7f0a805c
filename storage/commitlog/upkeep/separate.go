package upkeep

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// What the upkeep does for slices that are about to move to another shard. They may share
// no segment with others, since afterwards each shard deletes its own; and nothing of them
// may lie in slots, which only the journal of their shard deletes. So from Separate on,
// their records get segments of their own, and no runs of theirs are adopted. Nothing is
// compacted meanwhile. From Hold on their pieces stay as they are, but for Depart.

// apart is what the upkeep knows of slices that are about to move. It belongs to run.
type apart struct {
	slices weir.SliceSet // none: nothing moves
	until  time.Time     // when that ends by itself, unless the slices are held
	held   bool          // pieces of these slices stay as they are
}

// has reports whether a partition is about to move.
func (a *apart) has(key state.Place) bool { return a.slices.Has(key.SliceOf()) }

// ends reports whether nothing is about to move any more.
func (a *apart) ends(now time.Time) bool {
	return a.slices.Len() > 0 && !a.held && !now.Before(a.until)
}

// order is a call that the upkeep makes between two passes.
type order struct {
	run    func() error
	answer chan error // capacity 1
}

// errInterrupted ends compaction for an order.
var errInterrupted = errors.New("compaction is interrupted")

// do makes a call between two passes. Compaction that is under way ends early. If ctx ends
// first, the call may still be made.
func (m *Maintainer) do(ctx context.Context, run func() error) error {
	m.orders.Add(1)
	defer m.orders.Add(-1)
	o := order{run, make(chan error, 1)}
	select {
	case m.ordered <- o:
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return ErrEnded
	}
	select {
	case err := <-o.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-m.ended:
		return ErrEnded
	}
}

// Separate rewrites the records of slices that share an object with others, or lie in
// slots, and keeps them apart from then on: until Release, or for Options.Age. Without
// slices it ends that. It returns when only what has come meanwhile is left to rewrite.
func (m *Maintainer) Separate(ctx context.Context, set weir.SliceSet) error {
	err := m.do(ctx, func() error {
		m.apart = apart{slices: set, until: m.log.Now().Add(m.o.Age)}
		return nil
	})
	// One order for each step, so that slots do not wait to be rewritten.
	for more := true; more && err == nil && set.Len() > 0; {
		err = m.do(ctx, func() (err error) {
			m.apart.until = m.log.Now().Add(m.o.Age)
			if err := m.keep(false); err != nil {
				return err
			}
			more, err = m.separate(m.passLimit().bytes)
			more = more || m.more
			return err
		})
	}
	return err
}

// Hold lets the pieces of slices stay as they are, until Release.
func (m *Maintainer) Hold(ctx context.Context, set weir.SliceSet) error {
	return m.do(ctx, func() error {
		m.apart = apart{slices: set, held: true}
		return nil
	})
}

// Depart moves all that slices have in slots into segments of their own. The slices are
// held, and nothing is appended to them any more.
func (m *Maintainer) Depart(ctx context.Context, set weir.SliceSet) error {
	return m.do(ctx, func() error {
		if m.apart.slices != set || !m.apart.held {
			return errors.New("the slices are not held")
		}
		w := &rewriter{m: m, slots: make(map[journal.Position][]byte), uses: make(map[journal.Position]int)}
		jobs := m.departing()
		for i := range jobs {
			w.left += jobs[i].bytes
		}
		w.fetch(jobs)
		if err := w.all(jobs); err != nil {
			return err
		}
		for more := true; more; {
			var err error
			if more, err = m.separate(m.passLimit().bytes); err != nil {
				return err
			}
		}
		var err error
		m.log.View(func(s *state.State) { err = s.Separated(set) })
		return err
	})
}

// Release ends what Separate and Hold have begun. It does not wait.
func (m *Maintainer) Release() {
	m.released.Store(true)
	m.nudge()
}

// departing lists what lies in slots of the slices that are held.
func (m *Maintainer) departing() (jobs []job) {
	m.log.View(func(s *state.State) {
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				if n := len(p.Index); n > 0 && m.apart.has(p.Key) {
					j := job{key: p.Key, extents: p.Index[:n:n], next: p.End}
					for i := range j.extents {
						j.bytes += int64(j.extents[i].Size)
					}
					jobs = append(jobs, j)
				}
			}
		}
	})
	return jobs
}

// separate rewrites about so many bytes of pieces of the slices that are kept apart, which
// lie in slots or share a segment with others. It reports whether there are more. The new
// pieces are clean if the old ones are.
func (m *Maintainer) separate(bytes int64) (more bool, err error) {
	m.reading = true
	defer func() { m.reading = false }()
	dirty, clean := &rewriter{m: m}, &rewriter{m: m, clean: true}
	for key, rows := range m.mixed() {
		for _, row := range rows {
			n := 0
			for ; n < len(row) && bytes > 0; n++ {
				bytes -= row[n].Data()
			}
			more = more || n < len(row)
			w := dirty
			if row[0].Segment.Clean() {
				w = clean
			}
			c := &cleaning{m: m, key: key, moves: true}
			if err := c.rewrite(w, row[:n]); err != nil {
				return false, errors.Join(err, dirty.finish(), clean.finish())
			}
		}
	}
	if err := dirty.finish(); err != nil {
		return false, err
	}
	return more, clean.finish()
}

// mixed finds rows of pieces for separate, which are all clean or all not.
func (m *Maintainer) mixed() map[state.Place][][]state.Piece {
	all := make(map[state.Place][][]state.Piece)
	m.log.View(func(s *state.State) {
		mine := make(map[state.SegmentID]int)
		m.eachApart(s, func(p *state.Partition) {
			for i := range p.Pieces {
				mine[p.Pieces[i].Segment]++
			}
		})
		m.eachApart(s, func(p *state.Partition) {
			from := 0
			for i := 0; i <= len(p.Pieces); i++ {
				if i < len(p.Pieces) {
					id := p.Pieces[i].Segment
					if mixed := id.Slot || mine[id] != s.Segments[id]; mixed && (i == from || id.Clean() == p.Pieces[from].Segment.Clean()) {
						continue
					} else if mixed {
						all[p.Key] = append(all[p.Key], p.Pieces[from:i])
						from = i
						continue
					}
				}
				if i > from {
					all[p.Key] = append(all[p.Key], p.Pieces[from:i])
				}
				from = i + 1
			}
		})
	})
	return all
}

// eachApart calls fn with the partitions that are kept apart.
func (m *Maintainer) eachApart(s *state.State, fn func(*state.Partition)) {
	for _, t := range s.Topics {
		for _, p := range t.Parts {
			if m.apart.has(p.Key) {
				fn(p)
			}
		}
	}
}

// lastApart moves the jobs of partitions that are kept apart to the end.
func (m *Maintainer) lastApart(jobs []job) {
	if m.apart.slices.Len() == 0 {
		return
	}
	slices.SortStableFunc(jobs, func(a, b job) int {
		switch x, y := m.apart.has(a.key), m.apart.has(b.key); {
		case x == y:
			return 0
		case x:
			return 1
		}
		return -1
	})
}

// obey makes the call of an order.
func (m *Maintainer) obey(o order) {
	err := o.run()
	if m.deductOwn(); err != nil {
		err = fmt.Errorf("keep slices apart: %w", err)
	}
	o.answer <- err
}
