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
func (b *Broker) Coordination() (c Coordination, err error) {
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
	if c.Lags, err = b.lags(shards); err != nil {
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
// them, which counts as no lag. Deleted topics are left out, and so are those of which
// another node serves a partition: its end is not known here.
func (b *Broker) lags(shards []*shard.Shard) ([]Lag, error) {
	var all []Lag
	elsewhere := make(map[int]bool) // indexes in all
	ends := make(map[group.Partition]int64)
	at := make(map[weir.TopicID]int) // index in all of the group's topic, -1 if it was deleted
	var failed error
	add := func(name string, committed []group.Position) {
		clear(at)
		for _, o := range committed {
			i, seen := at[o.Topic]
			if !seen {
				i = -1
				topic, err := b.TopicByID(o.Topic)
				if err == nil && topic.ID != OffsetsTopicID() {
					i = len(all)
					all = append(all, Lag{Group: name, Topic: topic.Name})
				} else if err != nil && !errors.Is(err, ErrUnknownTopic) {
					failed = err
				}
				at[o.Topic] = i
			}
			if i < 0 {
				continue
			}
			end, known := ends[o.Partition]
			var err error
			if !known {
				_, end, err = b.Bounds(o.Topic, o.Index)
				switch {
				case err == nil, errors.Is(err, ErrUnknownTopic): // the topic was just deleted
				case b.Several() && errors.Is(err, ErrNotOwner):
					end = -1
				default:
					failed = err
				}
				ends[o.Partition] = end
			}
			if end < 0 {
				elsewhere[i] = true
			}
			all[i].Records += uint64(max(end-o.Offset, 0))
		}
	}
	for _, s := range shards {
		if err := s.Groups.EachCommitted(add); err != nil {
			return nil, err
		}
	}
	if len(elsewhere) > 0 {
		some := all[:0]
		for i, lag := range all {
			if !elsewhere[i] {
				some = append(some, lag)
			}
		}
		all = some
	}
	return all, failed
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
