// Package brokertest has two nodes of a cluster of several shards in one process, for tests
// of what reads records that another node leads.
package brokertest

import (
	"context"
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Two.Near has the first NearShards shards: the catalogue, and shard NearData, which has all
// vhosts.
const (
	NearData   = 1
	NearShards = 2
)

// Two are two nodes on one bucket. Far has the shards from NearShards on.
type Two struct {
	Near, Far *broker.Broker
	Records   *broker.Records // of all partitions, as Near reads them
	Shards    []*shard.Shard  // by number

	Silent atomic.Bool  // Far does not answer questions
	Asked  atomic.Int64 // questions that it has not answered

	t     testing.TB
	there *broker.Records
}

// New makes the nodes. They lead nothing before Open.
func New(t testing.TB, shards int) *Two {
	t.Helper()
	node := func(name string) *broker.Broker {
		return broker.New(broker.Options{Self: broker.Node{ID: 1, Name: name}, Shards: shards, Partitions: 32})
	}
	x := &Two{Near: node("near"), Far: node("far"), Shards: make([]*shard.Shard, shards), t: t}
	x.there = broker.NewRecords(x.Far, broker.RecordsOptions{})
	x.Records = broker.NewRecords(x.Near, broker.RecordsOptions{
		Ask: func(ctx context.Context, _ broker.Node, what string, question []byte) ([]byte, error) {
			if x.Silent.Load() {
				x.Asked.Add(1)
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return x.there.Answer(ctx, what, question)
		},
		Follow: func(ctx context.Context, _ broker.Node, id uint32, tell func([]byte) error) error {
			return x.there.Tell(ctx, id, tell)
		}})
	return x
}

// Open opens the shards, whose Options change changes. made is called with each before it
// opens.
func (x *Two) Open(change func(id uint32, o *shard.Options), made func(id uint32, s *shard.Shard)) {
	x.t.Helper()
	bucket, quiet, shards := mem.New(), slog.New(slog.DiscardHandler), len(x.Shards)
	if _, err := identity.Open(x.t.Context(), bucket, shards); err != nil {
		x.t.Fatal(err)
	}
	for id := range uint32(shards) {
		o := shard.Options{Log: quiet, Part: shard.PartOf(id, shards)}
		if o.Part == shard.Data {
			o.Topics = &machine.Topics{All: x.topics, ByID: x.topicByID}
			o.Queues.Here = func(string) bool { return id == NearData }
		}
		o.Txns.Shard, o.Txns.Shards = id, x.Near.TransactionShards()
		change(id, &o)
		s := shard.New(o)
		made(id, s)
		if err := s.Open(x.t.Context(), commitlog.Options{Bucket: bucket, Shard: id, Shards: shards, Node: "a", Log: quiet}); err != nil {
			x.t.Fatal(err)
		}
		x.Shards[id] = s
		leads, follows := x.Near, x.Far
		if id >= NearShards {
			leads, follows = x.Far, x.Near
		}
		leads.Lead(s)
		follows.Follow(id, leads.Self(), "")
	}
}

func (x *Two) topics() []broker.Topic {
	all, _ := x.Near.Topics()
	return all
}

func (x *Two) topicByID(id weir.TopicID) (broker.Topic, bool) {
	topic, err := x.Near.TopicByID(id)
	return topic, err == nil
}

// Close closes the shards and what reads them.
func (x *Two) Close() {
	for _, s := range x.Shards {
		if err := s.Close(); err != nil {
			x.t.Error(err)
		}
	}
	for _, r := range []*broker.Records{x.Records, x.there} {
		if err := r.Close(); err != nil {
			x.t.Error(err)
		}
	}
}

// Create makes a topic, which all shards have opened then.
func (x *Two) Create(name string) broker.Topic {
	x.t.Helper()
	topic, err := x.Near.CreateTopic(x.t.Context(), name, -1, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	for _, s := range x.Shards[1:] {
		if err := s.Log.OpenTopic(x.t.Context(), topic, x.Shards[0].Log.Acked()); err != nil {
			x.t.Fatal(err)
		}
	}
	return topic
}

// Places returns a partition of each shard of Far, and one of Near.
func (x *Two) Places(topic broker.Topic) (far []int32, near int32) {
	x.t.Helper()
	near = -1
	seen := make(map[uint32]bool)
	for p := range topic.Partitions {
		id := x.Near.RouteOf(weir.SliceOf(topic.ID, p))
		switch {
		case id == NearData:
			near = p
		case !seen[id]:
			seen[id] = true
			far = append(far, p)
		}
	}
	if len(far) != len(x.Shards)-NearShards || near < 0 {
		x.t.Fatalf("not every shard has a partition: %d, %d", far, near)
	}
	return far, near
}

// Put appends at the node that leads the partition, whether that answers or not, and waits
// until the batch is durable.
func (x *Two) Put(topic broker.Topic, partition int32, batch record.Batch) {
	x.t.Helper()
	leads := x.Far
	if x.Near.RouteOf(weir.SliceOf(topic.ID, partition)) == NearData {
		leads = x.Near
	}
	done := make(chan error, 1)
	leads.Append(broker.Append{Topic: topic.ID, Partition: partition, Batch: batch}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		x.t.Fatal(err)
	}
}

// TakeOver has Near take over the shards of Far.
func (x *Two) TakeOver() {
	for _, s := range x.Shards[NearShards:] {
		x.Far.Follow(s.ID, broker.Node{}, "")
		x.Near.Lead(s)
	}
}
