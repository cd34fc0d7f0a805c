package commitlog

import (
	"cmp"
	"fmt"
	"math"
	"slices"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// What a repair does when the log does not know a topic any more: the checkpoint that had
// it is lost. The records are in slots and segments, with the topic's id; its name and
// settings are nowhere, nor are marks, groups, users and gateways.

// recreatedName begins the name of such a topic; its id follows.
const recreatedName = "recovered."

// recreate makes a partition that only its records tell of. The first ones that are known
// begin at base.
func (s *state) recreate(key placeKey, base int64) *partition {
	t := s.topics[key.topic]
	if t == nil {
		if s.recreated == nil {
			s.recreated = make(map[TopicID]bool)
		}
		s.recreated[key.topic] = true
		_ = s.broken("topic %v is not known any more: its records are in topic %s%v; its name, settings and marks are lost", key.topic, recreatedName, key.topic)
		_ = s.createTopic(Topic{ID: key.topic, Name: recreatedName + key.topic.String(), Partitions: key.partition + 1}) // told, if it fails
	} else if s.recreated[key.topic] && key.partition >= t.Partitions && key.partition < MaxPartitions {
		t.grow(key.partition + 1)
	}
	p := s.partition(key)
	if p != nil && p.end == 0 {
		p.start, p.end = base, base
	}
	return p
}

// findPieces puts the pieces of segments that the log does not know into partitions that
// were recreated, or are now: those that lie without a hole before what is known.
func (l *Log) findPieces() error {
	list, err := listSegments(l.ctx, l.bucket, l.shard)
	if err != nil {
		return err
	}
	found := make(map[placeKey][]piece)
	for id := range list.ids {
		if l.state.segments[id] > 0 || slices.Contains(l.state.garbage, id) || id.epoch >= uint64(l.epoch) {
			continue
		}
		pieces, err := l.openSegment(id)
		if err != nil && !permanent(err) {
			return err
		}
		for _, x := range pieces {
			key := placeKey{x.Topic, x.Partition}
			if t := l.state.topics[key.topic]; t == nil || l.state.recreated[key.topic] {
				found[key] = append(found[key], piece{base: x.Base, next: x.Next, time: x.MaxTime, segment: id, at: x.At, size: x.Size, index: x.Index, records: x.Records})
			}
		}
	}
	for key, pieces := range found {
		l.mu.Lock()
		row := l.state.prepend(key, pieces, l.lost)
		l.mu.Unlock()
		es, err := l.epochsOf(key, row)
		if err != nil {
			return err
		}
		l.mu.Lock()
		if p := l.state.partition(key); len(row) > 0 {
			for _, x := range p.epochs {
				es = es.begin(x.epoch, x.start)
			}
			p.epochs = es
		}
		l.mu.Unlock()
	}
	return nil
}

// epochsOf reads which leader epochs the records of pieces have.
func (l *Log) epochsOf(key placeKey, pieces []piece) (es epochs, err error) {
	for i := range pieces {
		x := &pieces[i]
		err := l.scan(l.ctx, key, x, func(b record.Batch) error {
			es = es.begin(b.LeaderEpoch(), b.BaseOffset())
			return nil
		})
		if err = corrupted(err); err != nil && !permanent(err) {
			return nil, err
		}
		if len(es) == 0 { // of what cannot be read nobody will know
			es = es.begin(int32(min(x.segment.epoch, math.MaxInt32)), x.base)
		}
	}
	if len(es) > 0 {
		es[0].start = pieces[0].base
	}
	return es, nil
}

// prepend puts pieces before what is known of a partition that was recreated, and
// returns those that fit.
func (s *state) prepend(key placeKey, pieces []piece, tell func(string)) (row []piece) {
	slices.SortFunc(pieces, func(a, b piece) int {
		return cmp.Or(cmp.Compare(b.next, a.next), b.segment.compare(a.segment)) // of two the one that was written last
	})
	p := s.recreate(key, pieces[0].next)
	if p == nil {
		return nil
	}
	first := p.start
	for _, x := range pieces {
		if x.next == first {
			row, first = append(row, x), x.base
			s.segments[x.segment]++
			p.bytes += x.data()
		}
	}
	if last := pieces[len(pieces)-1]; last.base < first {
		tell(fmt.Sprintf("%v begins at offset %d: what lies before has a hole, in front of %s", key, first, segment.Key(0, last.segment.epoch, last.segment.number)))
	}
	slices.Reverse(row)
	p.start, p.pieces = first, slices.Concat(row, p.pieces)
	return row
}
