package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// slice is the slice of the partition that is shared.
func (p Place) slice() weir.Slice { return weir.SliceOf(p.Topic, p.Partition) }

// SliceOf returns the slice of the share partition that an entry is about; false: it is about
// several, or one that is not known: it may have been begun by an entry that is on its way.
func (s *State) SliceOf(kind uint16, body []byte) (weir.Slice, bool) {
	d := coding.NewDecoder(body)
	if d.Byte() != bodyVersion {
		return 0, false
	}
	switch kind {
	case KindBegun:
		at := decodePlace(&d)
		return at.slice(), !d.Bad()
	case KindUpdated, KindOpened:
		if p := s.byID[ID(d.Uvarint())]; p != nil {
			return p.Place.slice(), true
		}
	}
	return 0, false
}

// Export returns the share partitions in those slices, nil if there are none; FORMAT.md
// describes it. Equal states give equal bytes. Ids are not part of it: each shard gives out
// its own.
func (s *State) Export(set weir.SliceSet) []byte {
	all := slices.DeleteFunc(slices.Collect(maps.Values(s.places)), func(p *Partition) bool { return !set.Has(p.Place.slice()) })
	if len(all) == 0 {
		return nil
	}
	sortByPlace(all)
	return appendExported([]byte{bodyVersion}, all)
}

func appendExported(b []byte, all []*Partition) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, p := range all {
		b = p.appendProgress(appendPlace(b, p.Place))
	}
	return b
}

// Import adds share partitions that Export of another shard's state gave, and returns their
// ids. With an error (ErrCorrupt) nothing has changed.
func (s *State) Import(body []byte) ([]ID, error) {
	d := coding.NewDecoder(body)
	if d.Byte() != bodyVersion {
		d.Fail()
	}
	var all []*Partition
	for range d.Count(minPartition - 1) {
		p := &Partition{Place: decodePlace(&d)}
		if p.decodeProgress(&d); !p.valid() {
			d.Fail()
		}
		if d.Bad() {
			break
		}
		all = append(all, p)
	}
	ordered := slices.Clone(all)
	sortByPlace(ordered)
	if !d.Done() || !bytes.Equal(appendExported([]byte{bodyVersion}, ordered), body) {
		return nil, fmt.Errorf("%w: what comes from another shard", ErrCorrupt)
	}
	ids := make([]ID, len(all))
	for i, p := range all {
		if i > 0 && p.Place == all[i-1].Place {
			return nil, fmt.Errorf("%w: a share partition comes twice", ErrCorrupt)
		}
		ids[i] = s.last + ID(i) + 1
	}
	for i, p := range all {
		if old := s.places[p.Place]; old != nil {
			s.remove(old)
		}
		p.ID = ids[i]
		s.add(p)
	}
	s.last += ID(len(all))
	return ids, nil
}

// Remove forgets the share partitions in those slices, and returns where they were.
func (s *State) Remove(set weir.SliceSet) (gone []Place) {
	for at, p := range s.places {
		if set.Has(at.slice()) {
			s.remove(p)
			gone = append(gone, at)
		}
	}
	return gone
}
