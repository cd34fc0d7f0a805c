package wal

import (
	"cmp"
	"slices"
)

// seqRange is a range of sequences, both ends included.
type seqRange struct{ first, last uint64 }

// seqSet is a set of sequences: ranges in order that do not touch.
type seqSet []seqRange

func (s seqSet) find(seq uint64) (int, bool) {
	return slices.BinarySearchFunc(s, seq, func(p seqRange, seq uint64) int {
		if p.first <= seq && seq <= p.last {
			return 0
		}
		return cmp.Compare(p.first, seq)
	})
}

func (s seqSet) has(seq uint64) bool {
	_, found := s.find(seq)
	return found
}

// add returns the set with seq in it.
func (s seqSet) add(seq uint64) seqSet {
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
		s = slices.Insert(s, i, seqRange{seq, seq})
	}
	return s
}
