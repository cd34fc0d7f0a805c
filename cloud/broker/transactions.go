package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/cloud/shard"
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
// The coordinator of the transaction may be in another shard, on any node.
//
// Errors besides those of Produce: those of txn.Coordinator.Append and
// txn.Participant.Append.
func (b *Broker) AppendTransactional(ctx context.Context, a Append, of Transaction, done func(base int64, err error)) {
	s, err := b.at(weir.SliceOf(a.Topic, a.Partition))
	if err != nil {
		done(-1, err)
		return
	}
	pass := s.Parts.Append
	if b.coordinates(s, of.ID) {
		pass = s.Txns.Append
	}
	b.append(ctx, a, func(topic Topic, a Append, done func(int64, error)) {
		if a.Partition < 0 || a.Partition >= topic.Partitions { // the topic does not exist, or does not have the partition
			done(-1, fmt.Errorf("%w: partition %d of topic %v", ErrUnknownTopic, a.Partition, a.Topic))
			return
		}
		pass(txn.Appended{Append: a, ID: of.ID, Implicit: of.Implicit}, done)
	}, done)
}

// coordinates reports whether a shard has a transactional id.
func (b *Broker) coordinates(s *shard.Shard, id string) bool {
	return b.table.Load().routes[weir.SliceOfTransaction(id)] == s.ID
}

// CommitInTransaction makes offsets of a group part of a transaction. This node must serve
// the group; the coordinator of the transaction may be in another shard, on any node.
//
// Errors: *NotOwnerError, ErrUnavailable, and those of txn.Coordinator.CommitOffsets and
// txn.Participant.CommitOffsets.
func (b *Broker) CommitInTransaction(ctx context.Context, r txn.OffsetsRequest) ([]error, error) {
	s, err := b.at(weir.SliceOfGroup(r.Commit.Group))
	if err != nil {
		return nil, err
	}
	if b.coordinates(s, r.ID) {
		return s.Txns.CommitOffsets(ctx, r)
	}
	return s.Parts.CommitOffsets(ctx, r)
}

// PendingOffsets returns the partitions of a group in which a transaction may commit an
// offset; see txn.Coordinator.Pending.
func (b *Broker) PendingOffsets(name string) (map[group.Partition]struct{}, error) {
	s, err := b.at(weir.SliceOfGroup(name))
	if err != nil {
		return nil, err
	}
	pending := s.Txns.Pending(name)
	maps.Copy(pending, s.Parts.Pending(name))
	return pending, nil
}

// VerifyTransaction is txn.Coordinator.Verify, on the node that has the transactional id.
func (b *Broker) VerifyTransaction(ctx context.Context, p txn.Part) (number uint64, err error) {
	txns, err := b.Transactions(p.ID)
	switch {
	case err != nil:
		return 0, err
	case !b.Several():
		return 0, fmt.Errorf("%w: the cluster has one shard", ErrNotOwner)
	}
	return txns.Verify(ctx, p)
}

// EndTransaction is txn.Participant.End, on the node that serves the shard.
func (b *Broker) EndTransaction(ctx context.Context, shard uint32, d txn.Decision) error {
	s, err := b.table.Load().shards[shard].serving()
	switch {
	case err != nil:
		return err
	case s.Parts == nil || !b.Several():
		return fmt.Errorf("%w: shard %d has no part in transactions of others", ErrNotOwner, shard)
	}
	return s.Parts.End(ctx, d)
}

// Transacting calls the nodes that have other shards of a transaction. Calls may take
// effect although they return an error.
type Transacting struct {
	Verify func(ctx context.Context, node Node, p txn.Part) (number uint64, err error) // VerifyTransaction of that node
	End    func(ctx context.Context, node Node, shard uint32, d txn.Decision) error    // EndTransaction of that node
}

// TransactionShards returns what the transactions of each shard need of the others.
func (b *Broker) TransactionShards() txn.Shards { return transactionShards{b} }

type transactionShards struct{ b *Broker }

func (s transactionShards) ShardOf(slice weir.Slice) uint32 { return s.b.table.Load().routes[slice] }

func (s transactionShards) Verify(ctx context.Context, p txn.Part) (uint64, error) {
	number, err := within(ctx, func() (uint64, error) { return s.b.VerifyTransaction(ctx, p) })
	if owner, elsewhere := s.elsewhere(err); elsewhere && s.b.o.Transacting.Verify != nil {
		return s.b.o.Transacting.Verify(ctx, owner, p)
	}
	return number, err
}

func (s transactionShards) End(ctx context.Context, shard uint32, d txn.Decision) error {
	_, err := within(ctx, func() (struct{}, error) { return struct{}{}, s.b.EndTransaction(ctx, shard, d) })
	if owner, elsewhere := s.elsewhere(err); elsewhere && s.b.o.Transacting.End != nil {
		return s.b.o.Transacting.End(ctx, owner, shard, d)
	}
	return err
}

// within returns what ask returns, or ctx's error when ctx ends first. ask waits for the
// log of a shard, and ends with it; a shard that is to be closed does not wait for another
// one.
func within[T any](ctx context.Context, ask func() (T, error)) (T, error) {
	type answer struct {
		value T
		err   error
	}
	answers := make(chan answer, 1)
	go func() {
		value, err := ask()
		answers <- answer{value, err}
	}()
	select {
	case a := <-answers:
		return a.value, a.err
	case <-ctx.Done():
		var none T
		return none, ctx.Err()
	}
}

// elsewhere reports whether an error says that another node, which is known, serves the
// shard.
func (s transactionShards) elsewhere(err error) (Node, bool) {
	not, ok := errors.AsType[*NotOwnerError](err)
	if !ok || not.Owner.Name == "" || not.Owner.Name == s.b.o.Self.Name {
		return Node{}, false
	}
	return not.Owner, true
}

// FetchCommitted is Fetch for a reader of committed records. It reads up to the last
// stable offset, and lists the aborted transactions whose records are in the result.
func (b *Broker) FetchCommitted(ctx context.Context, id weir.TopicID, partition int32, offset int64, maxBytes int) (Fetched, error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return Fetched{}, err
	}
	if id == OffsetsTopicID() {
		return b.fetchOffsets(partition, offset, maxBytes)
	}
	f, err := s.Log.FetchCommitted(ctx, id, partition, offset, maxBytes)
	if b.unopened(s, id, partition, err) {
		return fetchEmpty(offset)
	}
	return f, translate(err)
}

// Stable returns the last stable offset of a partition: the first record of its
// oldest open transaction, or its end.
func (b *Broker) Stable(id weir.TopicID, partition int32) (int64, error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return -1, err
	}
	if id == OffsetsTopicID() {
		_, end, err := b.offsetsBounds(partition)
		return end, err
	}
	stable, err := s.Log.Stable(id, partition)
	if b.unopened(s, id, partition, err) {
		return 0, nil
	}
	return stable, translate(err)
}

// EpochEnd returns the largest leader epoch up to the given one that has records, -1
// if there is none, and the offset at which the next epoch begins.
func (b *Broker) EpochEnd(id weir.TopicID, partition int32, epoch int32) (found int32, end int64, err error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return -1, -1, err
	}
	if id == OffsetsTopicID() { // never truncated: what an older owner had is there
		_, end, err = b.offsetsBounds(partition)
		return min(epoch, s.Log.Epoch()), end, err
	}
	found, end, err = s.Log.EpochEnd(id, partition, epoch)
	if b.unopened(s, id, partition, err) {
		return -1, 0, nil
	}
	return found, end, translate(err)
}

// Producers lists the producers that a partition remembers, by id.
func (b *Broker) Producers(id weir.TopicID, partition int32) ([]ProducerState, error) {
	s, err := b.shardAt(id, partition)
	if err != nil {
		return nil, err
	}
	if id == OffsetsTopicID() {
		_, err := b.offsetsOf(partition)
		return nil, err
	}
	all, err := s.Log.Producers(id, partition)
	if b.unopened(s, id, partition, err) {
		return nil, nil
	}
	return all, translate(err)
}
