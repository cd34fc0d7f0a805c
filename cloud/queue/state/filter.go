package state

import (
	"encoding/binary"
	"slices"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/coding"
)

// Filter says by what a message is a duplicate of another one. It is in the log whether
// it is one or not; when the entry is applied, the queues that have it already, or whose
// exchange has, do not get it again. So of two duplicates that are on their way at the same
// time, one is kept, and both are durable when their publishers are told.
type Filter struct {
	Group    int // the index of its group, which has this message only
	Hash     Hash
	Now      int64 // ms since 1970
	Passages []Passage
}

// Passage is an exchange of type x-message-deduplication on the way of a message.
type Passage struct {
	Exchange string
	Until    int64     // ms since 1970: how long the exchange remembers the message; 0: for ever
	Queues   []QueueID // those of the group that get it through this exchange only, or another one like it; ascending
	passes   bool
}

func appendFilters(b []byte, all []Filter) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	next := 0
	for i := range all {
		f := &all[i]
		b = binary.AppendUvarint(b, uint64(f.Group-next))
		next = f.Group + 1
		b = binary.AppendUvarint(append(b, f.Hash[:]...), uint64(f.Now))
		b = binary.AppendUvarint(b, uint64(len(f.Passages)))
		for _, p := range f.Passages {
			b = binary.AppendUvarint(coding.AppendString(b, p.Exchange), uint64(p.Until))
			b = binary.AppendUvarint(b, uint64(len(p.Queues)))
			for _, id := range p.Queues {
				b = binary.AppendUvarint(b, uint64(id))
			}
		}
	}
	return b
}

// readFilters reads the filters of the groups, which were read before as the special
// messages were. None of a message that is delayed.
func (s *State) readFilters(d *decoder, base int64) {
	s.filters = s.filters[:0]
	next := uint64(0)
	for range d.Count(len(Hash{}) + 3) {
		next += d.UpTo(maxPublish)
		if next >= uint64(len(s.groups)) || s.groups[next].first != s.groups[next].last {
			d.Fail()
			return
		}
		index := int(s.groups[next].first - base)
		at, special := slices.BinarySearchFunc(s.special, index, func(x Special, index int) int { return x.Index - index })
		if special && s.special[at].NotBefore != 0 {
			d.Fail()
		}
		f := Filter{Group: int(next), Hash: d.hash(), Now: int64(d.UpTo(maxMillis))}
		for range d.Count(3) {
			p := Passage{Exchange: d.String(), Until: int64(d.UpTo(maxMillis))}
			for range d.Count(1) {
				id := d.id()
				if n := len(p.Queues); n > 0 && p.Queues[n-1] >= id {
					d.Fail()
				}
				p.Queues = append(p.Queues, id)
			}
			f.Passages = append(f.Passages, p)
		}
		s.filters = append(s.filters, f)
		next++
	}
}

// filter leaves out the targets of a message that have a duplicate of it, and notes that
// the others have it.
func (v *Vhost) filter(f *Filter, id int64, targets []uint64) []uint64 {
	for i := range f.Passages {
		p := &f.Passages[i]
		if p.passes = !v.Seen(p.Exchange, f.Hash, f.Now); p.passes {
			v.remember(f, p)
		}
	}
	kept := targets[:0]
	for _, t := range targets {
		to := QueueID(t >> 1)
		if !f.reaches(to) {
			continue
		}
		if q := v.ids[to]; q != nil && q.Settings.Deduplicate {
			if q.held.has(f.Hash) {
				continue
			}
			q.held.add(f.Hash, id)
		}
		kept = append(kept, t)
	}
	return kept
}

// reaches reports whether a queue gets the message by a way on which it is no duplicate.
func (f *Filter) reaches(id QueueID) bool {
	limited := false
	for i := range f.Passages {
		if _, through := slices.BinarySearch(f.Passages[i].Queues, id); through {
			if f.Passages[i].passes {
				return true
			}
			limited = true
		}
	}
	return !limited
}

// remember has an exchange remember a message, unless the time for that is over, or the
// exchange is gone.
func (v *Vhost) remember(f *Filter, p *Passage) {
	size := v.cache(p.Exchange)
	if size == 0 || p.Until != 0 && p.Until <= f.Now {
		return
	}
	w := v.windows[p.Exchange]
	if w == nil {
		w = newWindow()
		v.windows[p.Exchange] = w
	}
	w.add(f.Hash, f.Now, p.Until, size)
}

// cache returns how many messages an exchange remembers, 0 if it is gone, or not of the
// type.
func (v *Vhost) cache(exchange string) int {
	x, err := v.Table.Lookup(exchange)
	if err != nil || x.Type != routing.Deduplication {
		return 0
	}
	return int(min(x.CacheSize, mostCached))
}

// Remembers returns how many messages the exchanges of the vhost remember at most, with one
// that is declared.
func (v *Vhost) Remembers(x routing.Exchange) (n int64) {
	all := append(v.Table.Exchanges(), x)
	for i := range all {
		if all[i].Type == routing.Deduplication {
			n += min(all[i].CacheSize, mostCached)
		}
	}
	return n
}

// Seen reports whether an exchange of type x-message-deduplication remembers a message.
func (v *Vhost) Seen(exchange string, h Hash, now int64) bool {
	w := v.windows[exchange]
	return w != nil && w.has(h, now)
}

// Holds reports whether a message with that hash waits in a queue that looks for
// duplicates.
func (q *Queue) Holds(h Hash) bool { return q.held.has(h) }
