package commitlog

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/segment/reader"
	"github.com/weirmq/weir/storage/weir"
)

// OffsetByTime returns the first record of a partition whose timestamp, in
// milliseconds, is at least ts, with its timestamp; -1 and -1 if there is none.
//
// Errors: as Fetch.
func (l *Log) OffsetByTime(ctx context.Context, topic weir.TopicID, partition int32, ts int64) (offset, timestamp int64, err error) {
	key := state.Place{Topic: topic, Partition: partition}
	for try := 1; ; try++ {
		v, err := l.look(key)
		if err != nil {
			return -1, -1, err
		}
		offset, timestamp, err = l.since(ctx, key, v, ts)
		switch {
		case err == nil || !errors.Is(err, fs.ErrNotExist):
			return offset, timestamp, err
		case try == lookAgain:
			return -1, -1, fmt.Errorf("%w: %w", state.ErrCorrupt, err)
		}
	}
}

// since finds the first record at or after ts. Timestamps come from producers and are
// in no order, but runs, pieces and blocks whose highest timestamp is below ts need not
// be read.
func (l *Log) since(ctx context.Context, key state.Place, v view, ts int64) (offset, timestamp int64, err error) {
	var lease Lease
	defer lease.Release()
	for i := range v.pieces {
		if x := &v.pieces[i]; x.Time >= ts {
			if offset, timestamp, err = l.sinceInPiece(ctx, v.place(l.shard, key, x), max(v.start, x.Base), ts); offset >= 0 || err != nil {
				return offset, timestamp, err
			}
		}
	}
	for i := range v.index {
		if v.index[i].Time < ts {
			continue
		}
		runs, err := l.load(ctx, key, v.index[i:i+1], &lease)
		if err != nil {
			return -1, -1, err
		}
		if offset, timestamp, err := firstOf(runs[0], v.start, ts); offset >= 0 || err != nil {
			return offset, timestamp, err
		}
	}
	return -1, -1, nil
}

func (l *Log) sinceInPiece(ctx context.Context, at reader.Place, from, ts int64) (offset, timestamp int64, err error) {
	blocks, err := l.blocks.Blocks(ctx, at)
	if err != nil {
		return -1, -1, state.Translate(err)
	}
	for _, blk := range blocks {
		for next := max(from, blk.Base); blk.MaxTime >= ts && next < blk.Next; {
			batches, err := l.blocks.Read(ctx, []reader.Place{at}, next, int(blk.Size))
			if err != nil {
				return -1, -1, state.Translate(err)
			}
			if len(batches) == 0 {
				break
			}
			if offset, timestamp, err := firstOf(batches, from, ts); offset >= 0 || err != nil {
				return offset, timestamp, err
			}
			next = batches[len(batches)-1].NextOffset()
		}
	}
	return -1, -1, nil
}

// firstOf returns the first record of batches at or behind from whose timestamp
// is at least ts, -1 if there is none.
func firstOf(batches []record.Batch, from, ts int64) (offset, timestamp int64, err error) {
	for _, b := range batches {
		if b.Control() || b.MaxTimestamp() < ts || b.NextOffset() <= from {
			continue
		}
		if offset, timestamp, err = firstSince(b, from, ts); offset >= 0 || err != nil {
			return offset, timestamp, err
		}
	}
	return -1, -1, nil
}

// MaxTimestamp returns the first record with the highest timestamp of a
// partition; -1 and -1 if it is empty.
//
// Errors: as Fetch.
func (l *Log) MaxTimestamp(ctx context.Context, topic weir.TopicID, partition int32) (offset, timestamp int64, err error) {
	v, err := l.look(state.Place{Topic: topic, Partition: partition})
	if err != nil {
		return -1, -1, err
	}
	latest := int64(segment.NoTime)
	for i := range v.pieces {
		latest = max(latest, v.pieces[i].Time)
	}
	for i := range v.index {
		latest = max(latest, v.index[i].Time)
	}
	if latest == segment.NoTime {
		return -1, -1, nil
	}
	return l.OffsetByTime(ctx, topic, partition, latest)
}

// firstSince returns the first record of a batch at or behind from, and at or
// after ts, -1 if there is
// none.
func firstSince(b record.Batch, from, ts int64) (offset, timestamp int64, err error) {
	found := errors.New("found")
	offset, timestamp = -1, -1
	err = b.Each(state.MaxInflated, func(r *record.Record) error {
		if r.Timestamp < ts || r.Offset < from {
			return nil
		}
		offset, timestamp = r.Offset, r.Timestamp
		return found
	})
	if err != nil && !errors.Is(err, found) {
		return -1, -1, fmt.Errorf("%w: batch at offset %d: %w", state.ErrCorrupt, b.BaseOffset(), err)
	}
	return offset, timestamp, nil
}
