package upkeep

import (
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// task is a part of the upkeep.
type task struct {
	name   string      // what it does, for errors
	due    func() bool // reports whether it alone is worth a pass; nil: it runs only with other tasks
	urgent bool        // due is asked at each look; for other tasks only when there was no pass for a while
	apart  bool        // it is not part of a pass: see compact
	saves  bool        // it runs only in a pass that ends with a checkpoint
	run    func(*pass) error
}

// pass is the data that the tasks of one pass share.
type pass struct {
	mark       tally             // all that was applied when it began
	saves      bool              // it ends with a checkpoint
	left       tally             // the part of the data in slots at the beginning that is still there
	swept      []state.SegmentID // segments that were deleted
	checkpoint journal.Position  // all before it is in a durable checkpoint
}

// tasks lists the tasks in an order in which a crash anywhere leaves the log whole. An
// object is durable before the entry that refers to it. An object is deleted only when
// the entry that makes it useless is durable, and a slot only when a checkpoint behind
// it is durable, too.
func (m *Maintainer) tasks() []task {
	return []task{
		{name: "delete what older epochs left over", run: m.leftovers},
		{name: "rewrite slots into segments", urgent: true, due: m.pressing, run: m.rewrite},
		{name: "trim partitions", due: m.expires, run: m.trim},
		{name: "delete segments", due: m.hasGarbage, saves: true, run: m.sweep},
		{name: "make a checkpoint", saves: true, run: m.save},
		{name: "delete slots", due: m.truncates, saves: true, run: m.truncate},
		{name: "compact", due: m.forgets, apart: true, run: m.compact},
	}
}

// pass runs the tasks of a pass in order, or if apart is set the other tasks.
func (m *Maintainer) pass(p *pass, apart bool) error {
	for _, t := range m.tasks() {
		if t.apart != apart || t.saves && !p.saves {
			continue
		}
		if err := t.run(p); err != nil {
			return fmt.Errorf("%s: %w", t.name, err)
		}
	}
	return nil
}
