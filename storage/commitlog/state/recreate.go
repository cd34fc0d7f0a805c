package state

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
	"github.com/weirmq/weir/storage/weir"
)

// What a repair does when the log no longer knows a topic because the checkpoint that
// had it is lost. The records are in slots and segments, with the topic's id. Its name
// and settings are lost, and so are marks, groups, users and gateways.

// recreatedName begins the name of such a topic; its id follows.
const recreatedName = "recovered."

// Recovered reports whether a repair has named the topic.
func (t *Topic) Recovered() bool { return t.Name == recreatedName+t.ID.String() }

// recreate makes a partition of which only records are known. The first of them begin
// at base.
func (s *State) recreate(key Place, base int64) *Partition {
	t := s.Topics[key.Topic]
	if t == nil {
		if s.Recreated == nil {
			s.Recreated = make(map[weir.TopicID]bool)
		}
		s.Recreated[key.Topic] = true
		_ = s.broken("topic %v is not known any more: its records are in topic %s%v; its name, settings and marks are lost", key.Topic, recreatedName, key.Topic)
		_ = s.createTopic(Topic{ID: key.Topic, Name: recreatedName + key.Topic.String(), Partitions: key.Partition + 1}) // it reports its errors itself
	} else if s.Recreated[key.Topic] && key.Partition >= t.Partitions && key.Partition < MaxPartitions {
		s.grow(t, key.Partition+1)
	}
	p := s.Partition(key)
	if p != nil && p.End == 0 {
		p.Start, p.End = base, base
	}
	return p
}

// Prepend puts pieces before what is known of a partition that was recreated, and
// returns those that fit.
func (s *State) Prepend(key Place, pieces []Piece, tell func(string)) (row []Piece) {
	slices.SortFunc(pieces, func(a, b Piece) int {
		return cmp.Or(cmp.Compare(b.Next, a.Next), b.Segment.compare(a.Segment)) // of two with the same end, the one that was written last
	})
	p := s.recreate(key, pieces[0].Next)
	if p == nil {
		return nil
	}
	first := p.Start
	for _, x := range pieces {
		if x.Next == first {
			row, first = append(row, x), x.Base
			s.hold(&x)
			p.Bytes += x.Data()
		}
	}
	if last := pieces[len(pieces)-1]; last.Base < first {
		tell(fmt.Sprintf("%v begins at offset %d: what lies before has a hole, in front of %s", key, first, segment.Key(0, last.Segment.Epoch, last.Segment.Number)))
	}
	slices.Reverse(row)
	p.Start, p.Pieces = first, slices.Concat(row, p.Pieces)
	return row
}

// gap adds a run that cannot be read in the place of the records of a lost slot. The
// repair then gives it up.
func (p *Partition) gap(pos journal.Position, next int64) {
	p.Index = append(p.Index, Extent{Base: p.End, Time: segment.NoTime, slot: pos.Slot, epoch: int32(pos.Epoch), Leader: p.LeaderEpoch(int32(pos.Epoch)), Size: record.HeaderSize})
	p.Bytes += record.HeaderSize
	p.Epochs = p.Epochs.Begin(p.LeaderEpoch(int32(pos.Epoch)), p.End)
	p.End = next
}
