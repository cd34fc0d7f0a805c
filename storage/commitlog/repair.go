package commitlog

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/check"
	"github.com/weirmq/weir/storage/commitlog/identity"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
)

// LostTopic is the topic in which a repair lists the records that it gave up: one
// record for each range, a Loss in JSON.
const LostTopic = "weir.lost"

// Repair makes a damaged bucket usable again, without what is missing or damaged. It
// takes the shard over as the next owner, applies what is left of the log, gives up
// records that cannot be read, and makes a checkpoint. It calls tell for each thing
// that is missing or damaged and passed over, and for each Loss; losses in shard 0 are in
// LostTopic, too. o.Machines must be those of the node. Records that are given up are
// lost for good: run Repair on a copy of the bucket, or if there is no copy. No node
// should be running; one that is loses the shard. Repair claims the shard in the name
// of the last owner, if there is one, else of o.Node. With several shards, shard 0 comes
// first.
//
// Errors: ErrFormat, and the bucket's. After an error Repair can be called again.
func Repair(ctx context.Context, o Options, tell func(what string)) error {
	known, err := check.Know(ctx, o.Bucket, o.Shard)
	if err != nil {
		return err
	}
	if err := identity.Repair(ctx, o.Bucket, known.Cluster, known.Named, known.Identity, tell); err != nil {
		return fmt.Errorf("repair the object %s: %w", identity.Key, err)
	}
	last, found, err := journal.LastReadableClaim(ctx, o.Bucket, o.Shard)
	if err != nil {
		return fmt.Errorf("find the last owner: %w", err)
	}
	if found { // the last owner may go on at once; other nodes ask it first
		o.Node, o.Info = last.Node, last.Info
	}
	o.Upkeep.Off = true // Repair makes its passes itself
	l, err := openWith(ctx, o, tell)
	if err != nil {
		return err
	}
	err = l.repair()
	return errors.Join(err, l.Close())
}

// repair gives up what cannot be read, and ends behind a checkpoint.
func (l *Log) repair() error {
	m := l.upkeep
	if err := l.findPieces(); err != nil {
		return fmt.Errorf("find pieces: %w", err)
	}
	if len(l.state.Recreated) > 0 {
		l.lost("with the checkpoint everything else is lost that the log knew before: settings of topics, what was received of " +
			"each gateway (what they send once more may be there twice), groups, users, ACLs, quotas and gateways")
	}
	if err := m.GiveUpPieces(); err != nil {
		return fmt.Errorf("give up pieces: %w", err)
	}
	for pass := 0; pass < 2 || m.HasMore(); pass++ {
		if err := m.Keep(); err != nil {
			return err
		}
	}
	if err := l.tellReaders(); err != nil {
		return fmt.Errorf("write to %s: %w", LostTopic, err)
	}
	return m.Keep()
}

// giveUp records that a range of offsets is lost.
func (l *Log) giveUp(loss upkeep.Loss) {
	l.losses = append(l.losses, loss)
	l.lost(loss.String())
}

// tellReaders appends the losses to LostTopic. The log of another shard than 0 cannot
// create a topic.
func (l *Log) tellReaders() error {
	if len(l.losses) == 0 || l.shard > 0 {
		return nil
	}
	t, err := l.CreateTopic(l.ctx, LostTopic, 1, nil)
	if err != nil && !errors.Is(err, ErrTopicExists) {
		return err
	}
	for some := range slices.Chunk(l.losses, 100) {
		b := record.NewBuilder(record.None)
		for _, loss := range some {
			value, err := json.Marshal(loss)
			if err == nil {
				err = b.Append(&record.Record{Timestamp: l.now().UnixMilli(), Key: []byte(loss.Topic), Value: value})
			}
			if err != nil {
				return err
			}
		}
		batch, err := b.Build()
		if err != nil {
			return err
		}
		answer := make(chan error, 1)
		l.Append(Append{Topic: t.ID, Batch: batch}, func(_ int64, err error) { answer <- err })
		if err := <-answer; err != nil {
			return err
		}
	}
	return nil
}

// findPieces puts pieces of segments that the log does not know into recreated
// partitions, and recreates partitions for them: those pieces that lie without a hole
// before what is known.
func (l *Log) findPieces() error {
	list, err := check.ListSegments(l.ctx, l.bucket, l.shard)
	if err != nil {
		return err
	}
	borrowed, err := check.Borrowed(l.ctx, l.bucket, l.shard, l.cluster.Shards)
	if err != nil {
		return fmt.Errorf("find what other shards refer to: %w", err)
	}
	found := make(map[state.Place][]state.Piece)
	for id := range list.IDs {
		if l.state.Segments[id] > 0 || l.state.IsLent(id) || borrowed[id] || slices.Contains(l.state.Garbage, id) || id.Epoch >= uint64(l.epoch) {
			continue
		}
		pieces, err := l.upkeep.OpenSegment(id)
		if err != nil && !state.Permanent(err) {
			return err
		}
		for _, x := range pieces {
			key := state.Place{Topic: x.Topic, Partition: x.Partition}
			if t := l.state.Topics[key.Topic]; t == nil || l.state.Recreated[key.Topic] {
				found[key] = append(found[key], state.Piece{Base: x.Base, Next: x.Next, Time: x.MaxTime, Segment: id, At: x.At, Size: x.Size, Index: x.Index, Records: x.Records})
			}
		}
	}
	for key, pieces := range found {
		l.mu.Lock()
		row := l.state.Prepend(key, pieces, l.lost)
		l.mu.Unlock()
		es, err := l.epochsOf(key, row)
		if err != nil {
			return err
		}
		l.mu.Lock()
		if p := l.state.Partition(key); len(row) > 0 {
			for _, x := range p.Epochs {
				es = es.Begin(x.Epoch, x.Start)
			}
			p.Epochs = es
		}
		l.mu.Unlock()
	}
	return nil
}

// epochsOf reads which leader epochs the records of pieces have.
func (l *Log) epochsOf(key state.Place, pieces []state.Piece) (es state.Epochs, err error) {
	for i := range pieces {
		x := &pieces[i]
		err := l.upkeep.Scan(l.ctx, key, x, func(b record.Batch) error {
			es = es.Begin(b.LeaderEpoch(), b.BaseOffset())
			return nil
		})
		if err = state.Translate(err); err != nil && !state.Permanent(err) {
			return nil, err
		}
		if len(es) == 0 { // it cannot be read or has no batches: take the epoch of its segment
			es = es.Begin(int32(min(x.Segment.Epoch, math.MaxInt32)), x.Base)
		}
	}
	if len(es) > 0 {
		es[0].Start = pieces[0].Base
	}
	return es, nil
}
