package state

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// State is the share partitions of a shard.
type State struct {
	last   ID // that was given out
	byID   map[ID]*Partition
	places map[Place]*Partition
	groups map[string]int // number of share partitions
}

// New returns a state without share partitions.
func New() *State {
	return &State{byID: make(map[ID]*Partition), places: make(map[Place]*Partition), groups: make(map[string]int)}
}

// Len returns the number of share partitions.
func (s *State) Len() int { return len(s.places) }

// Partition returns a share partition, nil if the group does not share it. The caller
// must not change it.
func (s *State) Partition(at Place) *Partition { return s.places[at] }

// ByID returns a share partition, nil if it is gone.
func (s *State) ByID(id ID) *Partition { return s.byID[id] }

// Groups lists the groups that share anything, by name.
func (s *State) Groups() []string { return slices.Sorted(maps.Keys(s.groups)) }

// Has reports whether a group shares anything.
func (s *State) Has(group string) bool { return s.groups[group] > 0 }

// Of lists what a group shares, by topic id and partition.
func (s *State) Of(group string) []*Partition {
	var all []*Partition
	for at, p := range s.places {
		if at.Group == group {
			all = append(all, p)
		}
	}
	sortByPlace(all)
	return all
}

func sortByPlace(all []*Partition) {
	slices.SortFunc(all, func(a, b *Partition) int {
		return cmp.Or(cmp.Compare(a.Place.Group, b.Place.Group), slices.Compare(a.Place.Topic[:], b.Place.Topic[:]), cmp.Compare(a.Place.Partition, b.Place.Partition))
	})
}

// Kinds lists the kinds of entries that Apply takes.
func Kinds() []uint16 {
	return []uint16{KindBegun, KindUpdated, KindOpened, KindDeleted, KindForgotten}
}

// Apply applies a durable entry. Entries for a share partition that is gone change
// nothing. With an error (ErrCorrupt) nothing has changed.
func (s *State) Apply(kind uint16, body []byte) error {
	d := coding.NewDecoder(body)
	if v := d.Byte(); !d.Bad() && v != bodyVersion {
		return fmt.Errorf("%w: kind %d, version %d is not known", ErrCorrupt, kind, v)
	}
	apply := func() {}
	switch kind {
	case KindBegun:
		e := decodeBegun(&d)
		apply = func() { s.begun(e) }
	case KindUpdated:
		e := decodeUpdated(&d)
		apply = func() { s.updated(e) }
	case KindOpened:
		e := Opened{ID: ID(d.Uvarint()), Mark: decodeOffset(&d) - 1}
		apply = func() { s.opened(e) }
	case KindDeleted:
		gone := make([]ID, d.Count(1))
		for i := range gone {
			gone[i] = ID(d.Uvarint())
		}
		apply = func() { s.deleted(gone) }
	case KindForgotten:
		topic := weir.TopicID(d.ID())
		apply = func() { s.forgotten(topic) }
	default:
		d.Fail()
	}
	if !d.Done() {
		return fmt.Errorf("%w: kind %d", ErrCorrupt, kind)
	}
	apply()
	return nil
}

func (s *State) begun(e Begun) {
	if old := s.places[e.Place]; old != nil {
		s.remove(old)
	}
	s.last++
	s.add(&Partition{ID: s.last, Place: e.Place, Start: e.Start, Lent: e.Lent})
}

func (s *State) add(p *Partition) {
	s.byID[p.ID], s.places[p.Place] = p, p
	s.groups[p.Place.Group]++
}

func (s *State) remove(p *Partition) {
	delete(s.byID, p.ID)
	delete(s.places, p.Place)
	if s.groups[p.Place.Group]--; s.groups[p.Place.Group] == 0 {
		delete(s.groups, p.Place.Group)
	}
}

func (s *State) updated(e Updated) {
	p := s.byID[e.ID]
	if p == nil {
		return
	}
	p.Lent = max(p.Lent, e.Lent)
	p.begin(e.Start)
	for _, c := range e.Changes {
		p.change(c.First, min(c.Last, p.Lent), func(r Run) Run {
			if r.Done {
				return r // for ever
			}
			return Run{First: r.First, Last: r.Last, Done: c.Done, Count: c.Count}
		})
	}
}

func (s *State) opened(e Opened) {
	p := s.byID[e.ID]
	if p == nil {
		return
	}
	p.Lent = max(min(p.Lent, e.Mark), p.Start-1)
	if n := len(p.Runs); n > 0 {
		p.Lent = max(p.Lent, p.Runs[n-1].Last)
	}
	p.change(p.Start, min(e.Mark, p.Lent), func(r Run) Run {
		if !r.Done {
			r.Count = min(r.Count+1, MaxCount)
		}
		return r
	})
}

func (s *State) deleted(gone []ID) {
	for _, id := range gone {
		if p := s.byID[id]; p != nil {
			s.remove(p)
		}
	}
}

func (s *State) forgotten(topic weir.TopicID) {
	for at, p := range s.places {
		if at.Topic == topic {
			s.remove(p)
		}
	}
}
