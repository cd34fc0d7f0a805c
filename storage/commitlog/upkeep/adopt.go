package upkeep

import (
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// A slot whose runs are large is not rewritten: it is adopted, and serves as a segment
// where it is. So its bytes are written once. What speaks against it is that each run
// becomes a piece of its own, which takes memory and a place in each checkpoint; that
// small runs in the slot are rewritten, and take their space there as well; and that a
// partition whose large and small runs alternate gets twice as many pieces. The rules
// below bound all three.

// load is what lies in a slot.
type load struct {
	all   int64 // bytes of runs
	large int64 // of those that are large enough to stay
}

// loads are the slots that partitions refer to.
type loads struct {
	slots map[journal.Position]load
	least int64 // bytes of a run that is large enough
}

// mostly reports whether so much of all is in large runs that these may stay.
func mostly(large, all int64) bool { return large > 0 && large >= all-all/4 }

// rewritten is how many bytes of a slot are rewritten, if large runs stay.
func (l load) rewritten() int64 {
	if mostly(l.large, l.all) {
		return l.all - l.large
	}
	return l.all
}

// adopts returns the bytes that lie in the slot of a run, if the run may stay there,
// else 0.
func (l loads) adopts(x *state.Extent) int64 {
	if int64(x.Size) < l.least {
		return 0
	}
	if s := l.slots[x.Position()]; mostly(s.large, s.all) {
		return s.all
	}
	return 0
}

// leaves reports whether the i-th run of the job stays in its slot.
func (j *job) leaves(i int) bool { return j.stays != nil && j.stays[i] > 0 }

// piecesStep is the number of pieces in a log after which only runs of twice the size
// are adopted. A piece takes about 130 bytes of memory, with its part of checkpoints. With
// runs of 1 MiB, one terabyte is less than 4 steps: all of them stay.
const piecesStep = 256 << 10

// never is above the size of each run.
const never = 1 << 30

// loads looks at all slots that partitions refer to. It leaves out partitions that are
// stuck.
func (m *Maintainer) loads(stuck map[state.Place]bool) loads {
	l := loads{slots: make(map[journal.Position]load), least: never}
	m.log.View(func(s *state.State) {
		if pieces := s.CountPieces(); m.log.level >= 2 && s.Identity != nil && m.log.lost == nil {
			l.least = min(never, int64(m.o.Adopt)<<min(pieces/piecesStep, 16))
		}
		for _, t := range s.Topics {
			for _, p := range t.Parts {
				for i := 0; i < len(p.Index) && !stuck[p.Key]; i++ {
					x := &p.Index[i]
					slot := l.slots[x.Position()]
					if slot.all += int64(x.Size); int64(x.Size) >= l.least {
						slot.large += int64(x.Size)
					}
					l.slots[x.Position()] = slot
				}
			}
		}
	})
	return l
}

// adopt makes a piece of the i-th run of a job where it is. The state refers to the run,
// so its slot is acknowledged, and no owner deletes it: one that was fenced knows no
// later state.
func (w *rewriter) adopt(j *job, i int) {
	x := &j.extents[i]
	w.placed = append(w.placed, state.Placed{Key: j.key, Piece: state.Piece{
		Base: x.Base, Next: j.nextOf(i), Time: x.Time, Segment: state.SlotID(x.Position()),
		At: x.At, Size: x.Size, Index: j.stays[i], Records: uint32(j.nextOf(i) - x.Base),
	}})
}
