package commitlog

import (
	"cmp"
	"slices"

	"github.com/weirmq/weir/storage/record"
)

// Aborted is an aborted transaction in a partition, as consumers who read what is
// committed want to know it: what lies from First to Last of that producer does
// not count. Each marker of an abort has one, even if the transaction has no record
// here: some clients take whichever marker of an abort comes next for the end of the
// oldest transaction that they were told of.
type Aborted struct {
	Producer int64
	First    int64 // offset of its first record; Last if it has none
	Last     int64 // offset of its marker
}

// aborted is an aborted transaction and how far everything was decided when it
// ended: transactions that ended later begin at or behind stable.
type aborted struct {
	Aborted
	stable int64
}

// endedAt orders aborted transactions by their markers.
func endedAt(x aborted, last int64) int { return cmp.Compare(x.Last, last) }

// overlapping returns the transactions of all, which ended in this order, that have
// something at or behind from and before to, in the order in which they began.
func overlapping(all []aborted, from, to int64) []Aborted {
	var some []Aborted
	i, _ := slices.BinarySearchFunc(all, from, endedAt)
	for ; i < len(all); i++ {
		if all[i].First < to {
			some = append(some, all[i].Aborted)
		}
		if all[i].stable >= to {
			break
		}
	}
	slices.SortFunc(some, func(a, b Aborted) int { return cmp.Compare(a.First, b.First) })
	return some
}

// behind returns the transactions of all that ended at or behind start; all is not
// changed.
func behind(all []aborted, start int64) []aborted {
	n, _ := slices.BinarySearchFunc(all, start, endedAt)
	if n == 0 {
		return all
	}
	return slices.Clone(all[n:])
}

// stable is the last stable offset of a partition that ends at end: the first offset
// of its oldest open transaction. What lies before it is decided. It never falls.
func (p *partition) stable(end int64) int64 {
	for _, x := range p.producers.open {
		end = min(end, x.first)
	}
	return end
}

// ended notes a marker: the producer has no open transaction any more, and if it was
// aborted, consumers need to know.
func (s *state) ended(p *partition, b record.Batch) error {
	marker, err := b.Marker()
	if err != nil {
		return s.broken("%v: control batch at offset %d: %v", p.key, b.BaseOffset(), err)
	}
	id, known := b.ProducerID(), producer{}
	if was := p.producers.get(b.ProducerID()); was != nil {
		known = *was
	}
	if known.known && b.ProducerEpoch() < known.epoch {
		if err := s.broken("%v: producer %d has epoch %d, its marker at offset %d has %d", p.key, id, known.epoch, b.BaseOffset(), b.ProducerEpoch()); err != nil {
			return err
		}
	}
	p.producers.change(id, func(x *producer) { x.end(b.ProducerEpoch(), b.MaxTimestamp()) })
	if marker.Commit {
		return nil
	}
	first := b.BaseOffset()
	if known.open {
		first = known.first
	}
	p.aborted = append(p.aborted, aborted{Aborted{id, first, b.BaseOffset()}, p.stable(b.NextOffset())})
	return nil
}
