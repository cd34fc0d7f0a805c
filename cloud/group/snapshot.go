package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/weirmq/weir/storage/coding"
)

// A snapshot is a version byte and then, with the integers and strings of the
// entries:
//
//	1   groups u · groups × {group string · topics u · topics × {topic 16 bytes · count u · count × {partition u · offset varint · leader epoch varint · metadata string · time varint (ms)}}}
//	2   50 × next u · the same, and for each offset, at its end, at u
//
// It has all groups that have offsets, and no others; everything is in ascending
// order. Version 2 is for a log that has the offsets topic (see history): next is the
// end of each of its partitions, and at is the commit's offset in its partition.
const (
	minGroup  = 1 + 1 + minTopic
	minTopic  = 16 + 1 + minOffset
	minOffset = 1 + 1 + 1 + 1 + 1

	countedVersion = 2
)

// saved is the content of a snapshot.
type saved struct {
	offsets map[string]map[Partition]Offset // by group
	counted *[OffsetsPartitions]int64       // nil: there is no offsets topic
}

// Snapshot returns the state that Apply has built: the committed offsets, without
// members.
func (c *Coordinator) Snapshot() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]map[Partition]Offset)
	for name, g := range c.groups {
		if len(g.offsets) > 0 {
			all[name] = g.offsets
		}
	}
	return encodeSnapshot(saved{all, c.history.ends()})
}

// ends returns the next offset of each partition, nil if there is no offsets topic.
func (h *history) ends() *[OffsetsPartitions]int64 {
	if !h.counting {
		return nil
	}
	var ends [OffsetsPartitions]int64
	for i := range h.parts {
		ends[i] = h.parts[i].next
	}
	return &ends
}

// Restore replaces the committed offsets by those of a snapshot; an empty snapshot
// has none. With an error (ErrCorrupt) nothing has changed.
func (c *Coordinator) Restore(body []byte) error {
	s, err := decodeSnapshot(body)
	if err != nil {
		return err
	}
	all := s.offsets
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, g := range c.groups {
		clear(g.offsets)
		if len(all[g.id]) == 0 {
			g.dropIdle()
		}
	}
	for name, offsets := range all {
		g, ok := c.groups[name]
		if !ok {
			g = c.newGroup(name)
		}
		g.offsets = offsets
	}
	c.history.counting = s.counted != nil
	for i := range c.history.parts {
		h := &c.history.parts[i]
		if h.next = 0; s.counted != nil {
			h.next = s.counted[i]
		}
		h.forget()
	}
	return nil
}

func encodeSnapshot(s saved) []byte {
	all, b := s.offsets, []byte{bodyVersion}
	if s.counted != nil {
		b[0] = countedVersion
		for _, next := range s.counted {
			b = binary.AppendUvarint(b, uint64(next))
		}
	}
	b = binary.AppendUvarint(b, uint64(len(all)))
	for _, name := range slices.Sorted(maps.Keys(all)) {
		b = coding.AppendString(b, name)
		topics := make(map[[16]byte][]Partition)
		for p := range all[name] {
			topics[p.Topic] = append(topics[p.Topic], p)
		}
		b = binary.AppendUvarint(b, uint64(len(topics)))
		order := slices.SortedFunc(maps.Keys(topics), func(a, b [16]byte) int { return bytes.Compare(a[:], b[:]) })
		for _, topic := range order {
			b = append(b, topic[:]...)
			b = binary.AppendUvarint(b, uint64(len(topics[topic])))
			slices.SortFunc(topics[topic], comparePartitions)
			for _, p := range topics[topic] {
				o := all[name][p]
				b = binary.AppendUvarint(b, uint64(o.Index))
				b = binary.AppendVarint(b, o.Offset)
				b = binary.AppendVarint(b, int64(o.LeaderEpoch))
				b = coding.AppendString(b, o.Metadata)
				b = binary.AppendVarint(b, o.CommittedAt)
				if s.counted != nil {
					b = binary.AppendUvarint(b, uint64(o.at))
				}
			}
		}
	}
	return b
}

func decodeSnapshot(body []byte) (saved, error) {
	all := make(map[string]map[Partition]Offset)
	s := saved{offsets: all}
	if len(body) == 0 {
		return s, nil
	}
	d := coding.NewDecoder(body)
	switch v := d.Byte(); v {
	case bodyVersion:
	case countedVersion:
		s.counted = new([OffsetsPartitions]int64)
		for i := range s.counted {
			s.counted[i] = decodePlace(&d)
		}
	default:
		return s, fmt.Errorf("restore groups: version %d is not known: %w", v, ErrCorrupt)
	}
	for range d.Count(minGroup) {
		offsets := make(map[Partition]Offset)
		name := d.String()
		all[name] = offsets
		for range d.Count(minTopic) {
			topic := d.ID()
			for range d.Count(minOffset) {
				p := Partition{topic, d.Int31()}
				o := Offset{Partition: p, Offset: d.Varint(), LeaderEpoch: int32(d.Varint()), Metadata: d.String(), CommittedAt: d.Varint()}
				if s.counted != nil {
					if o.at = decodePlace(&d); o.at >= s.counted[OffsetsPartition(name)] {
						d.Fail()
					}
				}
				offsets[p] = o
			}
		}
		if len(offsets) == 0 {
			d.Fail()
		}
		if d.Bad() {
			break
		}
	}
	// A state has one encoding: anything out of order, duplicated, or longer than
	// necessary was not written by Snapshot.
	if !d.Done() || !bytes.Equal(encodeSnapshot(s), body) {
		return s, fmt.Errorf("restore groups: %w", ErrCorrupt)
	}
	return s, nil
}

// decodePlace decodes an offset of the offsets topic.
func decodePlace(d *coding.Decoder) int64 {
	u := d.Uvarint()
	if u > math.MaxInt64 {
		d.Fail()
		return 0
	}
	return int64(u)
}
