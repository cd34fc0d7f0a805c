package upkeep

import (
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// task is a part of the upkeep.
type task struct {
	name   string      // what it does, for errors
	due    func() bool // reports whether it alone is worth a pass; nil: it goes along with others
	urgent bool        // it is asked whenever the upkeep looks, others only when no pass was made for a while
	apart  bool        // it is no part of a pass: see compact
	run    func(*pass) error
}

// pass is what the tasks of one pass tell each other.
type pass struct {
	left       tally             // what still lies in slots of what did when the pass began
	swept      []state.SegmentID // segments that were deleted
	checkpoint journal.Position  // all before it is in a durable checkpoint
}

// tasks lists the upkeep in an order in which a crash anywhere leaves the log whole: an
// object is there before the entry that refers to it, and an object is deleted only when
// the entry by which it is of no use is durable, and so is a checkpoint behind it if it
// is a slot.
func (m *Maintainer) tasks() []task {
	return []task{
		{name: "delete what older epochs left over", run: m.leftovers},
		{name: "rewrite slots into segments", urgent: true, due: m.pressing, run: m.rewrite},
		{name: "trim partitions", due: m.expires, run: m.trim},
		{name: "delete segments", due: m.hasGarbage, run: m.sweep},
		{name: "make a checkpoint", run: m.save},
		{name: "delete slots", due: m.truncates, run: m.truncate},
		{name: "compact", due: m.forgets, apart: true, run: m.compact},
	}
}

// pass runs the tasks in order, those of a pass or, apart, the others.
func (m *Maintainer) pass(p *pass, apart bool) error {
	for _, t := range m.tasks() {
		if t.apart != apart {
			continue
		}
		if err := t.run(p); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}
