package commitlog

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/record"
)

// OffsetByTime returns the first record of a partition whose timestamp, in
// milliseconds, is at least ts, with its timestamp; -1 and -1 if there is none.
//
// Errors: as Fetch.
func (l *Log) OffsetByTime(ctx context.Context, topic TopicID, partition int32, ts int64) (offset, timestamp int64, err error) {
	key := placeKey{topic, partition}
	index, _, err := l.look(key)
	if err != nil {
		return -1, -1, err
	}
	// Timestamps are the producers' and in no order. Where the highest one so
	// far reaches ts for the first time, the run itself must hold it.
	i, _ := slices.BinarySearchFunc(index, ts, func(x extent, ts int64) int {
		if x.time < ts {
			return -1
		}
		return 1
	})
	if i == len(index) {
		return -1, -1, nil
	}
	runs, err := l.load(ctx, key, index[i:i+1])
	if err != nil {
		return -1, -1, err
	}
	for _, b := range runs[0] {
		if b.MaxTimestamp() < ts {
			continue
		}
		offset, timestamp, err := firstSince(b, ts)
		if offset >= 0 || err != nil {
			return offset, timestamp, err
		}
	}
	return -1, -1, fmt.Errorf("%w: no record at or after %d behind offset %d of partition %d of topic %v", ErrCorrupt, ts, index[i].base, partition, topic)
}

// MaxTimestamp returns the first record with the highest timestamp of a
// partition; -1 and -1 if it is empty.
//
// Errors: as Fetch.
func (l *Log) MaxTimestamp(ctx context.Context, topic TopicID, partition int32) (offset, timestamp int64, err error) {
	index, _, err := l.look(placeKey{topic, partition})
	if err != nil || len(index) == 0 {
		return -1, -1, err
	}
	return l.OffsetByTime(ctx, topic, partition, index[len(index)-1].time)
}

// firstSince returns the first record of a batch at or after ts, -1 if there is
// none.
func firstSince(b record.Batch, ts int64) (offset, timestamp int64, err error) {
	found := errors.New("found")
	offset, timestamp = -1, -1
	err = b.Each(maxInflated, func(r *record.Record) error {
		if r.Timestamp < ts {
			return nil
		}
		offset, timestamp = r.Offset, r.Timestamp
		return found
	})
	if err != nil && !errors.Is(err, found) {
		return -1, -1, fmt.Errorf("%w: batch at offset %d: %w", ErrCorrupt, b.BaseOffset(), err)
	}
	return offset, timestamp, nil
}
