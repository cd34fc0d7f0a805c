package weir

import (
	"encoding/hex"
	"iter"
	"math/bits"
)

// SliceSet is a set of slices. The zero value is empty.
type SliceSet [Slices / 64]uint64

// Has reports whether a slice is in the set.
func (s *SliceSet) Has(slice Slice) bool {
	return slice < Slices && s[slice/64]>>(slice%64)&1 == 1
}

// Add puts a slice, which must be one, into the set.
func (s *SliceSet) Add(slice Slice) { s[slice/64] |= 1 << (slice % 64) }

// Len returns how many slices are in the set.
func (s *SliceSet) Len() (n int) {
	for _, word := range s {
		n += bits.OnesCount64(word)
	}
	return n
}

// All returns the slices of the set, ascending.
func (s *SliceSet) All() iter.Seq[Slice] {
	return func(yield func(Slice) bool) {
		for i, word := range s {
			for ; word != 0; word &= word - 1 {
				if !yield(Slice(64*i + bits.TrailingZeros64(word))) {
					return
				}
			}
		}
	}
}

// Overlaps reports whether a slice is in both sets.
func (s *SliceSet) Overlaps(other *SliceSet) bool {
	for i := range s {
		if s[i]&other[i] != 0 {
			return true
		}
	}
	return false
}

// With returns the slices that are in one of the sets.
func (s SliceSet) With(other SliceSet) SliceSet {
	for i := range s {
		s[i] |= other[i]
	}
	return s
}

// Without returns the slices of s that are not in other.
func (s SliceSet) Without(other SliceSet) SliceSet {
	for i := range s {
		s[i] &^= other[i]
	}
	return s
}

// MoveID names one attempt to move slices. It is random: each attempt has another.
type MoveID [16]byte

// String returns the id in hex.
func (id MoveID) String() string { return hex.EncodeToString(id[:]) }

// Move is one attempt to move slices from a shard to another one.
type Move struct {
	ID       MoveID
	From, To uint32 // shards; To is not shard 0, which is the catalogue
	Slices   SliceSet
}
