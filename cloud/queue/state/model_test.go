package state

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/storagetest"
	"github.com/weirmq/weir/storage/weir"
)

// The model: what a State says, kept per message, without bitmaps, marks or ranges.

type modelMessage struct {
	priority uint8
	count    int
}

type modelQueue struct {
	id          QueueID
	name        string
	priorities  uint8
	waiting     map[int64]*modelMessage
	bytes, lent int64
	uncertain   map[int64]bool // of what waits
	expires     bool
	unique      bool // it looks for duplicates
	hashes      map[int64]Hash
}

type modelVhost struct {
	name    string
	topic   weir.TopicID
	queues  map[QueueID]*modelQueue
	delayed map[int64]int64 // message to ms
	end     int64
	next    QueueID
	readers map[string]map[Partition]int64
	seen    []seen // by exchange "seen"
}

// model is the vhosts, and what writes the entries.
type model struct {
	r       *rand.Rand
	vhosts  map[string]*modelVhost
	topics  int
	border  int64   // publications jump to multiples of it, or to a bit less
	results []error // what the declarations of the last entry come to
	now     int64
}

func (m *model) pick() *modelVhost {
	names := slices.Sorted(maps.Keys(m.vhosts))
	if len(names) == 0 {
		return nil
	}
	return m.vhosts[names[m.r.IntN(len(names))]]
}

func (v *modelVhost) ids() []QueueID { return slices.Sorted(maps.Keys(v.queues)) }

func (q *modelQueue) sorted() []int64 { return slices.Sorted(maps.Keys(q.waiting)) }

// settle takes bytes off, when messages are gone.
func (q *modelQueue) settle(bytes int64) {
	if q.bytes = max(q.bytes-bytes, 0); len(q.waiting) == 0 {
		q.bytes, q.expires = 0, false
	}
}

func (q *modelQueue) gone(id int64) {
	delete(q.waiting, id)
	delete(q.uncertain, id)
	delete(q.hashes, id)
}

// entry makes a random entry, and does to the model what it says.
func (m *model) entry() (kind uint16, body []byte) {
	v := m.pick()
	m.results = nil
	switch n := m.r.IntN(100); {
	case v == nil || n < 2:
		return KindDeclare, m.declareVhost()
	case n < 10:
		return KindDeclare, m.declareQueue(v)
	case n < 12:
		return KindDeclare, m.deleteQueue(v)
	case n < 55:
		return KindPublish, m.publish(v)
	case n < 92:
		return KindSettle, m.settle(v)
	case n < 95:
		m.epoch()
		return KindEpoch, EncodeEpoch()
	default:
		return KindPosition, m.position(v)
	}
}

func (m *model) declareVhost() []byte {
	if len(m.vhosts) > 1 && m.r.IntN(3) == 0 {
		v := m.pick()
		delete(m.vhosts, v.name)
		m.results = []error{nil, ErrNoVhost, ErrNoVhost}
		return EncodeDeclare(v.name, []Declaration{{DeleteVhost: true}, {DeleteVhost: true}, {Queue: &QueueDeclared{Name: "q"}}})
	}
	m.topics++
	name, topic := "v"+string(rune('a'+m.topics%26)), weir.TopicID{byte(m.topics), byte(m.topics >> 8)}
	if m.results = []error{ErrExists, nil}; m.vhosts[name] == nil {
		m.results[0] = nil
		m.vhosts[name] = &modelVhost{name: name, topic: topic, queues: make(map[QueueID]*modelQueue), next: 1,
			delayed: make(map[int64]int64), readers: make(map[string]map[Partition]int64)}
	}
	return EncodeDeclare(name, []Declaration{{CreateVhost: &VhostCreated{topic}}, {Exchange: &routing.Exchange{Name: "seen", Type: routing.Deduplication, CacheSize: modelCache}}})
}

const modelCache = 3

func (m *model) declareQueue(v *modelVhost) []byte {
	s := plain()
	s.Deduplicate = m.r.IntN(2) == 0
	if m.r.IntN(3) == 0 {
		s.MaxPriority = uint8(m.r.IntN(5))
	}
	name := string(rune('a' + m.r.IntN(8)))
	m.results = []error{ErrNoQueue, nil}
	for _, q := range v.queues {
		if q.name == name {
			m.results[1] = ErrExists
		}
	}
	if m.results[1] == nil {
		v.queues[v.next] = &modelQueue{id: v.next, name: name, priorities: s.MaxPriority, waiting: make(map[int64]*modelMessage), lent: -1, uncertain: make(map[int64]bool),
			unique: s.Deduplicate, hashes: make(map[int64]Hash)}
		v.next++
	}
	return EncodeDeclare(v.name, []Declaration{{DeleteQueue: &QueueDeleted{ID: 1 << 40}}, {Queue: &QueueDeclared{name, s}}})
}

func (m *model) deleteQueue(v *modelVhost) []byte {
	ids := v.ids()
	if len(ids) == 0 {
		return EncodeDeclare(v.name, nil)
	}
	x := &QueueDeleted{ids[m.r.IntN(len(ids))], m.r.IntN(2) == 0}
	if m.results = []error{nil}; x.IfEmpty && len(v.queues[x.ID].waiting) > 0 {
		m.results[0] = ErrNotEmpty
	} else {
		delete(v.queues, x.ID)
	}
	return EncodeDeclare(v.name, []Declaration{{DeleteQueue: x}})
}

func within(all []Range, id int64) bool {
	return slices.ContainsFunc(all, func(r Range) bool { return r.First <= id && id <= r.Last })
}

// ranges returns up to n ranges about what waits in a queue, and beside it.
func (m *model) ranges(q *modelQueue, n int) []Range {
	var all []Range
	last := int64(-1)
	waiting := q.sorted()
	for range m.r.IntN(n + 1) {
		i, _ := slices.BinarySearch(waiting, last+1)
		if i == len(waiting) {
			break
		}
		i += m.r.IntN(min(len(waiting)-i, 40))
		r := Range{waiting[i], waiting[min(i+m.r.IntN(60), len(waiting)-1)]}
		if m.r.IntN(2) == 0 {
			r.Last = r.First
		}
		if m.r.IntN(4) == 0 {
			r.First, r.Last = max(last+1, r.First-m.r.Int64N(5)), r.Last+m.r.Int64N(5)
		}
		all, last = append(all, r), r.Last
	}
	return all
}

func (m *model) publish(v *modelVhost) []byte {
	p := &Published{Vhost: v.topic, Base: v.end}
	if m.r.IntN(20) == 0 {
		p.Base = max(p.Base, (p.Base/m.border+1)*m.border-m.r.Int64N(100))
	}
	id := p.Base
	for range m.r.IntN(4) {
		g := Group{Bytes: m.r.Int64N(1000)}
		if g.Count = 1 + m.r.IntN(3); m.r.IntN(3) == 0 {
			g.Count = m.r.IntN(200)
		}
		filtered := m.r.IntN(3) == 0
		if filtered {
			g.Count = 1
		}
		for _, q := range v.ids() {
			if m.r.IntN(2) == 0 {
				g.Queues = append(g.Queues, q)
				if m.r.IntN(3) == 0 {
					g.Lent = append(g.Lent, q)
				}
			}
		}
		g.Queues = append(g.Queues, 1<<50)
		first := int(id - p.Base)
		for i := range g.Count {
			if m.r.IntN(20) == 0 {
				x := Special{Index: first + i, Priority: uint8(1 + m.r.IntN(6)), NotBefore: m.r.Int64N(2) * m.time()}
				if filtered {
					x.NotBefore = 0
				}
				x.Expires = x.NotBefore == 0 && m.r.IntN(4) == 0
				p.Special = append(p.Special, x)
			}
		}
		p.Groups = append(p.Groups, g)
		if filtered {
			f := m.filter(len(p.Groups)-1, g.Queues)
			p.Filters = append(p.Filters, f)
			g.Queues = v.filter(&f, id, g.Queues)
		}
		id = v.published(&g, id, p)
	}
	if id > p.Base {
		v.end = id
	}
	return p.Append(nil)
}

// filter makes a filter of a message to some queues.
func (m *model) filter(group int, queues []QueueID) Filter {
	m.now = max(1, m.now+m.r.Int64N(20)-2)
	f := Filter{Group: group, Hash: Hash{byte(m.r.IntN(6))}, Now: m.now}
	for _, x := range []string{"seen", "none", "amq.fanout"} {
		p := Passage{Exchange: x, Until: m.r.Int64N(2) * (m.now + m.r.Int64N(60))}
		for _, id := range queues {
			if m.r.IntN(2) == 0 {
				p.Queues = append(p.Queues, id)
			}
		}
		if m.r.IntN(2) == 0 {
			f.Passages = append(f.Passages, p)
		}
	}
	return f
}

// filter returns the queues that get a message.
func (v *modelVhost) filter(f *Filter, id int64, queues []QueueID) (kept []QueueID) {
	passes, limited := make(map[QueueID]bool), make(map[QueueID]bool)
	for _, p := range f.Passages {
		fresh := p.Exchange != "seen" || v.unseen(f.Hash, f.Now, p.Until)
		for _, id := range p.Queues {
			limited[id], passes[id] = true, passes[id] || fresh
		}
	}
	for _, to := range queues {
		q := v.queues[to]
		if limited[to] && !passes[to] || q != nil && q.unique && slices.Contains(slices.Collect(maps.Values(q.hashes)), f.Hash) {
			continue
		}
		if q != nil && q.unique {
			q.hashes[id] = f.Hash
		}
		kept = append(kept, to)
	}
	return kept
}

// unseen reports whether exchange "seen" does not remember a message, and has it do so.
func (v *modelVhost) unseen(h Hash, now, until int64) bool {
	i := slices.IndexFunc(v.seen, func(x seen) bool { return x.hash == h })
	if i >= 0 && (v.seen[i].until == 0 || v.seen[i].until > now) {
		return false
	}
	if until != 0 && until <= now {
		return true
	}
	if i >= 0 {
		v.seen = slices.Delete(v.seen, i, i+1)
	}
	for len(v.seen) > 0 && v.seen[0].until != 0 && v.seen[0].until <= now {
		v.seen = v.seen[1:]
	}
	v.seen = append(v.seen, seen{h, until})
	v.seen = v.seen[max(0, len(v.seen)-modelCache):]
	return true
}

// time returns ms of the first seconds, or of the first hours.
func (m *model) time() int64 { return 1 + m.r.Int64N([]int64{20_000, 20_000_000}[m.r.IntN(2)]) }

func (v *modelVhost) published(g *Group, id int64, p *Published) int64 {
	ready := false
	for range g.Count {
		var x Special
		if i := slices.IndexFunc(p.Special, func(x Special) bool { return int64(x.Index) == id-p.Base }); i >= 0 {
			x = p.Special[i]
		}
		if x.NotBefore > 0 {
			v.delayed[id] = x.NotBefore
		}
		ready = ready || x.NotBefore == 0
		for _, to := range g.Queues {
			if q := v.queues[to]; q != nil && x.NotBefore == 0 {
				q.waiting[id] = &modelMessage{priority: min(x.Priority, q.priorities)}
				q.expires = q.expires || x.Expires
			}
		}
		id++
	}
	for _, to := range g.Queues {
		if q := v.queues[to]; q != nil && ready {
			q.bytes += g.Bytes
			if slices.Contains(g.Lent, to) {
				q.lent = max(q.lent, id-1)
			}
		}
	}
	return id
}

func (m *model) settle(v *modelVhost) []byte {
	x := &Settled{Vhost: v.topic}
	for _, id := range v.ids() {
		q := v.queues[id]
		s := QueueSettled{ID: id, Gone: m.ranges(q, 4), Bytes: m.r.Int64N(300), Counted: m.ranges(q, 3), Lent: -1}
		if m.r.IntN(20) == 0 && v.end > 0 { // as a purge does
			s.Gone, s.Counted = []Range{{min(m.r.Int64N(2), v.end-1), v.end - 1}}, nil
		}
		if m.r.IntN(10) == 0 && v.end > 0 {
			s.Lent = m.r.Int64N(v.end)
		}
		for id, message := range q.waiting {
			if within(s.Counted, id) {
				message.count++
			}
			if within(s.Gone, id) {
				q.gone(id)
			}
		}
		q.settle(s.Bytes)
		q.lent = max(q.lent, s.Lent)
		x.Queues = append(x.Queues, s)
	}
	x.Queues = append(x.Queues, QueueSettled{ID: 1 << 50, Gone: []Range{{1, 2}}})
	for _, id := range slices.Sorted(maps.Keys(v.delayed)) {
		if m.r.IntN(10) == 0 {
			x.Undelayed = append(x.Undelayed, id)
			delete(v.delayed, id)
		}
	}
	return x.Append(nil)
}

func (m *model) epoch() {
	for _, v := range m.vhosts {
		for _, q := range v.queues {
			for id, message := range q.waiting {
				if id <= q.lent {
					message.count++
					q.uncertain[id] = true
				}
			}
			q.lent = -1
		}
	}
}

func (m *model) position(v *modelVhost) []byte {
	reader := string(rune('r' + m.r.IntN(3)))
	p := Position{Partition{weir.TopicID{byte(m.r.IntN(3))}, int32(m.r.IntN(3))}, m.r.Int64N(10) - 2}
	p.Offset = max(p.Offset, -1)
	if v.readers[reader] == nil {
		v.readers[reader] = make(map[Partition]int64)
	}
	if v.readers[reader][p.Partition] = p.Offset; p.Offset < 0 {
		delete(v.readers[reader], p.Partition)
	}
	if len(v.readers[reader]) == 0 {
		delete(v.readers, reader)
	}
	return EncodePositions(v.topic, reader, []Position{p})
}

// check compares a State with the model.
func (m *model) check(t *testing.T, s *State) {
	t.Helper()
	if len(s.Vhosts()) != len(m.vhosts) {
		t.Fatalf("%d vhosts, not %d", len(s.Vhosts()), len(m.vhosts))
	}
	for name, want := range m.vhosts {
		v := s.Vhost(name)
		if v == nil || s.VhostOf(want.topic) != v || v.End() != want.end || v.next != want.next || len(v.Queues()) != len(want.queues) || v.Delayed() != int64(len(want.delayed)) {
			t.Fatalf("vhost %+v, not %+v", v, want)
		}
		floor := want.end
		for _, w := range want.queues {
			q := v.Queue(w.name)
			if q == nil || q != v.ids[w.id] || q.Vhost != v {
				t.Fatalf("no queue %s", w.name)
			}
			m.checkQueue(t, q, w)
			for id := range w.waiting {
				floor = min(floor, id)
			}
		}
		m.checkDelayed(t, v, want, floor)
		for n := range 6 {
			h, got := Hash{byte(n)}, false
			for _, x := range want.seen {
				got = got || x.hash == h && (x.until == 0 || x.until > m.now)
			}
			if v.Seen("seen", h, m.now) != got {
				t.Fatalf("hash %d is remembered: %v, at %d; not %v", n, !got, m.now, want.seen)
			}
		}
		m.checkNeeded(t, v, want)
		if !slices.Equal(v.Readers(), slices.Sorted(maps.Keys(want.readers))) {
			t.Fatalf("readers %v, not %v", v.Readers(), want.readers)
		}
		for reader, of := range want.readers {
			for p, offset := range of {
				if got, ok := v.Position(reader, p); !ok || got != offset || len(v.Positions(reader)) != len(of) {
					t.Fatalf("reader %s at %v: %d, not %d", reader, p, got, offset)
				}
			}
		}
	}
}

// checkNeeded compares what is needed, of all and in a range.
func (m *model) checkNeeded(t *testing.T, v *Vhost, want *modelVhost) {
	t.Helper()
	needed := make(map[int64]bool)
	for id := range want.delayed {
		needed[id] = true
	}
	for _, w := range want.queues {
		for id := range w.waiting {
			needed[id] = true
		}
	}
	n, first, last := v.Needed(), int64(math.MaxInt64), int64(-1)
	for !n.Step() {
	}
	for id := range needed {
		if !n.Has(id) {
			t.Fatalf("message %d is not needed, of %v", id, needed)
		}
		first, last = min(first, id), max(last, id)
	}
	if n.Count(0, want.end) != int64(len(needed)) || len(needed) > 0 && (n.Count(first+1, last) != int64(max(len(needed)-2, 0)) || n.Has(first-1)) {
		t.Fatalf("%d are needed, %d between the ends; not %v", n.Count(0, want.end), n.Count(first+1, last), needed)
	}
}

func (m *model) checkDelayed(t *testing.T, v *Vhost, want *modelVhost, floor int64) {
	t.Helper()
	first, until := int64(-1), m.time()
	due := []int64{}
	for id, ms := range want.delayed {
		floor = min(floor, id)
		if ms -= ms % 1000; first < 0 || ms < first {
			first = ms
		}
		if ms <= until {
			due = append(due, id)
		}
	}
	got := slices.Clone(v.DelayedIn(until, 1<<20))
	slices.Sort(due)
	if ms, ok := v.DelayedUntil(); ok != (first >= 0) || ok && ms != first || !slices.Equal(got, due) {
		t.Fatalf("the first is due at %d, not %d; until %d: %v, not %v", ms, first, until, got, due)
	}
	if v.Floor() != floor {
		t.Fatalf("floor %d, not %d", v.Floor(), floor)
	}
}

func (m *model) checkQueue(t *testing.T, q *Queue, w *modelQueue) {
	t.Helper()
	ids := w.sorted()
	if q.Len() != int64(len(ids)) || q.Bytes() != w.bytes || q.Lent() != w.lent || !slices.Equal(slices.Collect(q.Waiting(0)), ids) || q.Priorities() != 1+int(w.priorities) || q.MayExpire() != w.expires {
		t.Fatalf("queue %s has %d with %d bytes, lent %d: %v; not %v, %+v", q.Name, q.Len(), q.Bytes(), q.Lent(), slices.Collect(q.Waiting(0)), ids, w)
	}
	for n := range 6 {
		h := Hash{byte(n)}
		if got := slices.Contains(slices.Collect(maps.Values(w.hashes)), h); q.Holds(h) != got {
			t.Fatalf("queue %s holds hash %d: %v, not %v", q.Name, n, !got, w.hashes)
		}
	}
	next := make([]int64, q.Priorities())
	for id, message := range w.waiting {
		if !q.Has(id) || q.Priority(id) != message.priority || q.Count(id) != message.count || (id <= q.uncertain()) != w.uncertain[id] {
			t.Fatalf("message %d of queue %s: priority %d, count %d, uncertain %d; not %+v", id, q.Name, q.Priority(id), q.Count(id), q.uncertain(), message)
		}
	}
	for _, id := range ids {
		p := w.waiting[id].priority
		if got, ok := q.Next(p, next[p]); !ok || got != id {
			t.Fatalf("the first of priority %d from %d is %d, not %d", p, next[p], got, id)
		}
		next[p] = id + 1
	}
	for p := range next {
		if id, ok := q.Next(uint8(p), next[p]); ok {
			t.Fatalf("%d has priority %d", id, p)
		}
	}
}

// TestModel: random entries make what the model says. A State that is restored from a
// snapshot on the way goes on like the one that it is of, and one that has applied all
// entries from the beginning has the same bytes.
func TestModel(t *testing.T) {
	for _, border := range []int64{1 << 10, 1 << 16, 1 << 32} {
		for range storagetest.Rounds(8) {
			seed := rand.Uint64()
			t.Run(fmt.Sprintf("%d/%d", border, seed), func(t *testing.T) { testModel(t, seed, border) })
		}
	}
}

func testModel(t *testing.T, seed uint64, border int64) {
	r := rand.New(rand.NewPCG(seed, 0))
	m := &model{r: r, vhosts: make(map[string]*modelVhost), border: border}
	s := New()
	type entry struct {
		kind uint16
		body []byte
	}
	var log []entry
	for n := range 600 {
		kind, body := m.entry()
		log = append(log, entry{kind, body})
		changes, err := s.Apply(kind, body)
		if err != nil || !slices.Equal(changes.Results, m.results) {
			t.Fatalf("entry %d, kind %d: %v, %+v", n, kind, err, changes)
		}
		if n%10 == 0 {
			m.check(t, s)
		}
		if r.IntN(20) == 0 {
			s = same(t, s)
			m.check(t, s)
		}
	}
	again := New()
	for _, e := range log {
		apply(t, again, e.kind, e.body)
	}
	if !bytes.Equal(again.Snapshot(), s.Snapshot()) {
		t.Fatal("other bytes when the entries are applied again")
	}
}

// uncertain returns the offset up to which what waits may have been delivered in an epoch
// that has ended, or -1.
func (q *Queue) uncertain() int64 {
	if len(q.marks) == 0 {
		return -1
	}
	return q.marks[len(q.marks)-1].id
}
