package check

import (
	"fmt"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// catalogue is what shard 0 has said, as far as it was read. The other shards are read
// later, so what they know may be newer, but not older: a topic is dropped in each of
// them before it is deleted in shard 0.
type catalogue struct {
	state *state.State // nil: it could not be read to its end
	last  journal.Position
	began journal.Position // of the checkpoint; all before it is known, too
}

// knows reports whether what was said up to a position was read.
func (c *catalogue) knows(at journal.Position) bool {
	return c.state != nil && (!c.last.Before(at) || at.Before(c.began))
}

// across compares the topics of a shard with the catalogue.
func (a *auditor) across() {
	for _, t := range a.state.Topics {
		if t.Opened.IsZero() {
			continue
		}
		a.where = fmt.Sprintf("shard %d: topic %q (%v), opened at %v", a.shard, t.Name, t.ID, t.Opened)
		if a.catalogue.knows(t.Opened) {
			a.compareTopic(&t.Topic)
		}
	}
	for id, at := range a.state.Dropped {
		a.where = fmt.Sprintf("shard %d: topic %v, dropped at %v", a.shard, id, at)
		if !a.catalogue.knows(at) {
			continue
		}
		if t := a.catalogue.state.Topics[id]; t != nil && t.Deleting.IsZero() {
			a.problem(fmt.Errorf("%w: the catalogue has it as %q", state.ErrCorrupt, t.Name))
		}
	}
}

// compareTopic compares a topic with the catalogue, which is at least as new.
func (a *auditor) compareTopic(t *state.Topic) {
	switch known := a.catalogue.state.Topics[t.ID]; {
	case known == nil:
		a.problem(fmt.Errorf("%w: the catalogue does not have it", state.ErrCorrupt))
	case known.Name != t.Name || known.Partitions < t.Partitions:
		a.problem(fmt.Errorf("%w: it has %d partitions, the catalogue has it as %q with %d", state.ErrCorrupt, t.Partitions, known.Name, known.Partitions))
	}
}
