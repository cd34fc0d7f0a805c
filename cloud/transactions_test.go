package cloud

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record/recordtest"
	"github.com/weirmq/weir/storage/weir"
)

// take makes another node the owner of a shard, as if it had heard nothing of this one.
func (r running) take(t *testing.T, id uint32, from running) {
	t.Helper()
	info, err := r.self.Info(2)
	if err != nil {
		t.Fatal(err)
	}
	thief := r.newOwned(id, r.self)
	if err := thief.Open(t.Context(), r.logOptions(thief, info, uint64(from.shards.get(id).Log.Epoch())+1)); err != nil {
		t.Fatal(err)
	}
	if err := thief.Close(); err != nil {
		t.Error(err)
	}
	eventually(t, "the shard has moved", func() bool {
		named, known := from.broker.Coordinator(sliceIn(id))
		return from.shards.get(id) == nil && r.shards.get(id) != nil && known && named.Name == r.o.Node
	})
}

// TestTransactionsOverPeer: a transaction has partitions on two nodes, which speak about
// it over the peer port.
func TestTransactionsOverPeer(t *testing.T) {
	bucket := bucketOf(t, 3)
	first, second := startPair(t, bucket)
	second.take(t, 2, first)

	topic, err := first.broker.CreateTopic(t.Context(), "a", 2, nil)
	if err != nil {
		t.Fatal(err)
	}
	partition := map[uint32]int32{}
	owners := map[uint32]running{1: first, 2: second}
	for p := range int32(2) {
		id := first.broker.RouteOf(weir.SliceOf(topic.ID, p))
		partition[id] = p
		if err := owners[id].shards.get(id).Log.OpenTopic(t.Context(), topic, journal.Position{Epoch: 1, Slot: 1}); err != nil {
			t.Fatal(err)
		}
	}
	id := "x"
	for first.broker.TransactionShards().ShardOf(weir.SliceOfTransaction(id)) != 1 {
		id += "x"
	}
	txns, err := first.broker.Transactions(id)
	if err != nil {
		t.Fatal(err)
	}
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: id, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	send := func(shard uint32, p txn.Producer) error {
		answer := make(chan error, 1)
		owners[shard].broker.AppendTransactional(t.Context(), broker.Append{Topic: topic.ID, Partition: partition[shard], Batch: recordtest.Transactional(p.ID, p.Epoch, 0, "x")},
			broker.Transaction{ID: id, Implicit: true}, func(_ int64, err error) { answer <- err })
		return <-answer
	}
	for i := range int64(2) {
		if err := errors.Join(send(1, p), send(2, p)); err != nil {
			t.Fatal(err)
		}
		next, err := txns.End(t.Context(), txn.EndRequest{ID: id, Producer: p, Commit: true, Bump: true})
		if err != nil {
			t.Fatal(err)
		}
		for shard, owner := range owners {
			if stable, err := owner.broker.Stable(topic.ID, partition[shard]); err != nil || stable != 2*(i+1) {
				t.Errorf("shard %d is stable up to %d, %v", shard, stable, err)
			}
		}
		if err := send(2, p); !errors.Is(err, txn.ErrFenced) {
			t.Errorf("the former producer: %v", err)
		}
		p = next
	}
	without := second.self
	without.Addresses = nil
	if _, err := first.verifyThere(t.Context(), without, txn.Part{}); !errors.Is(err, errTransactionsThere) {
		t.Errorf("a node without a peer port: %v", err)
	}
	for what, answer := range map[string]func(context.Context, []byte) ([]byte, error){"verify": first.verifyFor, "end": first.endFor} {
		if _, err := answer(t.Context(), []byte("?")); !errors.Is(err, txn.ErrQuestion) {
			t.Errorf("%s of garbage: %v", what, err)
		}
	}
}
