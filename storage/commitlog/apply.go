package commitlog

import (
	"fmt"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// state is what the durable log says: the same entries give the same state, in
// recovery, in running and in Check. All reads, and all answers, come from it.
// In a Log it is guarded by Log.mu; only apply changes it.
type state struct {
	topics      map[weir.TopicID]*topic
	names       map[string]*topic
	gateways    map[string]*gateway
	producerIDs uint64            // all below may have been given out
	segments    map[segmentID]int // live pieces of each segment
	garbage     []segmentID       // without live pieces, not deleted yet
	cleaned     uint64            // what was left over of all epochs up to this one was deleted
	truncated   journal.Position  // all slots before it were deleted
	identity    *identity         // nil: the log says nothing of the objects beside it

	// appended, if set, is given the batches of each run as they come. It is not set
	// in recovery and in Check.
	appended func(key placeKey, base int64, data []byte)

	// tolerate, if set, is told of each broken rule and the log is read on.
	// Without it the first one is the end: nobody may lead such a log.
	tolerate func(error)

	// adopted is not of the log, but of this owner: see Adopt. One for each
	// gateway, the newest.
	adopted map[string]weir.BufferID

	repairing bool                  // a part of the log is missing: see gap
	recreated map[weir.TopicID]bool // of a repair; topics of which only records are known

	mutations stateMutations
}

func newState() *state {
	return &state{
		topics:      make(map[weir.TopicID]*topic),
		names:       make(map[string]*topic),
		gateways:    make(map[string]*gateway),
		adopted:     make(map[string]weir.BufferID),
		segments:    make(map[segmentID]int),
		producerIDs: 1,
	}
}

// broken reports a rule that the log at rest breaks.
func (s *state) broken(format string, args ...any) error {
	err := fmt.Errorf("%w: %s", ErrCorrupt, fmt.Sprintf(format, args...))
	if s.tolerate != nil {
		s.tolerate(err)
		return nil
	}
	return err
}

// apply changes the state by one entry of ours.
func (s *state) apply(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case kindTopicCreated:
		t, err := decodeTopicCreated(e.Body)
		if err != nil {
			return err
		}
		return s.createTopic(t)
	case kindTopicDeleted:
		id, err := decodeTopicDeleted(e.Body)
		if err != nil {
			return err
		}
		return s.deleteTopic(id)
	case kindTopicGrown:
		id, partitions, err := decodeTopicGrown(e.Body)
		if err != nil {
			return err
		}
		return s.growTopic(id, partitions)
	case kindTopicAltered:
		id, configs, err := decodeTopicAltered(e.Body)
		if err != nil {
			return err
		}
		return s.alterTopic(id, configs)
	case kindRun:
		r, err := decodeRun(e.Body)
		if err != nil {
			return err
		}
		return s.appendRun(pos, e.At, r)
	case kindBufferRetired:
		gateway, buffer, err := decodeBufferRetired(e.Body)
		if err != nil {
			return err
		}
		s.retire(bufferKey{gateway, buffer})
		return nil
	case kindProducerIDs:
		next, err := decodeProducerIDs(e.Body)
		if err != nil {
			return err
		}
		return s.reserveProducerIDs(next)
	}
	return s.applyUpkeep(pos, e)
}

// applyUpkeep is apply for entries that the log makes by itself.
func (s *state) applyUpkeep(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case kindInstalled:
		all, err := decodeInstalled(e.Body)
		if err != nil {
			return err
		}
		return s.install(pos, all)
	case kindTrimmed:
		key, start, err := decodeTrimmed(e.Body)
		if err != nil {
			return err
		}
		return s.trim(key, start)
	case kindSwept:
		cleaned, truncated, ids, err := decodeSwept(e.Body)
		if err != nil {
			return err
		}
		return s.sweep(cleaned, truncated, ids)
	case kindIdentity:
		i, err := decodeIdentity(e.Body)
		if err != nil {
			return err
		}
		return s.identify(i)
	}
	return fmt.Errorf("%w: entry of kind %d", ErrFormat, e.Kind)
}

func (s *state) reserveProducerIDs(next uint64) error {
	if next <= s.producerIDs {
		if err := s.broken("producer ids below %d are reserved twice", s.producerIDs); err != nil {
			return err
		}
	}
	s.producerIDs = max(next, s.producerIDs)
	return nil
}
