package state

import (
	"fmt"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// State is what the durable log says: the same entries give the same state, in
// recovery, in running and in Check. All reads, and all answers, come from it.
// In a Log it is guarded by Log.mu; only Apply changes it.
type State struct {
	Topics      map[weir.TopicID]*TopicData
	Names       map[string]*TopicData
	Gateways    map[string]*gateway
	ProducerIDs uint64            // all ids below it may have been given out
	Segments    map[SegmentID]int // live pieces of each segment that is not a slot
	Slots       AdoptedSlots      // slots that serve as segments
	Garbage     []SegmentID       // both kinds, without live pieces, not deleted yet
	Cleaned     uint64            // the leftovers of all epochs up to this one were deleted
	truncated   journal.Position  // all slots before it were deleted, but for those that serve as segments
	Identity    *Identity         // nil: the log says nothing of the objects beside it

	Dropped   map[weir.TopicID]journal.Position // topics that must not be opened again, and the position of the catalogue that says so
	Catalogue journal.Position                  // the highest position of the catalogue that the log of another shard than 0 has

	Moves  *Moves  // nil: no slices came or went
	Layout *Layout // of shard 0; nil: the map of slices is the one at creation

	// Appended, if set, is given the batches of each run as they come. It is not set
	// in recovery and in Check.
	Appended func(key Place, base int64, data []byte)

	// Changed, if set, is called when there is a reason to look at a partition again: it
	// has grown, or its topic was deleted. It is not set in recovery and in Check.
	Changed func(key Place)

	// Tolerate, if set, is told of each broken rule and the log is read on. If nil, the
	// first broken rule is an error: such a log must not be led.
	Tolerate func(error)

	// Adopted belongs to this owner and is not in the log: see Adopt. It has the newest
	// buffer of each gateway.
	Adopted map[string]weir.BufferID

	Repairing bool                  // a part of the log is missing: see recreate.go
	Recreated map[weir.TopicID]bool // in a repair: topics of which only records are known

	Mutations Mutations
}

// Empty returns the state before the first entry.
func Empty() *State {
	return &State{
		Topics:      make(map[weir.TopicID]*TopicData),
		Names:       make(map[string]*TopicData),
		Dropped:     make(map[weir.TopicID]journal.Position),
		Gateways:    make(map[string]*gateway),
		Adopted:     make(map[string]weir.BufferID),
		Segments:    make(map[SegmentID]int),
		ProducerIDs: 1,
	}
}

// Truncated returns the position before which all slots were deleted, but for those that
// serve as segments.
func (s *State) Truncated() journal.Position { return s.truncated }

// broken reports a rule that the log at rest breaks.
func (s *State) broken(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	if s.Tolerate != nil {
		s.Tolerate(err)
		return nil
	}
	return err
}

// Apply changes the state by one entry of the log's own kinds.
func (s *State) Apply(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case KindTopicCreated:
		t, err := decodeTopicCreated(e.Body)
		if err != nil {
			return err
		}
		return s.createTopic(t)
	case KindTopicDeleted:
		id, err := decodeTopicDeleted(e.Body)
		if err != nil {
			return err
		}
		return s.deleteTopic(id)
	case KindTopicGrown:
		id, partitions, err := decodeTopicGrown(e.Body)
		if err != nil {
			return err
		}
		return s.growTopic(id, partitions)
	case KindTopicAltered:
		id, configs, err := decodeTopicAltered(e.Body)
		if err != nil {
			return err
		}
		return s.alterTopic(id, configs)
	case KindRun:
		r, err := DecodeRun(e.Body)
		if err != nil {
			return err
		}
		return s.appendRun(pos, e.At, r)
	case KindBufferRetired:
		gateway, buffer, err := decodeBufferRetired(e.Body)
		if err != nil {
			return err
		}
		s.retire(BufferKey{gateway, buffer})
		return nil
	case KindProducerIDs:
		next, err := decodeProducerIDs(e.Body)
		if err != nil {
			return err
		}
		return s.reserveProducerIDs(next)
	}
	return s.applyOpened(pos, e)
}

// applyOpened is Apply for entries of clusters with more than one shard.
func (s *State) applyOpened(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case KindTopicDeleting:
		id, err := decodeTopicDeleting(e.Body)
		if err != nil {
			return err
		}
		return s.beginDeletion(pos, id)
	case KindTopicOpened:
		t, at, err := decodeTopicOpened(e.Body)
		if err != nil {
			return err
		}
		return s.openTopic(t, at)
	case KindTopicDropped:
		id, at, err := decodeTopicDropped(e.Body)
		if err != nil {
			return err
		}
		return s.dropTopic(id, at)
	case KindDroppedForgotten:
		ids, at, err := decodeDroppedForgotten(e.Body)
		if err != nil {
			return err
		}
		return s.forgetDropped(ids, at)
	case KindSliceMap, KindShardCount:
		return s.setLayout(e)
	case KindMovedOut, KindImported:
		_, err := s.ApplyMove(pos, e)
		return err
	}
	return s.applyUpkeep(pos, e)
}

// applyUpkeep is Apply for entries that the log makes by itself.
func (s *State) applyUpkeep(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case KindInstalled:
		all, err := decodeInstalled(e.Body)
		if err != nil {
			return err
		}
		return s.install(pos, all)
	case KindTrimmed:
		key, start, err := decodeTrimmed(e.Body)
		if err != nil {
			return err
		}
		return s.trim(key, start)
	case KindSwept:
		cleaned, truncated, ids, err := decodeSwept(e.Body)
		if err != nil {
			return err
		}
		return s.sweep(cleaned, truncated, ids)
	case KindIdentity:
		i, err := decodeIdentity(e.Body)
		if err != nil {
			return err
		}
		return s.identify(i)
	}
	return errKind("entry", e.Kind)
}

func (s *State) reserveProducerIDs(next uint64) error {
	if next <= s.ProducerIDs {
		if err := s.broken("producer ids below %d are reserved twice", s.ProducerIDs); err != nil {
			return err
		}
	}
	s.ProducerIDs = max(next, s.ProducerIDs)
	return nil
}
