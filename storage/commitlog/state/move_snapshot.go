package state

import (
	"math"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

// moves appends what a checkpoint has of slices that moved, and of the map of slices.
func (e *encoder) moves(s *State) {
	m := s.Moves
	if e.flag(m != nil); m != nil {
		e.number(len(m.Out))
		for _, x := range m.Out {
			e.p = appendMove(e.p, x)
		}
		e.number(len(m.In))
		for _, a := range m.In {
			e.arrival(a)
		}
		e.number(len(m.Ended))
		for _, x := range m.Ended {
			e.p = append(append(e.p, x.ID[:]...), byte(x.End))
		}
		e.p = appendSlices(e.p, &m.Away)
		e.number(len(m.Lent))
		var last SegmentID
		for _, id := range sortedSegments(m.Lent) {
			e.segment(last, id)
			last = id
		}
		e.number(len(m.Biases))
		for slice := range weir.Slice(weir.Slices) {
			if bias := m.Biases[slice]; bias > 0 {
				e.number(int(slice))
				e.uvarint(uint64(bias))
			}
		}
	}
	if e.flag(s.Layout != nil); s.Layout != nil {
		e.layout(s.Layout)
	}
}

func (e *encoder) arrival(a *Arrival) {
	e.p = appendMove(e.p, a.Move)
	e.number(a.Parts)
	e.number(a.Of)
	e.number(len(a.dropped))
	for _, id := range sortedTopics(a.dropped) {
		e.p = append(e.p, id[:]...)
	}
	e.number(len(a.Body))
	e.p = append(e.p, a.Body...)
}

func (e *encoder) layout(l *Layout) {
	e.uvarint(uint64(l.Shards))
	e.p = appendMap(e.p, &l.Map)
}

func (e *encoder) flag(is bool) {
	if is {
		e.p = append(e.p, 1)
	} else {
		e.p = append(e.p, 0)
	}
}

func sortedSegments(all map[SegmentID]bool) []SegmentID {
	ids := make([]SegmentID, 0, len(all))
	for id := range all {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, SegmentID.compare)
	return ids
}

// The least bytes that things take.
const (
	minMove    = 16 + 4 + 4 + 8*len(weir.SliceSet{})
	minArrival = minMove + 1 + 1 + 1 + 1
	minEnded   = 16 + 1
	minBias    = 1 + 1
)

// moves is the inverse of the encoder's.
func (d *restorer) moves() {
	s := d.s
	if d.flag() {
		m := s.moves()
		ids := make(map[weir.MoveID]bool)
		is := func(id weir.MoveID) weir.MoveID {
			d.must(!ids[id])
			ids[id] = true
			return id
		}
		for range d.Count(minMove) {
			m.Out = append(m.Out, d.move())
			is(m.Out[len(m.Out)-1].ID)
		}
		for range d.Count(minArrival) {
			m.In = append(m.In, d.arrival())
			is(m.In[len(m.In)-1].ID)
		}
		n := d.Count(minEnded)
		for d.must(n <= maxEnded); n > 0; n-- {
			x := EndedMove{is(d.ID()), MoveEnd(d.Byte())}
			d.must(x.End >= MoveVoid && x.End <= MoveCancelled)
			m.Ended = append(m.Ended, x)
		}
		m.Away = d.slices()
		d.lent(m)
		d.biases(m)
	}
	if d.flag() {
		s.Layout = d.layout()
	}
	d.must(s.Moves != nil || s.Layout != nil)
	for _, t := range d.order {
		for _, p := range t.Parts {
			d.must(p.Bias == s.bias(p.Key))
		}
	}
}

func (d *restorer) arrival() *Arrival {
	a := &Arrival{Move: d.move(), Parts: int(d.uvarint32()), Of: int(d.uvarint32()), dropped: make(map[weir.TopicID]bool)}
	d.must(a.Parts > 0 && a.Parts <= a.Of && a.Of <= maxParts)
	var last weir.TopicID
	for i := range d.Count(len(last)) {
		id := weir.TopicID(d.ID())
		d.must(i == 0 || compareTopics(last, id) < 0)
		a.dropped[id], last = true, id
	}
	a.Body = slices.Clone(d.Bytes())
	return a
}

func (d *restorer) lent(m *Moves) {
	var last SegmentID
	for i := range d.Count(minGarbage) {
		id := d.segment(last)
		d.must((i == 0 || last.compare(id) < 0) && id.Other == 0 && !id.Slot && id.Epoch > d.s.Cleaned && d.s.Segments[id] == 0)
		m.Lent[id], last = true, id
	}
}

func (d *restorer) biases(m *Moves) {
	last := -1
	for range d.Count(minBias) {
		slice, bias := int(d.UpTo(weir.Slices-1)), d.UpTo(math.MaxInt32)
		d.must(slice > last && bias > 0)
		m.Biases[weir.Slice(slice)], last = int32(bias), slice
	}
}

// layout is the inverse of the encoder's.
func (d *decoder) layout() *Layout {
	l := &Layout{Shards: uint32(d.UpTo(weir.MaxShards))}
	l.Map = d.sliceMap()
	return l
}
