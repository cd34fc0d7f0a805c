package state

import (
	"encoding/binary"
	"slices"

	"github.com/weirmq/weir/storage/weir"
)

// Settled is an entry KindSettle: what became of messages.
type Settled struct {
	Vhost     weir.TopicID
	Queues    []QueueSettled
	Undelayed []int64 // they are delayed no longer; Append sorts them
}

// QueueSettled is what became of messages of one queue.
type QueueSettled struct {
	ID      QueueID
	Gone    []Range // ascending and apart: they wait no longer
	Bytes   int64   // of the bodies of what is gone
	Counted []Range // ascending and apart: what waits of them has one more delivery
	Lent    int64   // Queue.Lent becomes at least this
}

// Append appends the body of the entry to b.
func (x *Settled) Append(b []byte) []byte {
	b = append(append(b, bodyVersion), x.Vhost[:]...)
	b = binary.AppendUvarint(b, uint64(len(x.Queues)))
	for i := range x.Queues {
		q := &x.Queues[i]
		b = binary.AppendUvarint(b, uint64(q.ID))
		b = binary.AppendUvarint(b, uint64(q.Lent+1))
		b = binary.AppendUvarint(b, uint64(q.Bytes))
		b = appendRanges(appendRanges(b, q.Counted), q.Gone)
	}
	slices.Sort(x.Undelayed)
	x.Undelayed = slices.Compact(x.Undelayed)
	b = binary.AppendUvarint(b, uint64(len(x.Undelayed)))
	next := int64(0)
	for _, id := range x.Undelayed {
		b = binary.AppendUvarint(b, uint64(id-next))
		next = id + 1
	}
	return b
}

func (s *State) applySettle(d *decoder) error {
	whole := *d
	whole.settled(nil, nil, nil)
	if !whole.Done() {
		return ErrCorrupt
	}
	var v *Vhost
	d.settled(func(topic weir.TopicID) { v = s.topics[topic] }, func(id QueueID, lent, bytes int64, counted, gone decoder) {
		if v == nil || v.ids[id] == nil {
			return
		}
		q := v.ids[id]
		counted.ranges(func(r Range) {
			for i := range q.waiting {
				for x := range q.waiting[i].runs(r.First, r.Last) {
					q.counts.add(x.First, x.Last)
				}
			}
		})
		gone.ranges(func(r Range) { q.remove(r.First, r.Last) })
		q.bytes = max(q.bytes-bytes, 0)
		q.lent = max(q.lent, lent)
		q.tidy()
		s.settled(q)
	}, func(id int64) {
		if v != nil {
			v.delayed.remove(id)
		}
	})
	return nil
}

// settled calls the functions with the parts of an entry, in order; nil ones are left out.
func (d *decoder) settled(vhost func(weir.TopicID), queue func(id QueueID, lent, bytes int64, counted, gone decoder), undelayed func(id int64)) {
	topic := d.topic()
	if vhost != nil {
		vhost(topic)
	}
	for range d.Count(5) {
		id, lent, bytes := d.id(), int64(d.UpTo(maxOffset))-1, d.offset()
		counted := *d
		d.ranges(nil)
		gone := *d
		d.ranges(nil)
		if d.Bad() {
			return
		}
		if queue != nil {
			queue(id, lent, bytes, counted, gone)
		}
	}
	next := uint64(0)
	for range d.Count(1) {
		next += d.UpTo(maxOffset)
		if next > maxOffset {
			d.Fail()
		}
		if d.Bad() {
			return
		}
		if undelayed != nil {
			undelayed(int64(next))
		}
		next++
	}
}
