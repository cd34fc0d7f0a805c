package commitlog

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/weir"
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
			s.recreated = make(map[weir.TopicID]bool)
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

// gap makes room for the records of a slot that is lost: a run that nobody can read, for
// the repair to give up.
func (p *partition) gap(pos journal.Position, next int64) {
	p.index = append(p.index, extent{base: p.end, time: segment.NoTime, slot: pos.Slot, epoch: int32(pos.Epoch), size: record.HeaderSize})
	p.bytes += record.HeaderSize
	p.epochs = p.epochs.begin(int32(pos.Epoch), p.end)
	p.end = next
}
