package state

import (
	"iter"
	"math"
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

// set is a set of offsets.
type set struct {
	parts []part // ascending; none is empty
	n     int64  // how many offsets
}

// part has the offsets that share their upper 32 bits.
type part struct {
	high uint32
	low  *roaring.Bitmap
}

const lowBits = 32

// find returns where the part with these upper bits is, or would be.
func (s *set) find(high uint32) (int, bool) {
	return slices.BinarySearchFunc(s.parts, high, func(p part, high uint32) int {
		switch {
		case p.high < high:
			return -1
		case p.high > high:
			return 1
		}
		return 0
	})
}

// add adds first to last.
func (s *set) add(first, last int64) {
	for first <= last {
		high := uint32(first >> lowBits)
		from, to := uint64(uint32(first)), uint64(math.MaxUint32)
		if uint32(last>>lowBits) == high {
			to = uint64(uint32(last))
		}
		i, ok := s.find(high)
		if !ok {
			s.parts = slices.Insert(s.parts, i, part{high, roaring.New()})
		}
		s.n += s.parts[i].add(from, to+1)
		first += int64(to + 1 - from)
	}
}

// few is up to how many offsets are added or removed one by one: the library copies a
// container when it does so with a range.
const few = 8

// add adds from to to, without to, and returns how many are new.
func (p part) add(from, to uint64) (n int64) {
	if to-from > few {
		n = int64(to - from - p.low.CardinalityInRange(from, to))
		p.low.AddRange(from, to)
		return n
	}
	for ; from < to; from++ {
		if !p.low.Contains(uint32(from)) {
			p.low.Add(uint32(from))
			n++
		}
	}
	return n
}

// remove removes first to last and returns how many of them there were.
func (s *set) remove(first, last int64) int64 {
	before := s.n
	i, _ := s.find(uint32(first >> lowBits))
	for i < len(s.parts) && first <= last {
		p := s.parts[i]
		from, to, ok := p.clip(first, last)
		if !ok {
			break
		}
		s.n -= p.remove(from, to)
		if p.low.IsEmpty() {
			s.parts = slices.Delete(s.parts, i, i+1)
			continue
		}
		i++
	}
	return before - s.n
}

// remove removes from to to, without to, and returns how many of them there were.
func (p part) remove(from, to uint64) (n int64) {
	if to-from > few {
		if n = int64(p.low.CardinalityInRange(from, to)); n > 0 {
			p.low.RemoveRange(from, to)
		}
		return n
	}
	for ; from < to; from++ {
		if p.low.Contains(uint32(from)) {
			p.low.Remove(uint32(from))
			n++
		}
	}
	return n
}

// clip returns the lower bits of what of first to last, and no less than first, is in p;
// to is not in it.
func (p part) clip(first, last int64) (from, to uint64, ok bool) {
	base := int64(p.high) << lowBits
	if last < base {
		return 0, 0, false
	}
	return uint64(max(first-base, 0)), uint64(min(last-base, math.MaxUint32)) + 1, true
}

func (s *set) has(id int64) bool {
	i, ok := s.find(uint32(id >> lowBits))
	return ok && id >= 0 && s.parts[i].low.Contains(uint32(id))
}

// addAll adds what is in others. It shares nothing with them.
func (s *set) addAll(others []*set) {
	lows := make(map[uint32][]*roaring.Bitmap)
	for _, o := range others {
		for _, p := range o.parts {
			lows[p.high] = append(lows[p.high], p.low)
		}
	}
	for high, all := range lows {
		low := roaring.FastOr(all...)
		if i, ok := s.find(high); ok {
			there := s.parts[i].low
			s.n += int64(low.GetCardinality() - low.AndCardinality(there))
			there.Or(low)
		} else {
			s.parts = slices.Insert(s.parts, i, part{high, low})
			s.n += int64(low.GetCardinality())
		}
	}
}

// count returns how many of first to last are there.
func (s *set) count(first, last int64) (n int64) {
	i, _ := s.find(uint32(first >> lowBits))
	for ; i < len(s.parts) && first <= last; i++ {
		from, to, ok := s.parts[i].clip(first, last)
		if !ok {
			break
		}
		n += int64(s.parts[i].low.CardinalityInRange(from, to))
	}
	return n
}

// next returns the first one at or after from.
func (s *set) next(from int64) (int64, bool) {
	from = max(from, 0)
	high := uint32(from >> lowBits)
	i, ok := s.find(high)
	if ok {
		if low := s.parts[i].low.NextValue(uint32(from)); low >= 0 {
			return int64(high)<<lowBits | low, true
		}
		i++
	}
	if i == len(s.parts) {
		return 0, false
	}
	return int64(s.parts[i].high)<<lowBits | int64(s.parts[i].low.Minimum()), true
}

// runEnd returns the last of the offsets in a row that begin with id, which is there, or
// limit if that is less. It counts, because NextAbsentValue is wrong at times (roaring
// v2.30.0).
func (s *set) runEnd(id, limit int64) int64 {
	for id <= limit && s.has(id) {
		i, _ := s.find(uint32(id >> lowBits))
		from, left := uint64(uint32(id)), uint64(1<<16-id&0xffff) // in its container
		n := s.parts[i].run(from, left)
		if id += int64(n); n < left {
			break
		}
	}
	return min(id-1, limit)
}

// run returns how many in a row from on are there, and at most limit.
func (p part) run(from, limit uint64) uint64 {
	all := func(n uint64) bool { return p.low.CardinalityInRange(from, from+n) == n }
	n, none := uint64(1), uint64(2) // n are there, none are not
	for none < limit && all(none) {
		n, none = none, 2*none
	}
	if none >= limit {
		if none = limit + 1; all(limit) {
			return limit
		}
	}
	for n+1 < none {
		if half := (n + none) / 2; all(half) {
			n = half
		} else {
			none = half
		}
	}
	return n
}

// runs returns what of first to last is in the set, as ranges.
func (s *set) runs(first, last int64) iter.Seq[Range] {
	return func(yield func(Range) bool) {
		for {
			id, ok := s.next(first)
			if !ok || id > last {
				return
			}
			end := s.runEnd(id, last)
			if !yield(Range{id, end}) || end == last {
				return
			}
			first = end + 1
		}
	}
}

// common returns how many offsets are in both.
func (s *set) common(o *set) int64 {
	n := int64(0)
	for _, p := range s.parts {
		if i, ok := o.find(p.high); ok {
			n += int64(p.low.AndCardinality(o.parts[i].low))
		}
	}
	return n
}
