package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// leadShard makes b the owner of one of three shards. topics is nil for the catalogue.
func leadShard(t *testing.T, b *Broker, bucket storage.Bucket, id uint32, topics *machine.Topics) *commitlog.Log {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	o := shard.Options{Log: quiet, Part: shard.PartOf(id, 3), Topics: topics}
	o.Txns.Shard, o.Txns.Shards = id, b.TransactionShards()
	s := shard.New(o)
	if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Shard: id, Shards: 3, Node: b.Self().Name, Log: quiet}); err != nil {
		t.Fatal(err)
	}
	b.Lead(s)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s.Log.Log
}

// named returns a name whose slice a shard has.
func named(b *Broker, shard uint32, sliceOf func(string) weir.Slice) string {
	for i := 0; ; i++ {
		if name := fmt.Sprint("n", i); b.TransactionShards().ShardOf(sliceOf(name)) == shard {
			return name
		}
	}
}

// TestTransactionsOverNodes: node a has a transactional id and a partition, node b another
// partition and a group. What a transaction has on both ends on both.
func TestTransactionsOverNodes(t *testing.T) {
	bucket := &hooked{Bucket: mem.New()}
	var a, b *Broker
	away := errors.New("node is away")
	gone := false
	node := func(name string, other **Broker) *Broker {
		check := func(to Node) error {
			if to.Name != (*other).Self().Name {
				t.Errorf("node %q is asked", to.Name)
			}
			if gone {
				return away
			}
			return nil
		}
		return New(Options{Self: Node{ID: 1, Name: name}, Shards: 3, Partitions: 1, Metrics: metrics.NewSet(), Transacting: Transacting{
			Verify: func(ctx context.Context, to Node, p txn.Part) (uint64, error) {
				if err := check(to); err != nil {
					return 0, err
				}
				return (*other).VerifyTransaction(ctx, p)
			},
			End: func(ctx context.Context, to Node, shard uint32, d txn.Decision) error {
				if err := check(to); err != nil {
					return err
				}
				return (*other).EndTransaction(ctx, shard, d)
			},
		}})
	}
	a, b = node("a", &b), node("b", &a)
	catalogue := leadShard(t, a, bucket, 0, nil)
	topics := &machine.Topics{All: catalogue.Topics, ByID: catalogue.TopicByID}
	one, two := leadShard(t, a, bucket, 1, topics), leadShard(t, b, bucket, 2, topics)
	a.Follow(2, b.Self(), "")
	b.Follow(0, a.Self(), "")
	b.Follow(1, a.Self(), "")

	topic, err := catalogue.CreateTopic(t.Context(), "t", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(one.OpenTopic(t.Context(), topic, journal.Position{Epoch: 1, Slot: 1}), two.OpenTopic(t.Context(), topic, journal.Position{Epoch: 1, Slot: 1})); err != nil {
		t.Fatal(err)
	}
	at := map[uint32]int32{} // a partition in each shard
	for p := range int32(2) {
		at[a.TransactionShards().ShardOf(weir.SliceOf(topic.ID, p))] = p
	}
	id, name := named(a, 1, weir.SliceOfTransaction), named(a, 2, weir.SliceOfGroup)
	txns, err := a.Transactions(id)
	if err != nil {
		t.Fatal(err)
	}
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: id, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	send := func(b *Broker, shard uint32, sequence int32) error {
		answer := make(chan error, 1)
		b.AppendTransactional(t.Context(), Append{Topic: topic.ID, Partition: at[shard], Batch: recordtest.Transactional(p.ID, p.Epoch, sequence, "x")},
			Transaction{ID: id, Implicit: true}, func(_ int64, err error) { answer <- err })
		return <-answer
	}
	commit := func() error {
		_, err := b.CommitInTransaction(t.Context(), txn.OffsetsRequest{ID: id, Producer: p, Implicit: true, Commit: group.CommitRequest{
			Group: name, Generation: -1, Offsets: []group.Offset{{Partition: group.Partition{Topic: topic.ID}, Offset: 7}},
		}})
		return err
	}
	gone = true
	if err := send(b, 2, 0); !errors.Is(err, txn.ErrUnavailable) || errors.Is(err, ErrNotOwner) {
		t.Errorf("the coordinator is away: %v", err)
	}
	gone = false
	if err := errors.Join(send(a, 1, 0), send(b, 2, 0), commit()); err != nil {
		t.Fatal(err)
	}
	stable := func(b *Broker, shard uint32) int64 {
		stable, err := b.Stable(topic.ID, at[shard])
		if err != nil {
			t.Error(err)
		}
		return stable
	}
	if pending, err := b.PendingOffsets(name); err != nil || len(pending) != 1 || stable(a, 1) != 0 || stable(b, 2) != 0 {
		t.Errorf("pending offsets %v, %v; stable %d and %d", pending, err, stable(a, 1), stable(b, 2))
	}
	if _, err := txns.End(t.Context(), txn.EndRequest{ID: id, Producer: p, Commit: true, Bump: true}); err != nil {
		t.Fatal(err)
	}
	if pending, err := b.PendingOffsets(name); err != nil || len(pending) != 0 || stable(a, 1) != 2 || stable(b, 2) != 2 {
		t.Errorf("pending offsets %v, %v; stable %d and %d", pending, err, stable(a, 1), stable(b, 2))
	}
	groups, err := b.Groups(name)
	if err != nil {
		t.Fatal(err)
	}
	if all, err := groups.Offsets(name, nil); err != nil || len(all) != 1 || all[0].Offset != 7 {
		t.Errorf("offsets %v, %v", all, err)
	}
	stalled, stop := context.WithCancel(t.Context())
	stop()
	held := make(chan struct{})
	bucket.hook(func() { <-held })
	if _, err := a.TransactionShards().Verify(stalled, txn.Part{ID: id, Producer: txn.Producer{ID: p.ID, Epoch: p.Epoch + 1}, Place: Place{Topic: topic.ID, Partition: at[2]}, Implicit: true}); !errors.Is(err, context.Canceled) {
		t.Errorf("a shard whose bucket stalls is waited for: %v", err)
	}
	bucket.hook(nil)
	close(held)
	for _, err := range []error{send(a, 2, 0), a.EndTransaction(t.Context(), 2, txn.Decision{}), a.EndTransaction(t.Context(), 0, txn.Decision{}), a.EndTransaction(t.Context(), 9, txn.Decision{})} {
		if !errors.Is(err, ErrNotOwner) {
			t.Errorf("asked the wrong node: %v", err)
		}
	}
	if _, err := b.VerifyTransaction(t.Context(), txn.Part{ID: id}); !errors.Is(err, ErrNotOwner) {
		t.Errorf("asked the wrong node: %v", err)
	}
	if _, err := a.PendingOffsets(name); !errors.Is(err, ErrNotOwner) {
		t.Errorf("asked the wrong node: %v", err)
	}
}
