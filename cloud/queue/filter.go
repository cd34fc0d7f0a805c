package queue

import (
	"crypto/sha256"
	"slices"
	"strconv"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/state"
)

// filter is what is known of a message that may be a duplicate: it has the header
// x-deduplication-header.
//
// What the state knows already is durable, so a duplicate of it is left out at once. One
// whose original is still on its way goes into the log behind it, and is left out when its
// entry is applied: it is confirmed when both are durable.
type filter struct {
	known     bool // it has the header
	hash      state.Hash
	now       int64
	duplicate bool // a queue or an exchange has it
	needed    bool // a queue that gets it looks for duplicates
	again     bool // it is published again: a queue may hold what it ends, and the state decides
	passages  []passage
}

// passage is an exchange on its way that looks for duplicates, and the queues behind it
// that get it from nowhere else.
type passage struct {
	exchange string
	until    int64
	queues   []string
}

// hashOf returns what stands for the value of the header, false if it is none by which
// messages are compared. Numbers of different types are equal, as in RabbitMQ's plugin.
func hashOf(v wire.Value) (h state.Hash, ok bool) {
	var text []byte
	if n, ok := v.Int(); ok {
		text = strconv.AppendInt([]byte{'i'}, n, 10)
	} else if s, ok := v.Timestamp(); ok {
		text = strconv.AppendUint([]byte{'i'}, s, 10)
	} else if f, ok := v.Float(); ok {
		text = strconv.AppendFloat([]byte{'f'}, f, 'g', -1, 64)
	} else if set, ok := v.Bool(); ok {
		text = strconv.AppendBool([]byte{'b'}, set)
	} else if p, ok := v.Bytes(); ok {
		text = append([]byte{'s'}, p...)
	} else {
		return h, false
	}
	sum := sha256.Sum256(text)
	copy(h[:], sum[:])
	return h, true
}

// filter adds to the result of routing what lies behind exchanges that look for
// duplicates. The caller holds Engine.mu.
func (p *parcel) filter(v *state.Vhost, a attributes) *filter {
	e := p.host.engine
	s := &e.route
	f := &s.filter
	*f = filter{passages: f.passages[:0]}
	if !a.known.Exists() {
		return f
	}
	f.now = e.o.Now().UnixMilli()
	f.hash, f.known = hashOf(a.known)
	plain := len(s.result.Queues)
	s.message.Filter = false
	for _, name := range s.result.Filtered {
		x, err := v.Table.Lookup(name)
		if err != nil {
			continue // impossible: it was reached
		}
		if f.known && (v.Seen(name, f.hash, f.now) || earlySeen(e.o.Mutations, string(f.hash[:]))) {
			f.duplicate = true
			continue
		}
		if err := v.Table.Route(name, &s.message, &s.through); err != nil {
			continue // impossible
		}
		if len(s.through.Held) > 0 { // an exchange behind it delays: the question is put when that is over
			s.result.Held = append(s.result.Held, name)
			continue
		}
		t := passage{exchange: name}
		if ms := a.cached.Milliseconds(); ms > 0 {
			t.until = f.now + ms
		} else if x.CacheTTL > 0 {
			t.until = f.now + x.CacheTTL
		}
		for _, q := range s.through.Queues {
			if _, direct := slices.BinarySearch(s.result.Queues[:plain], q); !direct {
				t.queues = append(t.queues, q)
				s.result.Queues = append(s.result.Queues, q)
			}
		}
		if f.known && len(t.queues) > 0 {
			f.passages = append(f.passages, t)
		}
	}
	if len(s.result.Queues) > plain {
		slices.Sort(s.result.Queues)
		s.result.Queues = slices.Compact(s.result.Queues)
	}
	return f
}

// addFilter adds the filter of the message that was put last. The caller holds Engine.mu.
func (p *parcel) addFilter(v *state.Vhost, f *filter) {
	if !f.needed && len(f.passages) == 0 || noFilter(p.host.engine.o.Mutations) {
		return
	}
	got := slices.Sorted(slices.Values(p.host.engine.route.queues))
	x := state.Filter{Group: len(p.groups) - 1, Hash: f.hash, Now: f.now}
	for _, t := range f.passages {
		to := state.Passage{Exchange: t.exchange, Until: t.until}
		for _, name := range t.queues {
			if q := v.Queue(name); q != nil {
				if _, ok := slices.BinarySearch(got, q.ID); ok {
					to.Queues = append(to.Queues, q.ID)
				}
			}
		}
		if len(to.Queues) > 0 {
			slices.Sort(to.Queues)
			x.Passages = append(x.Passages, to)
		}
	}
	p.filters = append(p.filters, x)
}

// alone reports whether the last group has a message that may be a duplicate: no other is
// added to it.
func (p *parcel) alone() bool {
	n := len(p.filters)
	return n > 0 && p.filters[n-1].Group == len(p.groups)-1
}

// filterBytes returns the most bytes that the filters take in an entry.
func (p *parcel) filterBytes() (n int) {
	for i := range p.filters {
		n += 48
		for _, t := range p.filters[i].Passages {
			n += 24 + len(t.Exchange) + 10*len(t.Queues)
		}
	}
	return n
}
