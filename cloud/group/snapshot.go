package group

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/coding"
)

// A snapshot is a version byte, 1, and then, with the integers and strings of the
// entries:
//
//	groups u · groups × {group string · topics u · topics × {topic 16 bytes · count u · count × {partition u · offset varint · leader epoch varint · metadata string · time varint (ms)}}}
//
// All groups that have offsets, and no others; everything ascends.
const (
	minGroup  = 1 + 1 + minTopic
	minTopic  = 16 + 1 + minOffset
	minOffset = 1 + 1 + 1 + 1 + 1
)

// Snapshot returns what Apply has made of the entries: the committed offsets.
// Members are not among it.
func (c *Coordinator) Snapshot() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := make(map[string]map[Partition]Offset)
	for name, g := range c.groups {
		if len(g.offsets) > 0 {
			all[name] = g.offsets
		}
	}
	return encodeSnapshot(all)
}

// Restore replaces the committed offsets by those of a snapshot; an empty one has
// none. An error (ErrCorrupt) changes nothing.
func (c *Coordinator) Restore(body []byte) error {
	all, err := decodeSnapshot(body)
	if err != nil {
		return err
	}
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
	return nil
}

func encodeSnapshot(all map[string]map[Partition]Offset) []byte {
	b := binary.AppendUvarint([]byte{bodyVersion}, uint64(len(all)))
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
			}
		}
	}
	return b
}

func decodeSnapshot(body []byte) (map[string]map[Partition]Offset, error) {
	all := make(map[string]map[Partition]Offset)
	if len(body) == 0 {
		return all, nil
	}
	d := coding.NewDecoder(body)
	if v := d.Byte(); v != bodyVersion {
		return nil, fmt.Errorf("restore groups: version %d is not known: %w", v, ErrCorrupt)
	}
	for range d.Count(minGroup) {
		offsets := make(map[Partition]Offset)
		all[d.String()] = offsets
		for range d.Count(minTopic) {
			topic := d.ID()
			for range d.Count(minOffset) {
				p := Partition{topic, d.Int31()}
				offsets[p] = Offset{Partition: p, Offset: d.Varint(), LeaderEpoch: int32(d.Varint()), Metadata: d.String(), CommittedAt: d.Varint()}
			}
		}
		if len(offsets) == 0 {
			d.Fail()
		}
		if d.Bad() {
			break
		}
	}
	// One state has one encoding: what is out of order, or there twice, or
	// written at more length than it needs, is not what Snapshot wrote.
	if !d.Done() || !bytes.Equal(encodeSnapshot(all), body) {
		return nil, fmt.Errorf("restore groups: %w", ErrCorrupt)
	}
	return all, nil
}
