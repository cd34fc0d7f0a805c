package commitlog

import (
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// applier is the journal's view of a Log.
type applier struct{ log *Log }

// Apply changes the state by one durable slot, wakes the readers, and then gives the
// answers of the slot.
func (a applier) Apply(pos journal.Position, entries []journal.Entry) error {
	l := a.log
	l.applying = l.flight.memory(entries)
	l.feed.applying.Lock()
	err := l.apply(pos, entries)
	if err == nil {
		l.feed.applied(pos, entries)
	}
	l.feed.applying.Unlock()
	if err != nil {
		return fmt.Errorf("apply slot %s: %w", journal.SlotKey(l.shard, pos), err)
	}
	l.upkeep.Applied(pos, entries)
	l.applying.drop()
	l.acked.Store(pos.Slot)
	l.flight.applied() // nothing, in recovery
	l.line.nudge()
	l.flight.settle()
	return nil
}

// apply applies entries in their order. Machines have locks of their own and
// may look things up in the log, so theirs are applied without holding mu.
func (l *Log) apply(pos journal.Position, entries []journal.Entry) error {
	for len(entries) > 0 {
		if m := l.machines[entries[0].Kind]; m != nil {
			if err := m.Apply(entries[0].Kind, entries[0].Body); err != nil && l.lost != nil {
				l.lost(fmt.Sprintf("%s: entry of kind %d: %v", journal.SlotKey(l.shard, pos), entries[0].Kind, err))
			} else if err != nil {
				return fmt.Errorf("apply entry of kind %d: %w", entries[0].Kind, err)
			}
			entries = entries[1:]
			continue
		}
		if kind := entries[0].Kind; kind == state.KindMovedOut || kind == state.KindImported {
			if err := l.applyMove(pos, entries[0]); err != nil && l.lost != nil && errors.Is(err, state.ErrCorrupt) {
				l.lost(fmt.Sprintf("%s: entry about a move of slices: %v", journal.SlotKey(l.shard, pos), err))
			} else if err != nil {
				return fmt.Errorf("apply entry about a move of slices: %w", err)
			}
			entries = entries[1:]
			continue
		}
		n, err := l.applyOwn(pos, entries)
		if err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// applyMove applies an entry about a move of slices, which may also change the Machines.
func (l *Log) applyMove(pos journal.Position, e journal.Entry) error {
	l.mu.Lock()
	effect, err := l.state.ApplyMove(pos, e)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	if err := l.machines.Take(effect); err != nil {
		return err
	}
	l.changes.Add(1)
	if effect.Arrived {
		l.arrived.Store(l.now().UnixMilli())
	}
	if id, ends := state.EndsMove(e); ends && l.outgoing.end(id) {
		l.upkeep.Release()
	}
	return nil
}

// applyOwn applies entries up to the first one of a Machine, or about a move of slices.
func (l *Log) applyOwn(pos journal.Position, entries []journal.Entry) (n int, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for n < len(entries) && l.machines[entries[n].Kind] == nil && entries[n].Kind != state.KindMovedOut && entries[n].Kind != state.KindImported {
		if err := l.state.Apply(pos, entries[n]); err != nil && l.lost != nil && errors.Is(err, state.ErrCorrupt) {
			l.lost(fmt.Sprintf("%s: entry %d: %v", journal.SlotKey(l.shard, pos), n, err))
		} else if err != nil {
			return n, fmt.Errorf("apply entry %d: %w", n, err)
		}
		switch entries[n].Kind {
		case state.KindTopicCreated, state.KindTopicDeleted, state.KindTopicGrown, state.KindTopicAltered,
			state.KindTopicDeleting, state.KindTopicOpened, state.KindTopicDropped:
			l.changes.Add(1)
		}
		n++
	}
	return n, nil
}

// Restore replaces everything by the body of a checkpoint.
func (a applier) Restore(pos journal.Position, body []byte) error {
	a.log.upkeep.Restored()
	if err := a.log.restore(pos, body); err != nil {
		return fmt.Errorf("restore the checkpoint at %v: %w", pos, err)
	}
	a.log.feed.restored(pos)
	return nil
}

// snapshot encodes the state and the Machines between two slots. Only the goroutine
// that applies slots may call it.
func (l *Log) snapshot() []byte {
	body := l.machines.Checkpoint(func(p []byte) []byte {
		l.mu.RLock()
		defer l.mu.RUnlock()
		return l.state.Append(slices.Grow(p, l.encoded+l.encoded/16))
	})
	l.encoded = len(body)
	return body
}

// restore replaces the state and the Machines by what snapshot encoded when all slots
// before pos, and no others, were applied. Machines that the checkpoint does not know
// begin empty. After an error only some of them are replaced, and the log must not be
// used.
//
// Errors: ErrCorrupt; ErrFormat for a version that is not known, or a section
// that no Machine wants; and the Machines'.
func (l *Log) restore(pos journal.Position, body []byte) error {
	s, sections, err := state.DecodeCheckpoint(body)
	if err != nil {
		return err
	}
	if !s.Before(pos) {
		return fmt.Errorf("%w: it refers to a slot that does not come before it", state.ErrCorrupt)
	}
	if err := l.machines.Check(sections); err != nil {
		return err
	}
	l.mu.Lock()
	l.state.Become(s)
	l.mu.Unlock()
	return l.machines.Restore(sections)
}
