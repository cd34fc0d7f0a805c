package broker

import (
	"cmp"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// MaxCopyAge is how old a copy may become before a standby no longer answers from it.
const MaxCopyAge = 10 * time.Second

// Copy is what the owner of the shard knew a moment ago, for use on a standby. It
// must not be changed after SetCopy.
type Copy struct {
	Owner   string // name of the node that sent it
	Tag     string // names the owner's state
	Epoch   int32  // the owner's leader epoch
	Cluster string // id
	Offsets bool   // the offsets topic exists

	// Position is that of the catalogue: the copy is as new as the last entry up to it.
	// Zero: not known.
	Position journal.Position

	Users    *auth.Auth
	Quotas   *quota.Quotas
	Settings *settings.Settings
	Fleet    *fleet.Fleet  // nil in a cluster of one shard
	Asked    time.Time     // when the owner was asked: the copy is at least as new
	MaxAge   time.Duration // how old it may become; 0: MaxCopyAge

	topics   []Topic // by name
	names    map[string]int
	ids      map[weir.TopicID]int
	deleting []weir.TopicID
}

// SetTopics sets the topics of a new copy, and those that are being deleted.
func (c *Copy) SetTopics(topics []Topic, deleting ...weir.TopicID) {
	c.deleting = deleting
	c.topics = slices.SortedFunc(slices.Values(topics), func(a, b Topic) int { return cmp.Compare(a.Name, b.Name) })
	c.names, c.ids = make(map[string]int, len(topics)), make(map[weir.TopicID]int, len(topics))
	for i, t := range c.topics {
		c.names[t.Name], c.ids[t.ID] = i, i
	}
}

// SameTopics sets the topics of a new copy to those of an earlier one.
func (c *Copy) SameTopics(earlier *Copy) {
	c.topics, c.names, c.ids, c.deleting = earlier.topics, earlier.names, earlier.ids, earlier.deleting
}

// Exists reports whether there is a topic of that id, also one that is being deleted.
func (c *Copy) Exists(id weir.TopicID) bool {
	_, known := c.ids[id]
	return known || slices.Contains(c.deleting, id)
}

// SetCopy replaces the copy from which this node answers as a standby; nil removes
// it.
func (b *Broker) SetCopy(c *Copy) {
	last := b.copied.Swap(c)
	if c == nil || last == nil || c.Tag != last.Tag || c.Position != last.Position {
		b.notify()
	}
}

// Copy returns the copy from which this node answers. It is nil if there is none, if
// it is older than MaxCopyAge, or if this node is the owner.
func (b *Broker) Copy() *Copy {
	c := b.copied.Load()
	if c == nil || b.IsController() || time.Since(c.Asked) > cmp.Or(c.MaxAge, MaxCopyAge) {
		return nil
	}
	return c
}

// LastCopy returns the copy that was set last, however old it is, nil if there is
// none.
func (b *Broker) LastCopy() *Copy { return b.copied.Load() }

// view is the copy in which this node finds the topics of the cluster, nil if it finds
// them in the catalogue.
func (b *Broker) view() *Copy {
	if !b.Several() {
		return nil
	}
	return b.Copy()
}

// KnownTopics is Topics, or on a standby the topics of its copy.
func (b *Broker) KnownTopics() ([]Topic, error) {
	if c := b.Copy(); c != nil {
		return c.topics, nil
	}
	return b.Topics()
}

// KnownTopic is Topic, or on a standby a topic of its copy.
func (b *Broker) KnownTopic(name string) (Topic, error) {
	if c := b.Copy(); c != nil {
		return c.topic(name)
	}
	return b.Topic(name)
}

// topic returns the topic of that name.
func (c *Copy) topic(name string) (Topic, error) {
	i, ok := c.names[name]
	if !ok && name == OffsetsTopic && c.Offsets {
		return offsetsTopic(), nil
	}
	return known(name)(c.at(i, ok))
}

// KnownTopicByID is TopicByID, or on a standby a topic of its copy.
func (b *Broker) KnownTopicByID(id weir.TopicID) (Topic, error) {
	if c := b.Copy(); c != nil {
		return c.topicByID(id)
	}
	return b.TopicByID(id)
}

// topicByID returns the topic of that id.
func (c *Copy) topicByID(id weir.TopicID) (Topic, error) {
	i, ok := c.ids[id]
	if id == OffsetsTopicID() && c.Offsets {
		return offsetsTopic(), nil
	}
	return known(id)(c.at(i, ok))
}

func (c *Copy) at(i int, ok bool) (Topic, bool) {
	if !ok {
		return Topic{}, false
	}
	return c.topics[i], true
}
