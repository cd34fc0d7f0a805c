package state

import (
	"cmp"
	"slices"

	"github.com/weirmq/weir/storage/record"
)

// Aborted is an aborted transaction in a partition, as consumers with read_committed
// need it: they skip the records of that producer from First to Last. There is one for
// each abort marker, even if the transaction has no record here: some clients take the
// next abort marker for the end of the oldest transaction that they were told of.
type Aborted struct {
	Producer int64
	First    int64 // offset of its first record; Last if it has none
	Last     int64 // offset of its marker
}

// Abort is an aborted transaction, and the last stable offset right behind its end:
// transactions that ended later begin at or behind stable.
type Abort struct {
	Aborted
	Stable int64
}

// EndedAt orders aborted transactions by their markers.
func EndedAt(x Abort, last int64) int { return cmp.Compare(x.Last, last) }

// Overlapping returns the transactions that have something at or behind from and before
// to, in the order in which they began. all is in the order in which they ended.
func Overlapping(all []Abort, from, to int64) []Aborted {
	var some []Aborted
	i, _ := slices.BinarySearchFunc(all, from, EndedAt)
	for ; i < len(all); i++ {
		if all[i].First < to {
			some = append(some, all[i].Aborted)
		}
		if all[i].Stable >= to {
			break
		}
	}
	slices.SortFunc(some, func(a, b Aborted) int { return cmp.Compare(a.First, b.First) })
	return some
}

// behind returns the transactions that ended at or behind start. It does not change
// all.
func behind(all []Abort, start int64) []Abort {
	n, _ := slices.BinarySearchFunc(all, start, EndedAt)
	if n == 0 {
		return all
	}
	return slices.Clone(all[n:])
}

// Stable is the last stable offset of a partition that ends at end: the first offset
// of its oldest open transaction. What lies before it is decided. It never falls.
func (p *Partition) Stable(end int64) int64 {
	for _, x := range p.Producers.Open {
		end = min(end, x.First)
	}
	return end
}

// ended notes a marker: the producer no longer has an open transaction. If it was
// aborted, it is remembered for consumers.
func (s *State) ended(p *Partition, b record.Batch) error {
	marker, err := b.Marker()
	if err != nil {
		return s.broken("%v: control batch at offset %d: %v", p.Key, b.BaseOffset(), err)
	}
	id, known := b.ProducerID(), Producer{}
	if was := p.Producers.Get(b.ProducerID()); was != nil {
		known = *was
	}
	if known.Known && b.ProducerEpoch() < known.Epoch {
		if err := s.broken("%v: producer %d has epoch %d, its marker at offset %d has %d", p.Key, id, known.Epoch, b.BaseOffset(), b.ProducerEpoch()); err != nil {
			return err
		}
	}
	p.Producers.change(id, func(x *Producer) { x.End(b.ProducerEpoch(), b.MaxTimestamp()) })
	if marker.Commit {
		return nil
	}
	first := b.BaseOffset()
	if known.Open {
		first = known.First
	}
	p.Aborted = append(p.Aborted, Abort{Aborted{id, first, b.BaseOffset()}, p.Stable(b.NextOffset())})
	return nil
}
