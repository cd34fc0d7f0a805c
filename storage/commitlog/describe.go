package commitlog

import (
	"cmp"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Bounds returns the first offset of a partition and the one that its next
// record gets.
func (l *Log) Bounds(topic weir.TopicID, partition int32) (start, end int64, err error) {
	v, err := l.look(state.Place{Topic: topic, Partition: partition})
	return v.start, v.end, err
}

// Watch returns a channel that is closed when the partition grows, its topic is
// deleted, or the log ends. To wait for records, call Watch first and then Fetch.
func (l *Log) Watch(topic weir.TopicID, partition int32) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, err := l.partition(state.Place{Topic: topic, Partition: partition})
	if err != nil || l.Err() != nil {
		gone := make(chan struct{})
		close(gone)
		return gone
	}
	if p.Grown == nil {
		p.Grown = make(chan struct{})
	}
	return p.Grown
}

// Stable returns the last stable offset of a partition: the first offset of its
// oldest open transaction, its end if there is none. It never falls.
//
// Errors: ErrUnknownTopic, ErrFenced, ErrClosed.
func (l *Log) Stable(topic weir.TopicID, partition int32) (int64, error) {
	v, err := l.look(state.Place{Topic: topic, Partition: partition})
	if err != nil {
		return -1, err
	}
	return v.stable, nil
}

// EpochEnd tells a consumer whether the records that it has read are still there
// (OffsetForLeaderEpoch, KIP-101): the largest leader epoch up to asked that has
// records, -1 if there is none, and the offset where the next one begins, the end
// of the partition if it is the newest. A partition without a record has none.
//
// Errors: ErrUnknownTopic, ErrFenced, ErrClosed.
func (l *Log) EpochEnd(topic weir.TopicID, partition int32, epoch int32) (found int32, end int64, err error) {
	if err := l.Err(); err != nil {
		return -1, -1, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, err := l.partition(state.Place{Topic: topic, Partition: partition})
	if err != nil {
		return -1, -1, err
	}
	found, end = p.Epochs.End(epoch, p.End)
	return found, end, nil
}

// Size returns the bytes at rest that the records of a partition take.
//
// Errors: ErrUnknownTopic.
func (l *Log) Size(id weir.TopicID, partition int32) (int64, error) {
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, err := l.partition(state.Place{Topic: id, Partition: partition})
	if err != nil {
		return 0, err
	}
	return p.Size(), nil
}

// Producers lists the producers that a partition remembers, by id
// (DescribeProducers).
//
// Errors: ErrUnknownTopic, ErrFenced, ErrClosed.
func (l *Log) Producers(topic weir.TopicID, partition int32) ([]state.ProducerState, error) {
	if err := l.Err(); err != nil {
		return nil, err
	}
	l.mu.RLock()
	defer l.mu.RUnlock()
	p, err := l.partition(state.Place{Topic: topic, Partition: partition})
	if err != nil {
		return nil, err
	}
	var all []state.ProducerState
	for _, some := range []map[int64]*state.Producer{p.Producers.Young, p.Producers.Old, p.Producers.Open} {
		for _, id := range slices.Sorted(maps.Keys(some)) {
			all = append(all, some[id].Describe(id))
		}
	}
	slices.SortFunc(all, func(a, b state.ProducerState) int { return cmp.Compare(a.ID, b.ID) })
	return all, nil
}
