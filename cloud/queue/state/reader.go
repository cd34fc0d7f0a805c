package state

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// Partition is where a durable reader of a vhost reads.
type Partition struct {
	Topic     weir.TopicID
	Partition int32
}

func (p Partition) compare(o Partition) int {
	return cmp.Or(slices.Compare(p.Topic[:], o.Topic[:]), cmp.Compare(p.Partition, o.Partition))
}

// Position is the offset that a reader reads next; -1 forgets the partition.
type Position struct {
	Partition
	Offset int64
}

// EncodePositions returns the body of an entry KindPosition.
func EncodePositions(vhost weir.TopicID, reader string, all []Position) []byte {
	b := append([]byte{bodyVersion}, vhost[:]...)
	b = binary.AppendUvarint(coding.AppendString(b, reader), uint64(len(all)))
	for _, p := range all {
		b = appendPosition(b, p)
	}
	return b
}

func appendPosition(b []byte, p Position) []byte {
	b = binary.AppendUvarint(append(b, p.Topic[:]...), uint64(p.Partition.Partition))
	return binary.AppendUvarint(b, uint64(p.Offset+1))
}

const minPosition = 16 + 1 + 1

func (d *decoder) position() Position {
	return Position{Partition: Partition{d.topic(), d.Int31()}, Offset: int64(d.UpTo(maxOffset)) - 1}
}

func (s *State) applyPosition(d *decoder) error {
	v, reader := s.topics[d.topic()], d.String()
	all := make([]Position, 0, d.Count(minPosition))
	for range cap(all) {
		all = append(all, d.position())
	}
	if !d.Done() {
		return ErrCorrupt
	}
	for _, p := range all {
		if v != nil {
			v.setPosition(reader, p)
		}
	}
	return nil
}

func (v *Vhost) setPosition(reader string, p Position) {
	of := v.readers[reader]
	if p.Offset < 0 {
		if delete(of, p.Partition); len(of) == 0 {
			delete(v.readers, reader)
		}
		return
	}
	if of == nil {
		of = make(map[Partition]int64)
		v.readers[reader] = of
	}
	of[p.Partition] = p.Offset
}

// Readers returns the names of the durable readers, in order.
func (v *Vhost) Readers() []string { return slices.Sorted(maps.Keys(v.readers)) }

// Position returns the offset that a reader reads next in a partition, false if it has
// none.
func (v *Vhost) Position(reader string, p Partition) (int64, bool) {
	offset, ok := v.readers[reader][p]
	return offset, ok
}

// Positions returns all that a reader has, by topic and partition.
func (v *Vhost) Positions(reader string) []Position {
	of := v.readers[reader]
	all := make([]Position, 0, len(of))
	for p, offset := range of {
		all = append(all, Position{p, offset})
	}
	slices.SortFunc(all, func(a, b Position) int { return a.compare(b.Partition) })
	return all
}
