package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/weir"
)

// reopening says what reopen does.
type reopening struct {
	Dir     string // of a file bucket
	Pack    string // file with its segments, if they are packed
	Fetches int    // at random offsets
	Passes  int    // of the upkeep: none, one or two
}

// reopened is what it found.
type reopened struct {
	Open             float64  // seconds
	Asked            requests // by Open
	Checkpoint       int64    // bytes
	Memory           usage    // after Open
	Records          int64
	Fetch50, Fetch99 time.Duration
	FetchAsked       requests

	First, Maintain float64       // seconds: the first pass of this owner, and the next one
	FirstAsked      requests      // by the first
	Stall           time.Duration // the longest that an append had to wait in the next one
}

// reopen is a takeover by a process that has just started, and some reads.
func reopen(ctx context.Context, a reopening) (r reopened, err error) {
	f, err := file.Open(a.Dir)
	if err != nil {
		return r, err
	}
	n := &counter{below: f}
	if a.Pack != "" {
		if n.below, err = openPack(a.Pack, f); err != nil {
			return r, err
		}
	}
	if r.Checkpoint, err = checkpointSize(ctx, f); err != nil {
		return r, err
	}
	var log *commitlog.Log
	whole := func(o *commitlog.Options) {
		if a.Pack != "" {
			o.Upkeep.Segment = tinySegment // nothing is joined: all stays in the pack
		}
	}
	if r.Open, err = seconds(func() (err error) { log, err = openLog(ctx, n, whole); return err }); err != nil {
		return r, err
	}
	r.Asked = n.count()
	if r.Memory, err = used(); err != nil {
		return r, err
	}
	if err := r.fetch(ctx, log, n, a.Fetches); err != nil {
		return r, err
	}
	before := n.count()
	if a.Passes > 0 {
		if r.First, err = seconds(func() error { return log.Maintain(ctx) }); err != nil {
			return r, err
		}
	}
	r.FirstAsked = n.count().minus(before)
	if a.Passes > 1 {
		if err := r.beside(ctx, log); err != nil {
			return r, err
		}
	}
	return r, log.Close()
}

// beside makes a pass of the upkeep beside which records are appended, each after
// the one before.
func (r *reopened) beside(ctx context.Context, log *commitlog.Log) error {
	topic, err := log.CreateTopic(ctx, "beside", 1, nil)
	if err != nil {
		return err
	}
	batch, err := batchOf(1, 20)
	if err != nil {
		return err
	}
	maintained := make(chan error, 1)
	go func() {
		var err error
		r.Maintain, err = seconds(func() error { return log.Maintain(ctx) })
		maintained <- err
	}()
	for {
		began := time.Now()
		if err := appendToEach(log, topic, batch); err != nil {
			return err
		}
		r.Stall = max(r.Stall, time.Since(began))
		select {
		case err := <-maintained:
			return err
		default:
		}
	}
}

// fetch reads at random offsets, one batch each.
func (r *reopened) fetch(ctx context.Context, log *commitlog.Log, n *counter, fetches int) error {
	type span struct {
		topic      weir.TopicID
		partition  int32
		start, end int64
	}
	var spans []span
	for _, t := range log.Topics() {
		for p := range t.Partitions {
			start, end, err := log.Bounds(t.ID, p)
			if err != nil {
				return err
			}
			r.Records += end - start
			if end > start {
				spans = append(spans, span{t.ID, p, start, end})
			}
		}
	}
	before := n.count()
	random := rand.New(rand.NewPCG(1, 1))
	var took []time.Duration
	for range fetches {
		s := spans[random.IntN(len(spans))]
		offset := s.start + random.Int64N(s.end-s.start)
		began := time.Now()
		got, err := log.Fetch(ctx, s.topic, s.partition, offset, 1)
		if err != nil {
			return err
		}
		if len(got.Batches) == 0 {
			return fmt.Errorf("nothing at offset %d of %d", offset, s.end)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	r.Fetch50, r.Fetch99 = percentile(took, 50), percentile(took, 99)
	r.FetchAsked = n.count().minus(before)
	return nil
}
