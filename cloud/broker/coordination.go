package broker

import (
	"errors"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/weir"
)

// Coordination is what this node coordinates: the groups and transactions of its
// shards.
type Coordination struct {
	Groups       []group.Listing // by name in each shard, including those that have only offsets
	Lags         []Lag           // of the groups that have committed offsets
	Sharing      []Sharing       // of the share groups
	Transactions int             // that have not ended
}

// Lag is how far a group is behind in one topic.
type Lag struct {
	Group, Topic string
	Records      uint64
	Unknown      int // partitions that do not count, as the nodes that lead them do not say where they end
}

// Sharing is what a share group does with a topic.
type Sharing struct {
	Lag                       // records that are not done
	Acquired           uint64 // of them: that members have now
	Accepted, Rejected uint64 // since this owner began to serve the group
	Archived           uint64 // the same: too many deliveries
	Copied, Uncopied   uint64 // the same: to the dead-letter topic of the group; not there because it could not be used
}

// TransactionEnded counts a transaction; see txn.Options.
func (b *Broker) TransactionEnded(how txn.Ending) { b.ended[how].Inc() }

// Coordination returns what the owner of the shards knows of them. Errors:
// ErrNotOwner, ErrUnavailable: the values of an owner in doubt may be stale, and
// another owner may already have its own.
func (b *Broker) Coordination() (Coordination, error) { return b.coordination(nil) }

// coordination is Coordination. elsewhere has the ends of partitions that other nodes lead,
// as far as they are known.
func (b *Broker) coordination(elsewhere map[Place]int64) (c Coordination, err error) {
	shards, err := b.owned()
	if err != nil {
		return Coordination{}, err
	}
	for _, s := range shards {
		some, err := s.Groups.List()
		if err != nil {
			return Coordination{}, err
		}
		c.Groups = append(c.Groups, some...)
		c.Transactions += s.Txns.Open()
	}
	if c.Lags, err = b.lags(shards, elsewhere); err != nil {
		return Coordination{}, err
	}
	if c.Sharing, err = b.sharing(shards); err != nil {
		return Coordination{}, err
	}
	for _, s := range shards {
		if err := s.Log.Err(); err != nil { // no longer the owner; it may have only just noticed
			return Coordination{}, translate(err)
		}
	}
	return c, nil
}

// lags adds up, for each group of the shards and each topic in which it has committed
// offsets, how far these are behind the ends of their partitions. That is what
// weirctl and Kafka's tools show: records of open transactions count, and so do
// offsets whose records compaction or retention has removed.
//
// Ends are read once for all groups. A group that commits meanwhile may be ahead of
// them, which counts as no lag. Deleted topics are left out.
func (b *Broker) lags(shards []*shard.Shard, elsewhere map[Place]int64) ([]Lag, error) {
	sum := lagSum{b: b, elsewhere: elsewhere, ends: make(map[group.Partition]int64), at: make(map[weir.TopicID]int)}
	for _, s := range shards {
		if err := s.Groups.EachCommitted(sum.add); err != nil {
			return nil, err
		}
	}
	return sum.all, sum.failed
}

// lagSum adds lags up.
type lagSum struct {
	b         *Broker
	elsewhere map[Place]int64
	ends      map[group.Partition]int64 // -1: not known
	at        map[weir.TopicID]int      // index in all of the group's topic, -1 if it was deleted
	all       []Lag
	failed    error
}

// add adds a group.
func (x *lagSum) add(name string, committed []group.Position) {
	clear(x.at)
	for _, o := range committed {
		i, seen := x.at[o.Topic]
		if !seen {
			i = -1
			topic, err := x.b.TopicByID(o.Topic)
			if err == nil && topic.ID != OffsetsTopicID() {
				i = len(x.all)
				x.all = append(x.all, Lag{Group: name, Topic: topic.Name})
			} else if err != nil && !errors.Is(err, ErrUnknownTopic) {
				x.failed = err
			}
			x.at[o.Topic] = i
		}
		if i < 0 {
			continue
		}
		end, known := x.ends[o.Partition]
		if !known {
			end = x.end(o.Partition)
			x.ends[o.Partition] = end
		}
		if end < 0 {
			x.all[i].Unknown++
		}
		x.all[i].Records += uint64(max(end-o.Offset, 0))
	}
}

// end returns the end of a partition, -1 if it is not known.
func (x *lagSum) end(p group.Partition) int64 {
	if end, known := x.elsewhere[Place{Topic: p.Topic, Partition: p.Index}]; known {
		return end
	}
	_, end, err := x.b.Bounds(p.Topic, p.Index)
	switch {
	case err == nil, errors.Is(err, ErrUnknownTopic): // the topic was just deleted
	case x.b.Several() && errors.Is(err, ErrNotOwner):
		return -1
	default:
		x.failed = err
	}
	return end
}

// readElsewhere lists the partitions in which groups of the shards have committed offsets
// and which other nodes lead.
func (b *Broker) readElsewhere(shards []*shard.Shard) ([]Place, error) {
	var all []Place
	known := make(map[group.Partition]bool)
	for _, s := range shards {
		err := s.Groups.EachCommitted(func(_ string, committed []group.Position) {
			for _, o := range committed {
				if known[o.Partition] {
					continue
				}
				known[o.Partition] = true
				if _, err := b.at(weir.SliceOf(o.Topic, o.Index)); errors.Is(err, ErrNotOwner) {
					all = append(all, Place{Topic: o.Topic, Partition: o.Index})
				}
			}
		})
		if err != nil {
			return nil, err
		}
	}
	return all, nil
}

// sharing returns what the share groups of the shards do. Deleted topics are left out. The
// partitions of a topic may be in several shards; those that other nodes serve do not
// count.
func (b *Broker) sharing(shards []*shard.Shard) ([]Sharing, error) {
	var all []Sharing
	at := make(map[[2]string]int) // index in all, by group and topic
	for _, s := range shards {
		some, err := s.Shares.Usage()
		if err != nil {
			return nil, translateShare(err)
		}
		for _, u := range some {
			topic, err := b.TopicByID(u.Topic)
			if errors.Is(err, ErrUnknownTopic) {
				continue
			}
			if err != nil {
				return nil, err
			}
			key := [2]string{u.Group, topic.Name}
			i, seen := at[key]
			if !seen {
				i = len(all)
				at[key], all = i, append(all, Sharing{Lag: Lag{Group: u.Group, Topic: topic.Name}})
			}
			x := &all[i]
			x.Records += uint64(u.Lag)
			x.Acquired += uint64(u.Acquired)
			x.Accepted += uint64(u.Accepted)
			x.Rejected += uint64(u.Rejected)
			x.Archived += uint64(u.Archived)
			x.Copied += uint64(u.Copied)
			x.Uncopied += uint64(u.Uncopied)
		}
	}
	return all, nil
}
