package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// Listing is the topics of a log without anything that lies in them: what a node keeps
// that does not own the log.
type Listing map[weir.TopicID]Listed

// Listed is a topic in a Listing.
type Listed struct {
	Topic
	Deleting journal.Position // see TopicData
}

// Listing returns the topics.
func (s *State) Listing() Listing {
	l := make(Listing, len(s.Topics))
	for id, t := range s.Topics {
		l[id] = Listed{t.Topic, t.Deleting}
	}
	return l
}

// Lists reports whether entries of a kind change a Listing.
func Lists(kind uint16) bool {
	switch kind {
	case KindTopicCreated, KindTopicDeleted, KindTopicGrown, KindTopicAltered, KindTopicDeleting, KindMovedOut:
		return true
	}
	return false
}

// Apply changes the topics by one entry of a kind that Lists knows.
//
// Errors: ErrCorrupt, ErrFormat.
func (l Listing) Apply(pos journal.Position, e journal.Entry) error {
	switch e.Kind {
	case KindTopicCreated:
		t, err := decodeTopicCreated(e.Body)
		if err != nil {
			return err
		}
		if _, known := l[t.ID]; known {
			return fmt.Errorf("%w: topic %v is created twice", ErrCorrupt, t.ID)
		}
		l[t.ID] = Listed{Topic: t}
	case KindTopicDeleted:
		id, err := decodeTopicDeleted(e.Body)
		if err != nil {
			return err
		}
		return l.change(id, func(*Listed) { delete(l, id) })
	case KindTopicGrown:
		id, partitions, err := decodeTopicGrown(e.Body)
		if err != nil {
			return err
		}
		return l.change(id, func(t *Listed) { t.Partitions = partitions; l[id] = *t })
	case KindTopicAltered:
		id, configs, err := decodeTopicAltered(e.Body)
		if err != nil {
			return err
		}
		return l.change(id, func(t *Listed) { t.Configs = configs; l[id] = *t })
	case KindTopicDeleting:
		id, err := decodeTopicDeleting(e.Body)
		if err != nil {
			return err
		}
		return l.change(id, func(t *Listed) { t.Deleting = pos; l[id] = *t })
	case KindMovedOut:
		x, err := decodeMove(e.Kind, e.Body)
		if err != nil {
			return err
		}
		maps.DeleteFunc(l, func(id weir.TopicID, t Listed) bool {
			return weir.Hidden(t.Name) && x.move.Slices.Has(weir.SliceOf(id, 0))
		})
	default:
		return errKind("entry of a catalogue", e.Kind)
	}
	return nil
}

// change changes a topic, which must be there.
func (l Listing) change(id weir.TopicID, change func(*Listed)) error {
	t, known := l[id]
	if !known {
		return fmt.Errorf("%w: topic %v is changed and does not exist", ErrCorrupt, id)
	}
	change(&t)
	return nil
}

// Topics returns the topics that are not being deleted, sorted by name.
func (l Listing) Topics() []Topic {
	topics := make([]Topic, 0, len(l))
	for _, t := range l {
		if t.Deleting.IsZero() {
			topics = append(topics, t.Topic)
		}
	}
	slices.SortFunc(topics, func(a, b Topic) int { return cmp.Compare(a.Name, b.Name) })
	return topics
}

// layoutVersion is the version of a catalogue that has a map of slices.
const layoutVersion = 2

// AppendCatalogue encodes what a node keeps that does not own the log: the number of
// topics, and for each, ids ascending, the body of the entry that would create it, with its
// length, and where its deletion began; then the map of slices, if it is not the one at
// creation.
func (s *State) AppendCatalogue(p []byte) []byte {
	version := byte(bodyVersion)
	if s.Layout != nil {
		version = layoutVersion
	}
	l := s.Listing()
	e := &encoder{p: append(p, version)}
	e.number(len(l))
	for _, id := range sortedTopics(l) {
		head := EncodeTopicCreated(l[id].Topic)
		e.number(len(head))
		e.p = append(e.p, head...)
		e.position(l[id].Deleting)
	}
	if s.Layout != nil {
		e.layout(s.Layout)
	}
	return e.p
}

// DecodeCatalogue decodes what Machines.Checkpoint has made with AppendCatalogue. Like
// DecodeCheckpoint it returns the Machines' part undecoded.
//
// Errors: ErrCorrupt, ErrFormat.
func DecodeCatalogue(body []byte) (Listing, *Layout, sections, error) {
	own, all, err := splitBody(body)
	if err != nil {
		return nil, nil, nil, err
	}
	d := &restorer{decoder: decoder{Decoder: coding.NewDecoder(own), what: "listing"}}
	version := d.Byte()
	if !d.Bad() && version != bodyVersion && version != layoutVersion {
		return nil, nil, nil, fmt.Errorf("%w: listing of version %d, this program knows %d and %d", ErrFormat, version, bodyVersion, layoutVersion)
	}
	l := make(Listing)
	last := weir.TopicID{}
	for i := range d.Count(minTopic) {
		t, err := decodeTopicCreated(d.Bytes())
		if err != nil {
			return nil, nil, nil, err
		}
		if t.Partitions < 1 || t.Partitions > MaxPartitions || CheckTopicName(t.Name) != nil || i > 0 && compareTopics(last, t.ID) >= 0 {
			return nil, nil, nil, fmt.Errorf("%w: listing: topic %q (%v) with %d partitions after %v", ErrCorrupt, t.Name, t.ID, t.Partitions, last)
		}
		l[t.ID], last = Listed{t, d.pos()}, t.ID
	}
	var layout *Layout
	if version == layoutVersion {
		layout = d.layout()
	}
	return l, layout, all, d.end()
}
