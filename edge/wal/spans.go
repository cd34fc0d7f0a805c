package wal

import (
	"cmp"
	"slices"
)

// span is a range of sequences, both ends included.
type span struct{ first, last uint64 }

// spans is a set of sequences: ranges in order that do not touch.
type spans []span

func (s spans) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(s, seq, func(p span, seq uint64) int {
		if p.first <= seq && seq <= p.last {
			return 0
		}
		return cmp.Compare(p.first, seq)
	})
}

func (s spans) has(seq uint64) bool {
	_, found := s.find(seq)
	return found
}

// add returns the set with seq in it.
func (s spans) add(seq uint64) spans {
	i, found := s.find(seq)
	if found {
		return s
	}
	before := i > 0 && s[i-1].last == seq-1
	after := i < len(s) && s[i].first == seq+1
	switch {
	case before && after:
		s[i-1].last = s[i].last
		return slices.Delete(s, i, i+1)
	case before:
		s[i-1].last = seq
	case after:
		s[i].first = seq
	default:
		s = slices.Insert(s, i, span{seq, seq})
	}
	return s
}
