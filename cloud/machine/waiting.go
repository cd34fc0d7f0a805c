package machine

import (
	"context"
	"sync"

	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// WaitingLog is the log of a shard with the stopwatch of package stopwatch stopped
// during its calls: the time until an entry is durable is not work on the request of
// ctx.
type WaitingLog struct {
	*commitlog.Log
	Catalogue *Topics // of a machine whose log does not have all topics; else nil
}

// Topics are the topics of the cluster, for the machines of a shard whose log has only
// those of its own partitions. Both fields are required.
type Topics struct {
	All func() []state.Topic // none while they are not known

	// ByID returns false only for a topic that is known to be deleted. Of one that this
	// node does not know it returns the id alone: it may just have been created.
	ByID func(id weir.TopicID) (state.Topic, bool)
}

// Topics lists the topics of the cluster.
func (l WaitingLog) Topics() []state.Topic {
	if l.Catalogue != nil {
		return l.Catalogue.All()
	}
	return l.Log.Topics()
}

// TopicByID returns a topic of the cluster.
func (l WaitingLog) TopicByID(id weir.TopicID) (state.Topic, bool) {
	if l.Catalogue != nil {
		return l.Catalogue.ByID(id)
	}
	return l.Log.TopicByID(id)
}

// Propose is commitlog.Log.Propose.
func (l WaitingLog) Propose(ctx context.Context, kind uint16, body []byte) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.Propose(ctx, kind, body)
}

// ProposeAll is commitlog.Log.ProposeAll.
func (l WaitingLog) ProposeAll(ctx context.Context, commands []commitlog.Command, end *commitlog.TransactionEnd) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.ProposeAll(ctx, commands, end)
}

// NewProducerID is commitlog.Log.NewProducerID.
func (l WaitingLog) NewProducerID(ctx context.Context) (int64, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.NewProducerID(ctx)
}

// CreateTopic is commitlog.Log.CreateTopic.
func (l WaitingLog) CreateTopic(ctx context.Context, name string, partitions int32, configs map[string]string) (state.Topic, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.CreateTopic(ctx, name, partitions, configs)
}

// CreateTopicIn is commitlog.Log.CreateTopicIn.
func (l WaitingLog) CreateTopicIn(ctx context.Context, slice weir.Slice, name string) (state.Topic, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.CreateTopicIn(ctx, slice, name)
}

// DeleteTopic is commitlog.Log.DeleteTopic.
func (l WaitingLog) DeleteTopic(ctx context.Context, id weir.TopicID) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.DeleteTopic(ctx, id)
}

// GrowTopic is commitlog.Log.GrowTopic.
func (l WaitingLog) GrowTopic(ctx context.Context, id weir.TopicID, partitions int32) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.GrowTopic(ctx, id, partitions)
}

// AlterTopic is commitlog.Log.AlterTopic.
func (l WaitingLog) AlterTopic(ctx context.Context, id weir.TopicID, configs map[string]string) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.AlterTopic(ctx, id, configs)
}

// DeleteRecords is commitlog.Log.DeleteRecords.
func (l WaitingLog) DeleteRecords(ctx context.Context, id weir.TopicID, partition int32, offset int64) (int64, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.DeleteRecords(ctx, id, partition, offset)
}

// Turn lets one change of a machine run at a time, from the check whether it is
// possible to its durable entry. Waiting for the turn does not count as work on a
// request.
type Turn struct{ mu sync.Mutex }

// Take waits for the caller's turn, which ends with a call of done.
func (t *Turn) Take(ctx context.Context) (done func()) {
	defer stopwatch.Waiting(ctx)()
	t.mu.Lock()
	return t.mu.Unlock
}
