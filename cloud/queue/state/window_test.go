package state

import (
	"encoding/binary"
	"testing"

	"github.com/weirmq/weir/cloud/queue/routing"
)

// numbered returns the n-th hash.
func numbered(n int) (h Hash) {
	binary.BigEndian.PutUint64(h[:], uint64(n))
	return h
}

// filtered publishes a message with a hash to queue 1.
func filtered(t testing.TB, s *State, n int, passages ...Passage) {
	t.Helper()
	apply(t, s, KindPublish, (&Published{Vhost: topic(), Base: s.Vhost("v").End(), Groups: []Group{{Count: 1, Queues: []QueueID{1}, Bytes: 1}},
		Filters: []Filter{{Hash: numbered(n), Now: 1, Passages: passages}}}).Append(nil))
}

// TestMostHeld: a queue remembers the newest hashes only, and its list does not grow
// with what is gone.
func TestMostHeld(t *testing.T) {
	unique := plain()
	unique.Deduplicate = true
	s, v := newState(t, unique)
	q := v.Queue("a")
	for n := range mostHeld + 10 {
		filtered(t, s, n)
	}
	filtered(t, s, mostHeld) // a duplicate
	if q.Len() != mostHeld+10 || q.Holds(numbered(9)) || !q.Holds(numbered(10)) || len(q.held.ids) != mostHeld {
		t.Errorf("%d wait, %d are remembered", q.Len(), len(q.held.ids))
	}
	s = same(t, s)
	q = s.Vhost("v").Queue("a")
	apply(t, s, KindSettle, (&Settled{Vhost: topic(), Queues: []QueueSettled{{ID: 1, Gone: []Range{{0, 49}, {60, mostHeld - 1}}, Lent: -1}}}).Append(nil))
	if q.Len() != 20 || len(q.held.ids) != 20 || len(q.held.order) > 2*20+spareHash || !q.Holds(numbered(55)) {
		t.Errorf("%d wait, %d of %d are remembered", q.Len(), len(q.held.ids), len(q.held.order))
	}
	same(t, s)
}

// TestWindowList: the list of an exchange does not grow with hashes that are replaced.
func TestWindowList(t *testing.T) {
	w := newWindow()
	w.add(numbered(1), 0, 0, 10)
	for now := range int64(10_000) {
		if h := numbered(2); !w.has(h, now) {
			w.add(h, now, now+1, 10)
		}
	}
	if len(w.order) > 2*2+spareHash+1 || !w.has(numbered(1), 0) {
		t.Errorf("%d in the list", len(w.order))
	}
}

// TestFilterRefuses: filters that Append does not write are refused, and so are windows that
// Snapshot does not.
func TestFilterRefuses(t *testing.T) {
	for name, p := range map[string]Published{
		"no group":       {Filters: []Filter{{Group: 1}}},
		"two messages":   {Groups: []Group{{Count: 2}}, Filters: []Filter{{}}},
		"delayed":        {Special: []Special{{NotBefore: 5}}, Filters: []Filter{{}}},
		"queues":         {Filters: []Filter{{Passages: []Passage{{Queues: []QueueID{2, 1}}}}}},
		"the same twice": {Filters: []Filter{{Passages: []Passage{{Queues: []QueueID{1, 1}}}}}},
	} {
		s, _ := newState(t, plain())
		p.Vhost = topic()
		if p.Groups == nil {
			p.Groups = []Group{{Count: 1}}
		}
		if _, err := s.Apply(KindPublish, p.Append(nil)); err == nil {
			t.Errorf("%s: applied", name)
		}
	}
	s, v := newState(t, plain())
	apply(t, s, KindDeclare, EncodeDeclare("v", []Declaration{{Exchange: &routing.Exchange{Name: "x", Type: routing.Deduplication, CacheSize: 1}}}))
	filtered(t, s, 1, Passage{Exchange: "x"})
	same(t, s)
	for name, damage := range map[string]func(){
		"too many": func() {
			v.windows["x"].order = append(v.windows["x"].order, seen{numbered(2), 0})
			v.windows["x"].until[numbered(2)] = 0
		},
		"none": func() { v.windows["x"] = newWindow() },
		"no exchange": func() {
			v.windows["y"] = v.windows["x"]
		},
		"another type": func() { v.windows["amq.fanout"] = v.windows["x"] },
	} {
		before := *v.windows["x"]
		before.until = map[Hash]int64{numbered(1): 0}
		damage()
		if New().Restore(s.Snapshot()) == nil {
			t.Errorf("%s: restored", name)
		}
		clear(v.windows)
		v.windows["x"] = &before
	}
}
