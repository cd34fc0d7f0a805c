package state

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// With more than one shard, the catalogue of topics is in shard 0 and their records are
// in the others. Each of these keeps a copy of the topics that were opened in it.
// Whoever asks for that knows the catalogue up to a position, which may lie behind, so
// each entry says at which position it was true:
//
//   - A topic is deleted in two steps. While it is being deleted its name is taken. Its
//     name becomes free when each shard has dropped the topic. Otherwise a record for the
//     topic could get into the next one of that name.
//   - A shard opens a topic before the first record of it. A topic that a catalogue does
//     not have may be one that it does not have yet, if its position lies before that.
//   - A shard that has dropped a topic refuses to open it, until its log has a position of
//     the catalogue at which the topic is gone. Who serves the shard knows a catalogue of
//     that position or a later one. What it read before that it does not open any more.

// Deletion is a topic that is being deleted.
type Deletion struct {
	Topic Topic
	At    journal.Position // of the entry that says so
}

// later returns the later one of two positions.
func later(a, b journal.Position) journal.Position {
	if a.Before(b) {
		return b
	}
	return a
}

// beginDeletion applies the first step of a deletion.
func (s *State) beginDeletion(pos journal.Position, id weir.TopicID) error {
	switch t := s.Topics[id]; {
	case t == nil:
		return s.broken("topic %v is being deleted and does not exist", id)
	case !t.Deleting.IsZero():
		return s.broken("topic %q is being deleted twice", t.Name)
	default:
		t.Deleting = pos
		return nil
	}
}

// openTopic applies that the catalogue has a topic at a position.
func (s *State) openTopic(t Topic, at journal.Position) error {
	old := s.Topics[t.ID]
	if _, dropped := s.Dropped[t.ID]; dropped {
		return s.broken("topic %q (%v) is opened, and was dropped", t.Name, t.ID)
	}
	if at.IsZero() {
		return s.broken("topic %q is opened without a position", t.Name)
	}
	if openedNowhere(s.Mutations) {
		at = journal.Position{}
	}
	s.Catalogue = later(s.Catalogue, at)
	switch {
	case old == nil:
		err := s.createTopic(t)
		if added := s.Topics[t.ID]; added != nil {
			added.Opened = at
		}
		return err
	case !old.Opened.Before(at):
		return nil
	case t.Name != old.Name && !old.Recovered() || t.Partitions < old.Partitions || t.Partitions > MaxPartitions:
		return s.broken("topic %q with %d partitions becomes %q with %d", old.Name, old.Partitions, t.Name, t.Partitions)
	}
	if t.Name != old.Name {
		if s.Names[t.Name] != nil {
			return s.broken("topic %q (%v) is opened, and %v has the name", t.Name, t.ID, s.Names[t.Name].ID)
		}
		delete(s.Names, old.Name)
		old.Name, s.Names[t.Name] = t.Name, old
	}
	s.grow(old, t.Partitions)
	old.Configs, old.Created, old.Opened = t.Configs, t.Created, at // the old map may be shared, so it is not changed
	return nil
}

// dropTopic applies that the catalogue deletes a topic, and did so at a position. The
// topic need not have been opened.
func (s *State) dropTopic(id weir.TopicID, at journal.Position) error {
	if at.IsZero() {
		return s.broken("topic %v is dropped without a position", id)
	}
	s.Catalogue = later(s.Catalogue, at)
	if !keepNoDropped(s.Mutations) {
		s.Dropped[id] = later(s.Dropped[id], at)
	}
	if s.Moves != nil {
		for _, a := range s.Moves.In {
			a.dropped[id] = true
		}
	}
	if s.Topics[id] == nil {
		return nil
	}
	return s.deleteTopic(id)
}

// forgetDropped applies that the catalogue at a position neither has these topics nor
// is deleting them.
func (s *State) forgetDropped(ids []weir.TopicID, at journal.Position) error {
	for _, id := range ids {
		if was, dropped := s.Dropped[id]; !dropped || !was.Before(at) {
			if err := s.broken("at %v it is forgotten that topic %v was dropped, which it was at %v", at, id, was); err != nil {
				return err
			}
		}
		delete(s.Dropped, id)
	}
	s.Catalogue = later(s.Catalogue, at)
	return nil
}

// EncodeTopicDeleting says that the deletion of a topic has begun.
func EncodeTopicDeleting(id weir.TopicID) []byte { return EncodeTopicDeleted(id) }

func decodeTopicDeleting(body []byte) (weir.TopicID, error) {
	d, err := newDecoder("topic-deleting", body)
	if err != nil {
		return weir.TopicID{}, err
	}
	id := d.ID()
	return weir.TopicID(id), d.end()
}

func appendPosition(p []byte, at journal.Position) []byte {
	p = binary.BigEndian.AppendUint64(p, at.Epoch)
	return binary.BigEndian.AppendUint64(p, at.Slot)
}

// position takes what appendPosition writes.
func (d *decoder) position() journal.Position {
	return journal.Position{Epoch: d.Uint64(), Slot: d.Uint64()}
}

// EncodeTopicOpened says what a topic is in the catalogue at a position.
func EncodeTopicOpened(t Topic, at journal.Position) []byte {
	return append(appendPosition([]byte{bodyVersion}, at), EncodeTopicCreated(t)...)
}

func decodeTopicOpened(body []byte) (t Topic, at journal.Position, err error) {
	d, err := newDecoder("topic-opened", body)
	if err != nil {
		return Topic{}, at, err
	}
	at = d.position()
	if d.Bad() {
		return Topic{}, at, d.end()
	}
	t, err = decodeTopicCreated(d.Rest())
	return t, at, err
}

// EncodeTopicDropped says that the catalogue is deleting a topic at a position.
func EncodeTopicDropped(id weir.TopicID, at journal.Position) []byte {
	return appendPosition(append([]byte{bodyVersion}, id[:]...), at)
}

func decodeTopicDropped(body []byte) (id weir.TopicID, at journal.Position, err error) {
	d, err := newDecoder("topic-dropped", body)
	if err != nil {
		return weir.TopicID{}, at, err
	}
	id, at = d.ID(), d.position()
	return id, at, d.end()
}

// EncodeDroppedForgotten says that the catalogue has none of these topics at a position.
func EncodeDroppedForgotten(ids []weir.TopicID, at journal.Position) []byte {
	p := appendPosition([]byte{bodyVersion}, at)
	p = binary.BigEndian.AppendUint32(p, uint32(len(ids)))
	for _, id := range slices.SortedFunc(slices.Values(ids), compareTopics) {
		p = append(p, id[:]...)
	}
	return p
}

func decodeDroppedForgotten(body []byte) (ids []weir.TopicID, at journal.Position, err error) {
	d, err := newDecoder("dropped-forgotten", body)
	if err != nil {
		return nil, at, err
	}
	at = d.position()
	ids = make([]weir.TopicID, d.count(d.Uint32(), len(weir.TopicID{})))
	for i := range ids {
		ids[i] = d.ID()
		if i > 0 && compareTopics(ids[i-1], ids[i]) >= 0 {
			d.Fail()
		}
	}
	return ids, at, d.end()
}

// opened appends what a checkpoint has of the catalogue of other shards, and of topics
// that are being deleted.
func (e *encoder) opened(s *State, order []weir.TopicID) {
	var opened, deleting []int
	for i, id := range order {
		if !s.Topics[id].Opened.IsZero() {
			opened = append(opened, i)
		}
		if !s.Topics[id].Deleting.IsZero() {
			deleting = append(deleting, i)
		}
	}
	e.position(s.Catalogue)
	e.number(len(opened))
	for _, i := range opened {
		e.number(i)
		e.position(s.Topics[order[i]].Opened)
	}
	e.number(len(deleting))
	for _, i := range deleting {
		e.number(i)
		e.position(s.Topics[order[i]].Deleting)
	}
	e.number(len(s.Dropped))
	for _, id := range sortedTopics(s.Dropped) {
		e.p = append(e.p, id[:]...)
		e.position(s.Dropped[id])
	}
}

func (e *encoder) position(at journal.Position) {
	e.uvarint(at.Epoch)
	e.uvarint(at.Slot)
}

// hasOpened reports whether a checkpoint needs what opened appends.
func (s *State) hasOpened() bool {
	if !s.Catalogue.IsZero() || len(s.Dropped) > 0 {
		return true
	}
	for _, t := range s.Topics {
		if !t.Opened.IsZero() || !t.Deleting.IsZero() {
			return true
		}
	}
	return false
}

// The least bytes that things take.
const (
	minOpened  = 1 + 1 + 1
	minDropped = 16 + 1 + 1
)

// opened is the inverse of the encoder's.
func (d *restorer) opened() {
	s := d.s
	s.Catalogue = d.pos()
	d.each(func(t *TopicData, at journal.Position) {
		t.Opened = at
		d.must(!s.Catalogue.Before(at))
	})
	d.each(func(t *TopicData, at journal.Position) { t.Deleting = at })
	var last weir.TopicID
	for i := range d.Count(minDropped) {
		id := weir.TopicID(d.ID())
		at := d.pos()
		d.must((i == 0 || compareTopics(last, id) < 0) && s.Topics[id] == nil && !at.IsZero() && !s.Catalogue.Before(at))
		if d.Bad() {
			return
		}
		s.Dropped[id], last = at, id
	}
	d.must(d.version > openedVersion || s.hasOpened())
}

// each takes positions of topics, which it calls set with.
func (d *restorer) each(set func(*TopicData, journal.Position)) {
	last := -1
	for range d.Count(minOpened) {
		i := int(d.uvarint32())
		at := d.pos()
		d.must(i > last && i < len(d.order) && !at.IsZero())
		if d.Bad() {
			return
		}
		set(d.order[i], at)
		last = i
	}
}

// flag takes a byte that is 0 or 1.
func (d *restorer) flag() bool {
	x := d.Byte()
	d.must(x <= 1)
	return x == 1
}

// pos takes a position.
func (d *restorer) pos() journal.Position {
	return journal.Position{Epoch: d.Uvarint(), Slot: d.Uvarint()}
}

// sortedTopics returns the keys of a map in order.
func sortedTopics[V any](all map[weir.TopicID]V) []weir.TopicID {
	ids := make([]weir.TopicID, 0, len(all))
	for id := range all {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, compareTopics)
	return ids
}

// Deletions returns the topics that are being deleted, oldest first.
func (s *State) Deletions() []Deletion {
	var all []Deletion
	for _, t := range s.Topics {
		if !t.Deleting.IsZero() {
			all = append(all, Deletion{t.Topic, t.Deleting})
		}
	}
	slices.SortFunc(all, func(a, b Deletion) int {
		return cmp.Or(cmp.Compare(a.At.Epoch, b.At.Epoch), cmp.Compare(a.At.Slot, b.At.Slot), bytes.Compare(a.Topic.ID[:], b.Topic.ID[:]))
	})
	return all
}
