package state

import (
	"fmt"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// MaxPartitions is the largest number of partitions of a topic.
const MaxPartitions = 10_000

// maxTopicName is Kafka's limit.
const maxTopicName = 249

// Topic is one entry of the catalogue.
type Topic struct {
	ID         weir.TopicID
	Name       string
	Partitions int32
	Configs    map[string]string // shared: must not be changed
	Created    int64             // milliseconds since 1970
}

// TopicData is a topic with its data.
type TopicData struct {
	Topic
	Parts    []*Partition
	Opened   journal.Position // of the catalogue at which this is known to be the topic; zero in the catalogue's own shard
	Deleting journal.Position // of the entry that began the deletion; zero: it is not being deleted
}

func (t *TopicData) grow(partitions int32) {
	for i := int32(len(t.Parts)); i < partitions; i++ {
		t.Parts = append(t.Parts, &Partition{Key: Place{t.ID, i}})
	}
	t.Partitions = partitions
}

// grow adds partitions to a topic.
func (s *State) grow(t *TopicData, partitions int32) {
	n := len(t.Parts)
	t.grow(partitions)
	for _, p := range t.Parts[n:] {
		p.Bias = s.bias(p.Key)
	}
}

func (s *State) createTopic(t Topic) error {
	if s.Names[t.Name] != nil || s.Topics[t.ID] != nil {
		return s.broken("topic %q (%v) is created twice", t.Name, t.ID)
	}
	if t.Partitions < 1 || t.Partitions > MaxPartitions || CheckTopicName(t.Name) != nil {
		return s.broken("topic %q is created with %d partitions", t.Name, t.Partitions)
	}
	added := &TopicData{Topic: t}
	s.grow(added, t.Partitions)
	s.Topics[t.ID], s.Names[t.Name] = added, added
	return nil
}

func (s *State) deleteTopic(id weir.TopicID) error {
	t := s.Topics[id]
	if t == nil {
		return s.broken("topic %v is deleted and does not exist", id)
	}
	delete(s.Topics, id)
	delete(s.Names, t.Name)
	s.forgetTopic(id)
	for _, p := range t.Parts {
		for i := range p.Pieces {
			s.release(&p.Pieces[i])
		}
		s.changed(p)
	}
	return nil
}

func (s *State) growTopic(id weir.TopicID, partitions int32) error {
	t := s.Topics[id]
	switch {
	case t == nil:
		return s.broken("topic %v grows and does not exist", id)
	case partitions <= t.Partitions || partitions > MaxPartitions:
		return s.broken("topic %q grows from %d to %d partitions", t.Name, t.Partitions, partitions)
	}
	s.grow(t, partitions)
	return nil
}

func (s *State) alterTopic(id weir.TopicID, configs map[string]string) error {
	t := s.Topics[id]
	if t == nil {
		return s.broken("settings of topic %v are changed, which does not exist", id)
	}
	t.Configs = configs // the old map may be shared, so it is not changed
	return nil
}

// CheckTopicName returns an error for a name that Kafka does not accept.
func CheckTopicName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxTopicName {
		return fmt.Errorf("%w: name %q", ErrInvalidTopic, name)
	}
	for _, c := range []byte(name) {
		legal := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		if !legal {
			return fmt.Errorf("%w: name %q contains %q", ErrInvalidTopic, name, c)
		}
	}
	return nil
}

// OwnTopics is the prefix of the names of Weir's own topics. They may be created beside
// a user's topic with a similar name: reports to them must not fail because of it.
const OwnTopics = "weir."
