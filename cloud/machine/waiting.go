package machine

import (
	"context"
	"sync"

	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// WaitingLog is the log of a shard that requests are performed with. What its calls
// wait for, until something is durable, is no work on the request that ctx is of
// (package stopwatch).
type WaitingLog struct{ *commitlog.Log }

// Propose is commitlog's.
func (l WaitingLog) Propose(ctx context.Context, kind uint16, body []byte) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.Propose(ctx, kind, body)
}

// ProposeAll is commitlog's.
func (l WaitingLog) ProposeAll(ctx context.Context, commands []commitlog.Command, end *commitlog.TransactionEnd) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.ProposeAll(ctx, commands, end)
}

// NewProducerID is commitlog's.
func (l WaitingLog) NewProducerID(ctx context.Context) (int64, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.NewProducerID(ctx)
}

// CreateTopic is commitlog's.
func (l WaitingLog) CreateTopic(ctx context.Context, name string, partitions int32, configs map[string]string) (state.Topic, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.CreateTopic(ctx, name, partitions, configs)
}

// DeleteTopic is commitlog's.
func (l WaitingLog) DeleteTopic(ctx context.Context, id weir.TopicID) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.DeleteTopic(ctx, id)
}

// GrowTopic is commitlog's.
func (l WaitingLog) GrowTopic(ctx context.Context, id weir.TopicID, partitions int32) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.GrowTopic(ctx, id, partitions)
}

// AlterTopic is commitlog's.
func (l WaitingLog) AlterTopic(ctx context.Context, id weir.TopicID, configs map[string]string) error {
	defer stopwatch.Waiting(ctx)()
	return l.Log.AlterTopic(ctx, id, configs)
}

// DeleteRecords is commitlog's.
func (l WaitingLog) DeleteRecords(ctx context.Context, id weir.TopicID, partition int32, offset int64) (int64, error) {
	defer stopwatch.Waiting(ctx)()
	return l.Log.DeleteRecords(ctx, id, partition, offset)
}

// Turn lets one change of a machine at a time through, from the check whether it is
// possible to the durable entry. Waiting for it is no work on a request.
type Turn struct{ mu sync.Mutex }

// Take waits for the caller's turn, which ends with a call of done.
func (t *Turn) Take(ctx context.Context) (done func()) {
	defer stopwatch.Waiting(ctx)()
	t.mu.Lock()
	return t.mu.Unlock
}
