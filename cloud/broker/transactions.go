package broker

import (
	"context"
	"fmt"

	"github.com/weirmq/weir/cloud/txn"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// The log's types for transactions.
type (
	Place         = logstate.Place
	Aborted       = logstate.Aborted
	ProducerState = logstate.ProducerState
)

// Transactions returns the coordinator of a transactional id.
func (b *Broker) Transactions(id string) (*txn.Coordinator, error) {
	s, err := b.at(weir.SliceOfTransaction(id))
	if err != nil {
		return nil, err
	}
	return s.Txns, nil
}

// AllTransactions returns the coordinators of the transactional ids that this node
// serves. Other nodes may serve more ids.
func (b *Broker) AllTransactions() ([]*txn.Coordinator, error) {
	var all []*txn.Coordinator
	shards, err := b.owned()
	for _, s := range shards {
		all = append(all, s.Txns)
	}
	return all, err
}

// Transaction identifies the transaction of a batch, together with the producer in
// the batch's header.
type Transaction struct {
	ID       string
	Implicit bool // the batch adds its partition to the transaction (KIP-890)
}

// AppendTransactional is Produce for a transactional batch. Readers of uncommitted
// records see it at once, readers of committed records when its transaction has
// committed.
//
// Errors besides those of Produce: those of txn.Coordinator.Append.
func (b *Broker) AppendTransactional(ctx context.Context, a Append, of Transaction, done func(base int64, err error)) {
	txns, err := b.Transactions(of.ID)
	if err != nil {
		done(-1, err)
		return
	}
	b.append(ctx, a, func(topic Topic, a Append, done func(int64, error)) {
		if a.Partition < 0 || a.Partition >= topic.Partitions { // the topic does not exist, or does not have the partition
			done(-1, fmt.Errorf("%w: partition %d of topic %v", ErrUnknownTopic, a.Partition, a.Topic))
			return
		}
		txns.Append(txn.Appended{Append: a, ID: of.ID, Implicit: of.Implicit}, done)
	}, done)
}

// FetchCommitted is Fetch for a reader of committed records. It reads up to the last
// stable offset, and lists the aborted transactions whose records are in the result.
func (b *Broker) FetchCommitted(ctx context.Context, id weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	log, err := b.logAt(id, partition)
	if err != nil {
		return Fetched{}, err
	}
	if id == OffsetsTopicID() {
		return b.fetchOffsets(partition, offset, maxBytes)
	}
	f, err := log.FetchCommitted(ctx, id, partition, offset, maxBytes)
	return f, translate(err)
}

// Stable returns the last stable offset of a partition: the first record of its
// oldest open transaction, or its end.
func (b *Broker) Stable(id weir.TopicID, partition int32) (int64, error) {
	log, err := b.logAt(id, partition)
	if err != nil {
		return -1, err
	}
	if id == OffsetsTopicID() {
		_, end, err := b.offsetsBounds(partition)
		return end, err
	}
	stable, err := log.Stable(id, partition)
	return stable, translate(err)
}

// EpochEnd returns the largest leader epoch up to the given one that has records, -1
// if there is none, and the offset at which the next epoch begins.
func (b *Broker) EpochEnd(id weir.TopicID, partition int32, epoch int32) (found int32, end int64, err error) {
	log, err := b.logAt(id, partition)
	if err != nil {
		return -1, -1, err
	}
	if id == OffsetsTopicID() { // never truncated: what an older owner had is there
		_, end, err = b.offsetsBounds(partition)
		return min(epoch, log.Epoch()), end, err
	}
	found, end, err = log.EpochEnd(id, partition, epoch)
	return found, end, translate(err)
}

// Producers lists the producers that a partition remembers, by id.
func (b *Broker) Producers(id weir.TopicID, partition int32) ([]ProducerState, error) {
	log, err := b.logAt(id, partition)
	if err != nil {
		return nil, err
	}
	if id == OffsetsTopicID() {
		_, err := b.offsetsOf(partition)
		return nil, err
	}
	all, err := log.Producers(id, partition)
	return all, translate(err)
}
