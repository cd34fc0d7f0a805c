package streamqueue

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/broker"
)

// growTime is after how long a watch ends without a reason: its topic may have got more
// partitions.
const growTime = time.Minute

// watch begins to watch the partitions of a topic.
func (t *Topics) watch(name string) (wait func(context.Context), err error) {
	topic, err := t.topic(name)
	if err != nil {
		return nil, err
	}
	all := make([]<-chan struct{}, topic.Partitions)
	for p := range all {
		all[p] = t.o.Records.Watch(topic.ID, int32(p))
	}
	return func(ctx context.Context) {
		timer := time.NewTimer(growTime)
		defer timer.Stop()
		broker.WaitAny(ctx, timer.C, all)
	}, nil
}
