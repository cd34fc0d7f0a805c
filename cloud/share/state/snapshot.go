package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
)

// minPartition is the least bytes of a share partition in a snapshot.
const minPartition = 1 + 16 + 1 + 1 + 1 + 1 + 1

// Snapshot returns the whole state; FORMAT.md describes it. Equal states have equal
// snapshots. That of a state in which nothing was ever shared is empty.
func (s *State) Snapshot() []byte {
	if s.last == 0 {
		return nil
	}
	all := slices.Collect(maps.Values(s.places))
	sortByPlace(all)
	b := binary.AppendUvarint([]byte{bodyVersion}, uint64(s.last))
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, p := range all {
		b = p.appendProgress(binary.AppendUvarint(appendPlace(b, p.Place), uint64(p.ID)))
	}
	return b
}

// appendProgress appends what the group has done with the records.
func (p *Partition) appendProgress(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(p.Start))
	b = binary.AppendUvarint(b, uint64(p.Lent-p.Start+1))
	return appendRuns(b, p.Start, p.Runs)
}

func (p *Partition) decodeProgress(d *coding.Decoder) {
	p.Start = decodeOffset(d)
	p.Lent = p.Start - 1 + decodeOffset(d)
	p.Runs = decodeRuns(d, p.Start)
}

// Restore replaces the state by that of a snapshot. With an error (ErrCorrupt) nothing
// has changed.
func (s *State) Restore(body []byte) error {
	next := New()
	if len(body) == 0 {
		*s = *next
		return nil
	}
	d := coding.NewDecoder(body)
	if v := d.Byte(); !d.Bad() && v != bodyVersion {
		return fmt.Errorf("%w: snapshot of version %d", ErrCorrupt, v)
	}
	next.last = ID(d.Uvarint())
	for range d.Count(minPartition) {
		p := &Partition{Place: decodePlace(&d), ID: ID(d.Uvarint())}
		p.decodeProgress(&d)
		if p.ID > next.last || next.byID[p.ID] != nil || next.places[p.Place] != nil || !p.valid() {
			d.Fail()
		}
		if d.Bad() {
			break
		}
		next.add(p)
	}
	// A state has one encoding: anything out of order or longer than necessary was not
	// written by Snapshot.
	if !d.Done() || !bytes.Equal(next.Snapshot(), body) {
		return fmt.Errorf("%w: snapshot", ErrCorrupt)
	}
	*s = *next
	return nil
}

// valid reports whether the runs are as change leaves them.
func (p *Partition) valid() bool {
	for i, r := range p.Runs {
		if !r.Done && r.Count == 0 || i == 0 && r.Done && r.First == p.Start || r.Last > p.Lent {
			return false
		}
		if i > 0 {
			if b := p.Runs[i-1]; b.Last == r.First-1 && b.Done == r.Done && b.Count == r.Count {
				return false
			}
		}
	}
	return true
}
