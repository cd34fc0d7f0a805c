package state

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/coding"
)

// Snapshot returns the state that Apply has built. One without vhosts is empty.
func (s *State) Snapshot() []byte {
	if len(s.vhosts) == 0 {
		return nil
	}
	b := append(make([]byte, 0, s.size+s.size/16+1), bodyVersion)
	b = binary.AppendUvarint(b, uint64(len(s.vhosts)))
	for _, v := range s.Vhosts() {
		b = v.append(b)
	}
	s.size = len(b)
	return b
}

func (v *Vhost) append(b []byte) []byte {
	b = append(coding.AppendString(b, v.Name), v.Topic[:]...)
	b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(v.end)), uint64(v.next))
	table := v.Table.Snapshot()
	b = append(binary.AppendUvarint(b, uint64(len(table))), table...)
	b = binary.AppendUvarint(b, uint64(len(v.ids)))
	for _, id := range slices.Sorted(maps.Keys(v.ids)) {
		b = v.ids[id].append(b)
	}
	b = v.delayed.append(b)
	b = binary.AppendUvarint(b, uint64(len(v.readers)))
	for _, reader := range v.Readers() {
		all := v.Positions(reader)
		b = binary.AppendUvarint(coding.AppendString(b, reader), uint64(len(all)))
		for _, p := range all {
			b = appendPosition(b, p)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(v.windows)))
	for _, exchange := range slices.Sorted(maps.Keys(v.windows)) {
		b = v.windows[exchange].append(coding.AppendString(b, exchange))
	}
	return b
}

func (q *Queue) append(b []byte) []byte {
	b = coding.AppendString(binary.AppendUvarint(b, uint64(q.ID)), q.Name)
	b = q.Settings.append(b)
	b = binary.AppendUvarint(binary.AppendUvarint(append(b, flag(q.expires)), uint64(q.lent+1)), uint64(q.bytes))
	b = binary.AppendUvarint(b, uint64(len(q.marks)))
	for _, m := range q.marks {
		b = binary.AppendUvarint(binary.AppendUvarint(b, uint64(m.id)), m.epochs)
	}
	for i := range q.waiting {
		b = q.waiting[i].append(b)
	}
	b = binary.AppendUvarint(b, uint64(len(q.counts)))
	for i := range q.counts {
		b = q.counts[i].append(b)
	}
	if q.Settings.Deduplicate {
		b = q.held.append(b)
	}
	return b
}

func (s *set) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(s.parts)))
	for _, p := range s.parts {
		b = appendBitmap(binary.AppendUvarint(b, uint64(p.high)), p.low)
	}
	return b
}

// Restore replaces everything by what a snapshot holds; an empty one holds no vhosts.
// After an error, which is an ErrCorrupt, the State is as it was.
func (s *State) Restore(body []byte) error {
	restored := New()
	if len(body) > 0 {
		d := &decoder{coding.NewDecoder(body)}
		if v := d.Byte(); v != bodyVersion {
			return fmt.Errorf("restore work queues: version %d is not known: %w", v, ErrCorrupt)
		}
		for range d.Count(1) {
			if v := d.vhost(); !d.Bad() {
				restored.vhosts[v.Name], restored.topics[v.Topic] = v, v
			}
		}
		// A state has one encoding: anything out of order, duplicated, or longer than
		// necessary was not written by Snapshot.
		if !d.Done() || len(restored.vhosts) != len(restored.topics) || !bytes.Equal(restored.Snapshot(), body) {
			return fmt.Errorf("restore work queues: %w", ErrCorrupt)
		}
	}
	*s = *restored
	return nil
}

func (d *decoder) vhost() *Vhost {
	v := newVhost(d.String(), d.topic())
	v.end, v.next = d.offset(), d.id()
	table, err := routing.Restore(d.Bytes())
	if err != nil || v.Name == "" {
		d.Fail()
		return nil
	}
	v.Table = table
	for range d.Count(1) {
		q := d.queue(v)
		if d.Bad() || v.queues[q.Name] != nil || v.ids[q.ID] != nil || q.ID >= v.next {
			d.Fail()
			return nil
		}
		v.queues[q.Name], v.ids[q.ID] = q, q
	}
	if !slices.Equal(table.Queues(), slices.Sorted(maps.Keys(v.queues))) {
		d.Fail()
	}
	v.delayed = d.delayed(v.end)
	for range d.Count(2) {
		reader := d.String()
		for range d.Count(minPosition) {
			if p := d.position(); p.Offset >= 0 {
				v.setPosition(reader, p)
			}
		}
	}
	for range d.Count(3) {
		exchange := d.String()
		v.windows[exchange] = d.window(v.cache(exchange))
	}
	return v
}

func (d *decoder) queue(v *Vhost) *Queue {
	id, name := d.id(), d.String()
	q := newQueue(v, name, id, d.settings())
	q.expires = d.flag()
	q.lent, q.bytes = int64(d.UpTo(maxOffset))-1, d.offset()
	for range d.Count(2) {
		q.marks = append(q.marks, mark{d.offset(), d.UpTo(maxOffset)})
	}
	for i := range q.waiting {
		q.waiting[i] = d.set(v.end)
		q.n += q.waiting[i].n
	}
	for range d.Count(1) {
		q.counts = append(q.counts, d.set(v.end))
	}
	if q.Settings.Deduplicate {
		q.held = d.held(q)
	}
	if !d.Bad() && !q.valid() {
		d.Fail()
	}
	return q
}

// valid reports whether a queue is one that Apply makes.
func (q *Queue) valid() bool {
	first, ok := q.First()
	if !ok {
		return q.bytes == 0 && !q.expires && len(q.marks) == 0 && len(q.counts) == 0
	}
	last := first - 1
	for _, m := range q.marks {
		if m.id <= last || m.id >= q.Vhost.end || m.epochs == 0 {
			return false
		}
		last = m.id
	}
	all := &q.waiting[0]
	if len(q.waiting) > 1 {
		all = new(set)
	}
	for i := range q.waiting {
		if w := &q.waiting[i]; w != all {
			if all.common(w) > 0 {
				return false
			}
			all.addAll([]*set{w})
		}
	}
	for i := range q.counts {
		if q.counts[i].common(all) != q.counts[i].n {
			return false
		}
	}
	return len(q.counts) <= countBits && (len(q.counts) == 0 || q.counts[len(q.counts)-1].n > 0)
}

// set reads a set of offsets below end.
func (d *decoder) set(end int64) set {
	var s set
	for range d.Count(3) {
		p := part{uint32(d.UpTo(maxOffset >> lowBits)), d.bitmap()}
		if d.Bad() || len(s.parts) > 0 && p.high <= s.parts[len(s.parts)-1].high || int64(p.high)<<lowBits|int64(p.low.Maximum()) >= end {
			d.Fail()
			return set{}
		}
		s.parts = append(s.parts, p)
		s.n += int64(p.low.GetCardinality())
	}
	return s
}
