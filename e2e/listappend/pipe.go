package listappend

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Pipe copies what is committed in o.Topic to another topic with as many lists, exactly
// once, until ctx ends: the records and the offsets of a consumer group are one transaction.
// A client that fails is replaced by one with the same transactional id.
func Pipe(ctx context.Context, o Options, to string) {
	for ctx.Err() == nil {
		if err := pipe(ctx, &o, to); err != nil && ctx.Err() == nil {
			o.Log("pipe: %v", err)
			sleep(ctx, againTime)
		}
	}
}

func pipe(ctx context.Context, o *Options, to string) error {
	session, err := kgo.NewGroupTransactSession(o.options(kgo.TransactionalID(to), kgo.TransactionTimeout(20*time.Second), kgo.ConsumerGroup(to), kgo.ConsumeTopics(o.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.SessionTimeout(6*time.Second),
		kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.RecordDeliveryTimeout(requestTime), kgo.ProducerLinger(0), kgo.FetchMaxWait(pollTime))...)
	if err != nil {
		return err
	}
	defer session.Close()
	for ctx.Err() == nil {
		fetches := session.PollFetches(ctx)
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := session.Begin(); err != nil {
			return fmt.Errorf("begin: %w", err)
		}
		var failed kgo.FirstErrPromise
		fetches.EachRecord(func(x *kgo.Record) {
			session.Produce(context.WithoutCancel(ctx), &kgo.Record{Topic: to, Partition: x.Partition, Value: x.Value}, failed.Promise())
		})
		ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*requestTime)
		_, err := session.End(ending, kgo.TransactionEndTry(failed.Err() == nil))
		cancel()
		if err != nil {
			return fmt.Errorf("end: %w", err)
		}
	}
	return nil
}

// Copied compares what a pipe has copied with what was there: every value once, in order.
// It returns what is wrong, and how many values are not copied yet.
func Copied(from, to Lists) (wrong []string, left int) {
	for list, elements := range from {
		values := func(all []Element) (v []Value) {
			for _, e := range all {
				v = append(v, e.Value)
			}
			return v
		}
		want, got := values(elements), values(to[list])
		if len(got) > len(want) || !slices.Equal(got, want[:len(got)]) {
			note(&wrong, "list %d: %d values were copied of %d, and not once each in their order", list, len(got), len(want))
		}
		left += max(len(want)-len(got), 0)
	}
	return wrong, left
}
