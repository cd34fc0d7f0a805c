package group

import (
	"encoding/binary"
	"fmt"
	"math"
)

// The kinds of entries in the log that belong to this package. Each body begins
// with a version byte, 1; integers are varints (u: unsigned), strings have a
// uvarint length before them.
//
//	100 commit          group string · time varint (ms) · count u · count × {topic 16 bytes · partition u · offset varint · leader epoch varint · metadata string}
//	101 delete offsets  group string · count u · count × {topic 16 bytes · partition u}
//	102 delete group    group string
//	103 forget topic    topic 16 bytes
const (
	kindCommit        uint16 = 100
	kindDeleteOffsets uint16 = 101
	kindDeleteGroup   uint16 = 102
	kindForgetTopic   uint16 = 103

	bodyVersion = 1
)

// Kinds returns the kinds of log entries that Apply understands.
func (c *Coordinator) Kinds() []uint16 {
	return []uint16{kindCommit, kindDeleteOffsets, kindDeleteGroup, kindForgetTopic}
}

// Apply takes an entry that has become durable, in recovery and in normal
// running alike. It reads no clock and does no I/O. An error (ErrCorrupt) means
// that the log holds what this version cannot understand.
func (c *Coordinator) Apply(kind uint16, body []byte) error {
	d := decoder{p: body}
	if v := d.byte(); !d.bad && v != bodyVersion {
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
		if name := d.string(); d.done() {
			if g, ok := c.groups[name]; ok {
				clear(g.offsets)
				g.dropIdle()
			}
		}
	case kindForgetTopic:
		if topic := d.topic(); d.done() {
			c.applyForgetTopic(topic)
		}
	default:
		return fmt.Errorf("apply group entry: kind %d is not known: %w", kind, ErrCorrupt)
	}
	if !d.done() {
		return fmt.Errorf("apply group entry of kind %d: %w", kind, ErrCorrupt)
	}
	return nil
}

func (c *Coordinator) applyCommit(d *decoder) {
	name, offsets := decodeCommit(d)
	if !d.done() {
		return
	}
	g, ok := c.groups[name]
	if !ok {
		g = c.newGroup(name)
	}
	for _, o := range offsets {
		g.offsets[o.Partition] = o
	}
}

func decodeCommit(d *decoder) (group string, offsets []Offset) {
	group, at := d.string(), d.varint()
	offsets = make([]Offset, d.count(16+4))
	for i := range offsets {
		offsets[i] = Offset{
			Partition:   Partition{d.topic(), d.index()},
			Offset:      d.varint(),
			LeaderEpoch: int32(d.varint()),
			Metadata:    d.string(),
			CommittedAt: at,
		}
	}
	return group, offsets
}

func (c *Coordinator) applyDeleteOffsets(d *decoder) {
	name := d.string()
	partitions := make([]Partition, d.count(16+1))
	for i := range partitions {
		partitions[i] = Partition{d.topic(), d.index()}
	}
	g, ok := c.groups[name]
	if !d.done() || !ok {
		return
	}
	for _, p := range partitions {
		delete(g.offsets, p)
	}
	g.dropIdle()
}

func (c *Coordinator) applyForgetTopic(topic [16]byte) {
	for _, g := range c.groups {
		for p := range g.offsets {
			if p.Topic == topic {
				delete(g.offsets, p)
			}
		}
		g.dropIdle()
	}
}

func encodeCommit(group string, at int64, offsets []Offset) []byte {
	b := make([]byte, 0, 32+len(group)+len(offsets)*32)
	b = appendString(append(b, bodyVersion), group)
	b = binary.AppendVarint(b, at)
	b = binary.AppendUvarint(b, uint64(len(offsets)))
	for _, o := range offsets {
		b = append(b, o.Topic[:]...)
		b = binary.AppendUvarint(b, uint64(o.Index))
		b = binary.AppendVarint(b, o.Offset)
		b = binary.AppendVarint(b, int64(o.LeaderEpoch))
		b = appendString(b, o.Metadata)
	}
	return b
}

func encodePartitions(group string, of []Partition) []byte {
	b := appendString([]byte{bodyVersion}, group)
	b = binary.AppendUvarint(b, uint64(len(of)))
	for _, p := range of {
		b = append(b, p.Topic[:]...)
		b = binary.AppendUvarint(b, uint64(p.Index))
	}
	return b
}

func encodeName(group string) []byte { return appendString([]byte{bodyVersion}, group) }

func encodeTopic(topic [16]byte) []byte { return append([]byte{bodyVersion}, topic[:]...) }

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// decoder reads a body. After the first thing that does not fit it is bad, and
// gives zeros.
type decoder struct {
	p   []byte
	bad bool
}

func (d *decoder) done() bool { return !d.bad && len(d.p) == 0 }

func (d *decoder) take(n uint64) []byte {
	if d.bad || n > uint64(len(d.p)) {
		d.bad = true
		return nil
	}
	b := d.p[:n]
	d.p = d.p[n:]
	return b
}

func (d *decoder) byte() byte {
	if b := d.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (d *decoder) topic() (t [16]byte) {
	copy(t[:], d.take(16))
	return t
}

func (d *decoder) string() string { return string(d.take(d.uvarint())) }

func (d *decoder) index() int32 {
	u := d.uvarint()
	if u > math.MaxInt32 {
		d.bad = true
		return 0
	}
	return int32(u)
}

func (d *decoder) uvarint() uint64 {
	u, n := binary.Uvarint(d.p)
	d.skip(n)
	return u
}

func (d *decoder) varint() int64 {
	i, n := binary.Varint(d.p)
	d.skip(n)
	return i
}

func (d *decoder) skip(n int) {
	if n <= 0 {
		d.bad, d.p = true, nil
		return
	}
	d.p = d.p[n:]
}

// count reads a number of items of at least size bytes each: no more than can
// follow, so that a damaged body does not allocate more than itself.
func (d *decoder) count(size int) int {
	n := d.uvarint()
	if n > uint64(len(d.p)/size) {
		d.bad = true
		return 0
	}
	return int(n)
}
