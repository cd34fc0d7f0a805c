package commitlog

import (
	"fmt"

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
	Configs    map[string]string // shared: not to be changed
	Created    int64             // milliseconds since 1970
}

// topic is a topic with its data.
type topic struct {
	Topic
	partitions []*partition
}

func (t *topic) grow(partitions int32) {
	for i := int32(len(t.partitions)); i < partitions; i++ {
		t.partitions = append(t.partitions, &partition{key: placeKey{t.ID, i}})
	}
	t.Partitions = partitions
}

func (s *state) createTopic(t Topic) error {
	if s.names[t.Name] != nil || s.topics[t.ID] != nil {
		return s.broken("topic %q (%v) is created twice", t.Name, t.ID)
	}
	if t.Partitions < 1 || t.Partitions > MaxPartitions || checkTopicName(t.Name) != nil {
		return s.broken("topic %q is created with %d partitions", t.Name, t.Partitions)
	}
	added := &topic{Topic: t}
	added.grow(t.Partitions)
	s.topics[t.ID], s.names[t.Name] = added, added
	return nil
}

func (s *state) deleteTopic(id weir.TopicID) error {
	t := s.topics[id]
	if t == nil {
		return s.broken("topic %v is deleted and does not exist", id)
	}
	delete(s.topics, id)
	delete(s.names, t.Name)
	s.forgetTopic(id)
	for _, p := range t.partitions {
		for i := range p.pieces {
			s.release(p.pieces[i].segment)
		}
		p.wake()
	}
	return nil
}

func (s *state) growTopic(id weir.TopicID, partitions int32) error {
	t := s.topics[id]
	switch {
	case t == nil:
		return s.broken("topic %v grows and does not exist", id)
	case partitions <= t.Partitions || partitions > MaxPartitions:
		return s.broken("topic %q grows from %d to %d partitions", t.Name, t.Partitions, partitions)
	}
	t.grow(partitions)
	return nil
}

func (s *state) alterTopic(id weir.TopicID, configs map[string]string) error {
	t := s.topics[id]
	if t == nil {
		return s.broken("settings of topic %v are changed, which does not exist", id)
	}
	t.Configs = configs // the old ones may be in many hands: they are not touched
	return nil
}

// checkTopicName accepts what Kafka accepts.
func checkTopicName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxTopicName {
		return fmt.Errorf("%w: name %q", ErrInvalidTopic, name)
	}
	for _, c := range []byte(name) {
		legal := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-'
		if !legal {
			return fmt.Errorf("%w: name %q has %q in it", ErrInvalidTopic, name, c)
		}
	}
	return nil
}

// ownTopics is how the names of Weir's own topics begin. They are never held against
// others: what is reported there must not fail because of a user's topic.
const ownTopics = "weir."
