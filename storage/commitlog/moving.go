package commitlog

import (
	"fmt"
	"maps"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// moving is the part of the speculation about slices that move. It belongs to the
// committer's goroutine.
type moving struct {
	leaving  *leaving                      // slices that are being moved away; nil: none
	coming   map[weir.MoveID]*coming       // imports that this owner has begun
	outcomes overlay[weir.MoveID, outcome] // of moves
	layouts  overlay[struct{}, state.Layout]
}

// leaving is a move away that this owner has stopped the slices of.
type leaving struct {
	move     weir.Move
	exported bool
	slot     uint64 // with the entry that ends it; 0: it has not ended
}

// coming is an import that this owner has begun.
type coming struct {
	slices weir.SliceSet
	parts  int
	slot   uint64 // with the entry that ends it; 0: it has not ended
}

// outcome is how a move ended. The zero value is not one.
type outcome struct {
	out bool // it moved out, and is not settled
	end state.MoveEnd
}

// forgetUpTo forgets what has ended in slots up to and including slot.
func (m *moving) forgetUpTo(slot uint64) {
	m.outcomes.forgetUpTo(slot)
	m.layouts.forgetUpTo(slot)
	if m.leaving != nil && m.leaving.slot > 0 && m.leaving.slot <= slot {
		m.leaving = nil
	}
	maps.DeleteFunc(m.coming, func(_ weir.MoveID, c *coming) bool { return c.slot > 0 && c.slot <= slot })
}

// outcome returns how a move ended here, with what is in flight.
func (s *speculation) outcome(id weir.MoveID) outcome {
	if x, found := s.outcomes.get(id); found {
		return x
	}
	return outcome{s.durable.MovedOut(id) != nil, s.durable.MoveEnded(id)}
}

// barred returns an error if nothing may be appended to a partition because its slice
// moves, or has moved.
func (s *speculation) barred(key state.Place) error {
	if s.leaving == nil && len(s.coming) == 0 && s.durable.Moves == nil {
		return nil // as in most logs
	}
	if err := s.bars(key.SliceOf()); err != nil {
		return fmt.Errorf("%w: %v", err, key)
	}
	return nil
}

func (s *speculation) bars(slice weir.Slice) error {
	if s.leaving != nil && s.leaving.move.Slices.Has(slice) || s.durable.Arriving(slice) {
		return ErrMoving
	}
	for _, c := range s.coming {
		if c.slices.Has(slice) {
			return ErrMoving
		}
	}
	if s.durable.Moves != nil && s.durable.Moves.Away.Has(slice) {
		return ErrMoved
	}
	return nil
}

// barredTopic returns ErrMoving if a topic has partitions in slices that are being moved
// away, until the move is settled. What is exported must not be deleted: the other shard may
// come to refer to it, and only then is it known to those who delete.
func (s *speculation) barredTopic(t *state.Topic) error {
	var set weir.SliceSet
	if s.leaving != nil {
		set = s.leaving.move.Slices
	}
	if s.durable.Moves != nil {
		for _, m := range s.durable.Moves.Out {
			set = set.With(m.Slices)
		}
	}
	if set.Len() == 0 {
		return nil
	}
	for p := range t.Partitions {
		if set.Has(weir.SliceOf(t.ID, p)) {
			return fmt.Errorf("%w: topic %q", ErrMoving, t.Name)
		}
	}
	return nil
}

// barredCommands returns an error if one of the commands may be about slices that move or
// have moved.
func (b *builder) barredCommands(commands []Command) error {
	s := b.spec
	if s.leaving == nil && len(s.coming) == 0 && s.durable.Moves == nil {
		return nil
	}
	for _, c := range commands {
		switch m := b.log.machines[c.Kind].(type) {
		case state.Sliced:
			if slice, about := m.SliceOf(c.Kind, c.Body); about {
				if err := s.bars(slice); err != nil {
					return fmt.Errorf("%w: entry of kind %d", err, c.Kind)
				}
			} else if s.leaving != nil {
				return fmt.Errorf("%w: entry of kind %d", ErrMoving, c.Kind)
			}
		case state.Slicer:
			if s.leaving != nil {
				return fmt.Errorf("%w: entry of kind %d", ErrMoving, c.Kind)
			}
		}
	}
	return nil
}

// stop admits that nothing more is appended to the slices of a move.
func (s *speculation) stop(m weir.Move) error {
	if s.leaving != nil {
		if s.leaving.move != m || s.leaving.slot > 0 {
			return fmt.Errorf("%w: move %v is under way", ErrMoving, s.leaving.move.ID)
		}
		return nil
	}
	if s.outcome(m.ID) != (outcome{}) {
		return fmt.Errorf("%w: %v has ended", ErrMoveEnded, m.ID)
	}
	for slice := range m.Slices.All() {
		if err := s.bars(slice); err != nil {
			return fmt.Errorf("%w: slice %d", err, slice)
		}
	}
	s.leaving = &leaving{move: m}
	return nil
}

// stopped returns an error unless the slices of a move are stopped.
func (s *speculation) stopped(id weir.MoveID, exported bool) error {
	if s.leaving == nil || s.leaving.move.ID != id || s.leaving.slot > 0 {
		return fmt.Errorf("%w: slices of %v are not stopped", ErrMoveEnded, id)
	}
	s.leaving.exported = s.leaving.exported || exported
	return nil
}

// moveOut admits that slices move out. write is false if that was done.
func (s *speculation) moveOut(id weir.MoveID) (write bool, err error) {
	if x := s.outcome(id); x.out || x.end == state.MoveSettled {
		return false, nil
	}
	if err := s.stopped(id, false); err != nil {
		return false, err
	}
	if !s.leaving.exported {
		return false, fmt.Errorf("%w: slices of %v are not exported", ErrMoveEnded, id)
	}
	s.leaving.slot = s.slot
	s.outcomes.set(s.slot, id, outcome{out: true})
	return true, nil
}

// void admits that a move is given up, unless it moved out. write is false if nothing is to
// be written.
func (s *speculation) void(id weir.MoveID, unsaid bool) (moved, write bool) {
	switch x := s.outcome(id); {
	case x.out || x.end == state.MoveSettled:
		return true, false
	case x.end != 0 || unsaid:
		return false, false
	}
	if s.leaving != nil && s.leaving.move.ID == id {
		s.leaving.slot = s.slot
	}
	s.outcomes.set(s.slot, id, outcome{end: state.MoveVoid})
	return false, true
}

// settle admits that a move that moved out is forgotten.
func (s *speculation) settle(id weir.MoveID) (write bool, err error) {
	switch x := s.outcome(id); {
	case x.end == state.MoveSettled:
		return false, nil
	case !x.out:
		return false, fmt.Errorf("%w: %v did not move out", ErrMoveEnded, id)
	}
	s.outcomes.set(s.slot, id, outcome{end: state.MoveSettled})
	return true, nil
}

// importPart admits a part of an import. The slices must have nothing here.
func (s *speculation) importPart(m weir.Move, part int) error {
	if s.outcome(m.ID) != (outcome{}) {
		return fmt.Errorf("%w: %v has ended", ErrMoveEnded, m.ID)
	}
	if c := s.coming[m.ID]; part > 0 {
		if c == nil || c.slot > 0 || c.parts != part {
			return fmt.Errorf("%w: %v has ended", ErrMoveEnded, m.ID)
		}
		c.parts++
		return nil
	}
	for slice := range m.Slices.All() {
		if err := s.bars(slice); err != nil && err != ErrMoved {
			return fmt.Errorf("%w: slice %d", err, slice)
		}
	}
	if key, has := s.has(m.Slices); has {
		return fmt.Errorf("%w: %v has records here", ErrMoving, key)
	}
	if s.coming == nil {
		s.coming = make(map[weir.MoveID]*coming)
	}
	s.coming[m.ID] = &coming{slices: m.Slices, parts: 1}
	return nil
}

// has finds a partition in slices that has records, or gets some.
func (s *speculation) has(set weir.SliceSet) (state.Place, bool) {
	for key, c := range s.ends.values {
		if c.value > 0 && set.Has(key.SliceOf()) {
			return key, true
		}
	}
	for _, t := range s.durable.Topics {
		for _, p := range t.Parts {
			if p.End > 0 && set.Has(p.Key.SliceOf()) {
				return p.Key, true
			}
		}
	}
	return state.Place{}, false
}

// endImport admits that an import is confirmed or cancelled. write is false if that was
// done.
func (s *speculation) endImport(id weir.MoveID, end state.MoveEnd) (write bool, err error) {
	switch x := s.outcome(id); {
	case x.end == end:
		return false, nil
	case x.end != 0:
		return false, fmt.Errorf("%w: %v has ended", ErrMoveEnded, id)
	}
	a := s.durable.Arrival(id)
	switch {
	case a == nil && end == state.MoveCancelled && s.coming[id] == nil:
		return false, nil // it never came
	case end == state.MoveConfirmed && (a == nil || !a.Whole()):
		return false, fmt.Errorf("%w: %v is not here", ErrMoveEnded, id)
	}
	if c := s.coming[id]; c != nil {
		c.slot = s.slot
	}
	s.outcomes.set(s.slot, id, outcome{end: end})
	return true, nil
}
