package state

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/weir"
)

// Published is an entry KindPublish: new messages and the queues that got them.
type Published struct {
	Vhost   weir.TopicID
	Base    int64 // offset of the first
	Groups  []Group
	Special []Special // ascending
	Filters []Filter  // ascending
}

// Group is messages in a row that went to the same queues.
type Group struct {
	Count  int
	Queues []QueueID // none: the messages are delayed, or nobody got them
	// Lent are those of the Queues, in the same order, that may deliver at once: Queue.Lent
	// becomes the last message of the group.
	Lent  []QueueID
	Bytes int64 // of all bodies
}

// Special is what is not so with most messages.
type Special struct {
	Index     int   // of the message; the first is 0
	Priority  uint8 // in queues that have priorities
	NotBefore int64 // ms since 1970; not 0: it is delayed, and no queue has it
	Expires   bool  // it has an expiration of its own, see Queue.MayExpire
}

const (
	specialPriority = 1 << iota
	specialDelayed
	specialExpires
	specialFlags = 1<<iota - 1
)

// Append appends the body of the entry to b.
func (p *Published) Append(b []byte) []byte {
	b = append(append(b, bodyVersion), p.Vhost[:]...)
	b = binary.AppendUvarint(b, uint64(p.Base))
	b = binary.AppendUvarint(b, uint64(len(p.Groups)))
	for i := range p.Groups {
		g := &p.Groups[i]
		b = binary.AppendUvarint(b, uint64(g.Count))
		b = binary.AppendUvarint(b, uint64(g.Bytes))
		b = binary.AppendUvarint(b, uint64(len(g.Queues)))
		lent := g.Lent
		for _, id := range g.Queues {
			n := uint64(id) << 1
			if len(lent) > 0 && lent[0] == id {
				n, lent = n|1, lent[1:]
			}
			b = binary.AppendUvarint(b, n)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(p.Special)))
	next := 0
	for _, x := range p.Special {
		b = binary.AppendUvarint(b, uint64(x.Index-next))
		next = x.Index + 1
		b = x.append(b)
	}
	return appendFilters(b, p.Filters)
}

func (x *Special) append(b []byte) []byte {
	at := len(b)
	b = append(b, 0)
	if x.Priority != 0 {
		b[at] |= specialPriority
		b = append(b, x.Priority)
	}
	if x.NotBefore != 0 {
		b[at] |= specialDelayed
		b = binary.AppendUvarint(b, uint64(x.NotBefore))
	}
	if x.Expires {
		b[at] |= specialExpires
	}
	return b
}

// publishedGroup is a Group at rest: its queues are a part of State.targets.
type publishedGroup struct {
	first, last int64
	bytes       int64
	targets     int // where its queues end
}

func (s *State) applyPublish(d *decoder) error {
	topic, base := d.topic(), d.offset()
	s.groups, s.targets = s.groups[:0], s.targets[:0]
	end := base
	for range d.Count(3) {
		g := publishedGroup{first: end, last: end + int64(d.UpTo(maxPublish)) - 1, bytes: d.offset()}
		for range d.Count(1) {
			s.targets = append(s.targets, d.Uvarint())
		}
		g.targets = len(s.targets)
		s.groups = append(s.groups, g)
		end = g.last + 1
		if end > base+maxPublish {
			d.Fail()
		}
	}
	s.specials(d, base)
	s.readFilters(d, base)
	v := s.topics[topic]
	if !d.Done() || end > maxOffset || len(s.special) > 0 && base+int64(s.special[len(s.special)-1].Index) >= end || v != nil && base < v.end {
		return ErrCorrupt
	}
	if v == nil || end == base {
		return nil
	}
	v.end = end
	special, targets, filters := s.special, 0, s.filters
	for i, g := range s.groups {
		n := 0
		for n < len(special) && base+int64(special[n].Index) <= g.last {
			n++
		}
		to := s.targets[targets:g.targets]
		if len(filters) > 0 && filters[0].Group == i {
			to, filters = v.filter(&filters[0], g.first, to), filters[1:]
		}
		s.publish(v, &g, base, to, special[:n])
		special, targets = special[n:], g.targets
	}
	return nil
}

func (s *State) specials(d *decoder, base int64) {
	s.special = s.special[:0]
	next := uint64(0)
	for range d.Count(2) {
		next += d.UpTo(maxPublish)
		flags := d.Byte()
		x := Special{Index: int(next), Expires: flags&specialExpires != 0}
		if flags&specialPriority != 0 {
			x.Priority = d.Byte()
		}
		if flags&specialDelayed != 0 {
			x.NotBefore = int64(d.UpTo(maxMillis))
		}
		if flags > specialFlags || flags == 0 || next > maxPublish {
			d.Fail()
			return
		}
		s.special = append(s.special, x)
		next++
	}
}

// publish adds the messages of a group to its queues, and those that are delayed to the
// others.
func (s *State) publish(v *Vhost, g *publishedGroup, base int64, targets []uint64, special []Special) {
	delayed, expires := false, false
	for _, x := range special {
		expires = expires || x.Expires
		if x.NotBefore != 0 {
			v.delayed.add(base+int64(x.Index), x.NotBefore)
			s.changes.Delayed, delayed = v, true
		}
	}
	if g.first > g.last {
		return
	}
	for _, t := range targets {
		q := v.ids[QueueID(t>>1)]
		if q == nil {
			continue
		}
		before := q.n
		if q.Settings.MaxPriority == 0 && !delayed {
			q.add(0, g.first, g.last)
		} else if !q.addSpecial(g, base, special) {
			continue
		}
		q.arrived += q.n - before
		q.bytes += g.bytes
		q.expires = q.expires || expires
		if t&1 != 0 {
			q.lent = max(q.lent, g.last)
		}
		s.filled(q)
	}
}

// addSpecial adds the messages of a group that are not delayed, by priority, and reports
// whether there are any.
func (q *Queue) addSpecial(g *publishedGroup, base int64, special []Special) bool {
	next, before := g.first, q.n
	for _, x := range special {
		id := base + int64(x.Index)
		if id > next {
			q.add(0, next, id-1)
		}
		if x.NotBefore == 0 {
			q.add(x.Priority, id, id)
		}
		next = id + 1
	}
	if next <= g.last {
		q.add(0, next, g.last)
	}
	return q.n > before
}
