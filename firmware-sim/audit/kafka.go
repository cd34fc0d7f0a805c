package audit

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/storage/weir"
)

// pollTime is how long Run waits for records before it reports progress.
const pollTime = 500 * time.Millisecond

// Reader reads a topic of readings, and the reported gaps, into an Auditor.
type Reader struct {
	Brokers []string
	Topic   string
	Group   string // a consumer group; "" reads all partitions from the beginning

	// Joined, if set, is called each time the group assigns partitions of Topic to this
	// reader.
	Joined func()
}

// Ping returns nil if any of the brokers answers.
func (r Reader) Ping(ctx context.Context) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(r.Brokers...))
	if err != nil {
		return fmt.Errorf("open Kafka client: %w", err)
	}
	defer client.Close()
	if err := client.Ping(ctx); err != nil {
		return fmt.Errorf("reach Kafka at %v: %w", r.Brokers, err)
	}
	return nil
}

// Run reads until ctx ends, which is not an error. progress, if set, is called after every poll.
func (r Reader) Run(ctx context.Context, a *Auditor, progress func()) error {
	opts := []kgo.Opt{
		kgo.SeedBrokers(r.Brokers...),
		kgo.ConsumeTopics(r.Topic, weir.GapTopic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxWait(500 * time.Millisecond),
		kgo.MetadataMinAge(250 * time.Millisecond),
		kgo.MetadataMaxAge(2 * time.Second), // a topic is created by its first reading
	}
	if r.Group != "" {
		opts = append(opts, kgo.ConsumerGroup(r.Group), kgo.OnPartitionsAssigned(
			func(_ context.Context, _ *kgo.Client, all map[string][]int32) {
				if len(all[r.Topic]) > 0 && r.Joined != nil {
					r.Joined()
				}
			}))
	}
	client, err := kgo.NewClient(opts...)
	if err != nil {
		return fmt.Errorf("open Kafka client: %w", err)
	}
	defer client.Close()
	for {
		// PollFetches waits for records; progress is due even without any.
		poll, cancel := context.WithTimeout(ctx, pollTime)
		fetches := client.PollFetches(poll)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		now := time.Now()
		for _, rec := range fetches.Records() {
			if err := a.take(rec, now); err != nil {
				return fmt.Errorf("record %d of %s/%d: %w", rec.Offset, rec.Topic, rec.Partition, err)
			}
		}
		if err := fatal(fetches.Errors()); err != nil {
			return err
		}
		if progress != nil {
			progress()
		}
	}
}

// take adds a record of either topic. A record that cannot be decoded is an error: an audit that
// skipped it would prove nothing.
func (a *Auditor) take(rec *kgo.Record, read time.Time) error {
	if rec.Topic == weir.GapTopic {
		var g GapReport
		if err := json.Unmarshal(rec.Value, &g); err != nil {
			return fmt.Errorf("decode gap: %w", err)
		}
		a.ReadGap(g)
		return nil
	}
	r := Record{Partition: rec.Partition, Offset: rec.Offset, Read: read, Value: rec.Value}
	for _, h := range rec.Headers {
		if h.Key == SourceHeader {
			var err error
			if r.Source, err = ParseSource(string(h.Value)); err != nil {
				return err
			}
		}
	}
	a.Read(r)
	return nil
}

// fatal returns the errors that retrying does not fix: records that cannot be decoded, and records
// that are gone.
func fatal(errs []kgo.FetchError) error {
	for _, e := range errs {
		var lost *kgo.ErrDataLoss
		if errors.As(e.Err, &lost) {
			return fmt.Errorf("read %s/%d: %w", e.Topic, e.Partition, e.Err)
		}
	}
	return nil
}

// Settle reads until every acknowledged reading has arrived or is reported as lost, and nothing
// more has arrived for a moment; or until nothing at all has arrived for patience.
func (r Reader) Settle(ctx context.Context, a *Auditor, patience time.Duration) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	quiet := time.Now()
	received, calm := 0, 0
	return r.Run(ctx, a, func() {
		switch now := a.Total(); {
		case now != received:
			received, quiet, calm = now, time.Now(), 0
		case a.Report().Lost == 0:
			// Copies may still follow.
			if calm++; calm >= 4 {
				cancel()
			}
		case time.Since(quiet) > patience:
			cancel()
		}
	})
}
