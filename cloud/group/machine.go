package group

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/storage/coding"
)

// The kinds of entries in the log that belong to this package. Each body begins
// with a version byte, 1; integers are varints (u: unsigned), strings have a
// uvarint length before them.
//
//	100 commit          group string · time varint (ms) · count u · count × {topic 16 bytes · partition u · offset varint · leader epoch varint · metadata string}
//	101 delete offsets  group string · count u · count × {topic 16 bytes · partition u}
//	102 delete group    group string
//	103 forget topic    topic 16 bytes
//	104 count           nothing: from here on commits get offsets in the offsets topic; format level 2
const (
	kindCommit        uint16 = 100
	kindDeleteOffsets uint16 = 101
	kindDeleteGroup   uint16 = 102
	kindForgetTopic   uint16 = 103
	kindCount         uint16 = 104

	bodyVersion = 1
)

// Kinds returns the kinds of log entries that Apply understands.
func (c *Coordinator) Kinds() []uint16 {
	return []uint16{kindCommit, kindDeleteOffsets, kindDeleteGroup, kindForgetTopic, kindCount}
}

// Apply applies a durable entry, both in recovery and in normal operation. It reads
// no clock and does no I/O. An error (ErrCorrupt) means that the log holds what this
// version cannot understand.
func (c *Coordinator) Apply(kind uint16, body []byte) error {
	d := coding.NewDecoder(body)
	if v := d.Byte(); !d.Bad() && v != bodyVersion {
		return fmt.Errorf("apply group entry of kind %d: version %d is not known: %w", kind, v, ErrCorrupt)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch kind {
	case kindCommit:
		c.applyCommit(&d)
	case kindDeleteOffsets:
		c.applyDeleteOffsets(&d)
	case kindDeleteGroup:
		if name := d.String(); d.Done() {
			if g, ok := c.groups[name]; ok {
				c.countDeleted(g)
				clear(g.offsets)
				g.dropIdle()
			}
		}
	case kindForgetTopic:
		if topic := d.ID(); d.Done() {
			c.applyForgetTopic(topic)
		}
	case kindCount:
		if d.Done() {
			c.applyCount()
		}
	default:
		return fmt.Errorf("apply group entry: kind %d is not known: %w", kind, ErrCorrupt)
	}
	if !d.Done() {
		return fmt.Errorf("apply group entry of kind %d: %w", kind, ErrCorrupt)
	}
	return nil
}

func (c *Coordinator) applyCommit(d *coding.Decoder) {
	name, offsets := decodeCommit(d)
	if !d.Done() {
		return
	}
	g, ok := c.groups[name]
	if !ok {
		g = c.newGroup(name)
	}
	c.countCommit(g, offsets)
	for _, o := range offsets {
		g.offsets[o.Partition] = o
	}
}

func decodeCommit(d *coding.Decoder) (group string, offsets []Offset) {
	group, at := d.String(), d.Varint()
	offsets = make([]Offset, d.Count(16+4))
	for i := range offsets {
		offsets[i] = Offset{
			Partition:   Partition{d.ID(), d.Int31()},
			Offset:      d.Varint(),
			LeaderEpoch: int32(d.Varint()),
			Metadata:    d.String(),
			CommittedAt: at,
		}
	}
	return group, offsets
}

func (c *Coordinator) applyDeleteOffsets(d *coding.Decoder) {
	name := d.String()
	partitions := make([]Partition, d.Count(16+1))
	for i := range partitions {
		partitions[i] = Partition{d.ID(), d.Int31()}
	}
	g, ok := c.groups[name]
	if !d.Done() || !ok {
		return
	}
	c.countRemoved(g, partitions, "")
	for _, p := range partitions {
		delete(g.offsets, p)
	}
	g.dropIdle()
}

func (c *Coordinator) applyForgetTopic(topic [16]byte) {
	// By name, so that the history is the same on every node.
	for _, name := range slices.Sorted(maps.Keys(c.groups)) {
		g := c.groups[name]
		var gone []Partition
		for p := range g.offsets {
			if p.Topic == topic {
				gone = append(gone, p)
			}
		}
		slices.SortFunc(gone, comparePartitions)
		c.countRemoved(g, gone, c.forgotten[topic])
		for _, p := range gone {
			delete(g.offsets, p)
		}
		g.dropIdle()
	}
}

func encodeCommit(group string, at int64, offsets []Offset) []byte {
	b := make([]byte, 0, 32+len(group)+len(offsets)*32)
	b = coding.AppendString(append(b, bodyVersion), group)
	b = binary.AppendVarint(b, at)
	b = binary.AppendUvarint(b, uint64(len(offsets)))
	for _, o := range offsets {
		b = append(b, o.Topic[:]...)
		b = binary.AppendUvarint(b, uint64(o.Index))
		b = binary.AppendVarint(b, o.Offset)
		b = binary.AppendVarint(b, int64(o.LeaderEpoch))
		b = coding.AppendString(b, o.Metadata)
	}
	return b
}

func encodePartitions(group string, of []Partition) []byte {
	b := coding.AppendString([]byte{bodyVersion}, group)
	b = binary.AppendUvarint(b, uint64(len(of)))
	for _, p := range of {
		b = append(b, p.Topic[:]...)
		b = binary.AppendUvarint(b, uint64(p.Index))
	}
	return b
}

func encodeName(group string) []byte { return coding.AppendString([]byte{bodyVersion}, group) }

func encodeTopic(topic [16]byte) []byte { return append([]byte{bodyVersion}, topic[:]...) }
