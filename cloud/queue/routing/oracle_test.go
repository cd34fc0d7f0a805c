package routing

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// oracle is a vhost as plain lists: whatever it is asked it looks through all of them.
type oracle struct {
	exchanges []Exchange
	queues    []string
	bindings  []Binding
}

func words(key string) []string {
	if key == "" {
		return nil
	}
	return strings.Split(key, ".")
}

// topicMatches is the definition of a topic pattern.
func topicMatches(pattern, key []string) bool {
	switch {
	case len(pattern) == 0:
		return len(key) == 0
	case pattern[0] == "#":
		return topicMatches(pattern[1:], key) || len(key) > 0 && topicMatches(pattern, key[1:])
	}
	return len(key) > 0 && (pattern[0] == "*" || pattern[0] == key[0]) && topicMatches(pattern[1:], key[1:])
}

func headersMatch(m Match, headers []Header) bool {
	asked, met := 0, 0
	for _, p := range m.Headers {
		if p.Name == "x-match" || m.Mode < AllWithX && strings.HasPrefix(p.Name, "x-") {
			continue
		}
		asked++
		for _, h := range headers {
			if h.Name == p.Name && (p.Value.Kind == Void || equal(p.Value, h.Value)) {
				met++
			}
		}
	}
	if m.Mode == Any || m.Mode == AnyWithX {
		return met > 0
	}
	return met == asked
}

func (o *oracle) exchange(name string) *Exchange {
	for i := range o.exchanges {
		if o.exchanges[i].Name == name {
			return &o.exchanges[i]
		}
	}
	return nil
}

func (o *oracle) matches(x *Exchange, b Binding, m *Message) bool {
	for _, key := range append([]string{m.Key}, m.More...) {
		switch x.routes() {
		case Direct:
			if b.Key == key {
				return true
			}
		case Fanout:
			return true
		case Topic:
			if topicMatches(words(b.Key), words(key)) {
				return true
			}
		case Headers:
			return headersMatch(b.Match, m.Headers)
		}
	}
	return false
}

func (o *oracle) route(name string, m *Message) (queues, held []string) {
	work := []string{name}
	for i := 0; i < len(work); i++ {
		x, matched := o.exchange(work[i]), false
		if m.Delay && x.Type == DelayedMessage {
			held = append(held, x.Name)
			continue
		}
		for _, b := range o.bindings {
			if b.Source == x.Name && o.matches(x, b, m) {
				matched = true
				if !b.ToExchange {
					queues = append(queues, b.Destination)
				} else if !slices.Contains(work, b.Destination) {
					work = append(work, b.Destination)
				}
			}
		}
		if x.Name == "" && slices.Contains(o.queues, m.Key) {
			queues = append(queues, m.Key)
		}
		if !matched && o.exchange(x.Alternate) != nil && x.Alternate != "" && !slices.Contains(work, x.Alternate) {
			work = append(work, x.Alternate)
		}
	}
	slices.Sort(queues)
	slices.Sort(held)
	return slices.Compact(queues), held
}

// drop removes bindings, then the exchanges that auto-delete takes along.
func (o *oracle) drop(goes func(Binding) bool) {
	var sources []string
	o.bindings = slices.DeleteFunc(o.bindings, func(b Binding) bool {
		if goes(b) {
			sources = append(sources, b.Source)
			return true
		}
		return false
	})
	for _, s := range sources {
		x := o.exchange(s)
		if x != nil && x.AutoDelete && !slices.ContainsFunc(o.bindings, func(b Binding) bool { return b.Source == s }) {
			o.remove(s)
		}
	}
}

func (o *oracle) remove(name string) {
	o.exchanges = slices.DeleteFunc(o.exchanges, func(x Exchange) bool { return x.Name == name })
	o.bindings = slices.DeleteFunc(o.bindings, func(b Binding) bool { return b.Source == name })
	o.drop(func(b Binding) bool { return b.ToExchange && b.Destination == name })
}

func pick[T any](r *rand.Rand, of ...T) T { return of[r.IntN(len(of))] }

func randomKey(r *rand.Rand, alphabet ...string) string {
	n := r.IntN(5)
	ws := make([]string, n)
	for i := range ws {
		ws[i] = pick(r, alphabet...)
	}
	return strings.Join(ws, ".")
}

func randomHeaders(r *rand.Rand, names ...string) (h []Header) {
	for _, name := range names {
		if r.IntN(2) == 0 {
			h = append(h, Header{name, pick(r, IntValue(1), IntValue(2), FloatValue(1), TextValue("1"), BoolValue(true), Value{})})
		}
	}
	return h
}

// change does the same to both.
func change(t *testing.T, r *rand.Rand, table *Table, o *oracle) {
	x, q := fmt.Sprint("x", r.IntN(6)), fmt.Sprint("q", r.IntN(6))
	switch r.IntN(14) {
	case 0, 1:
		d := Exchange{Name: x, Type: pick(r, Direct, Fanout, Topic, Topic, Headers, DelayedMessage), AutoDelete: r.IntN(3) == 0, Alternate: pick(r, "", "", "x1", "amq.fanout")}
		if d.Type == DelayedMessage {
			d.DelayedType = pick(r, Direct, Topic, Fanout)
		}
		if created, _ := table.Declare(d); created != (o.exchange(x) == nil) {
			t.Fatalf("declare %v: created %v", d, created)
		} else if created {
			o.exchanges = append(o.exchanges, d)
		}
	case 2:
		if r.IntN(4) == 0 {
			unused := r.IntN(2) == 0
			used := slices.ContainsFunc(o.bindings, func(b Binding) bool { return b.Source == x })
			_, err := table.Delete(x, unused)
			if (err != nil) != (unused && used) {
				t.Fatalf("delete %s: %v", x, err)
			} else if err == nil && o.exchange(x) != nil {
				o.remove(x)
			}
		}
	case 3:
		table.QueueDeclared(q)
		if !slices.Contains(o.queues, q) {
			o.queues = append(o.queues, q)
		}
	case 4:
		if r.IntN(4) == 0 {
			table.QueueDeleted(q)
			o.queues = slices.DeleteFunc(o.queues, func(s string) bool { return s == q })
			o.drop(func(b Binding) bool { return !b.ToExchange && b.Destination == q })
		}
	default:
		changeBinding(t, r, table, o, x, q)
	}
}

func changeBinding(t *testing.T, r *rand.Rand, table *Table, o *oracle, x, q string) {
	b := Binding{Source: pick(r, x, x, "amq.topic", "amq.headers"), Destination: q, Key: randomKey(r, "a", "b", "", "*", "#")}
	if r.IntN(3) == 0 {
		b.ToExchange, b.Destination = true, fmt.Sprint("x", r.IntN(6))
	}
	if s := o.exchange(b.Source); s != nil && s.Type == Headers {
		b.Match = Match{Mode(r.IntN(4)), randomHeaders(r, "x-b", "a", "c")}
		b.Arguments = fmt.Append(nil, b.Match)
	}
	same := func(c Binding) bool {
		return c.Source == b.Source && c.Destination == b.Destination && c.ToExchange == b.ToExchange && c.Key == b.Key && bytes.Equal(c.Arguments, b.Arguments)
	}
	there := slices.ContainsFunc(o.bindings, same)
	if r.IntN(3) == 0 {
		if n := len(o.bindings); n > 0 {
			b = o.bindings[r.IntN(n)]
		}
		if _, err := table.Unbind(b); err != nil {
			t.Fatal(err)
		}
		o.drop(same)
		return
	}
	possible := o.exchange(b.Source) != nil && (b.ToExchange && o.exchange(b.Destination) != nil || !b.ToExchange && slices.Contains(o.queues, b.Destination))
	created, err := table.Bind(b)
	if created != (possible && !there) || (err == nil) != possible {
		t.Fatalf("bind %v: created %v, %v", b, created, err)
	} else if created {
		o.bindings = append(o.bindings, b)
	}
}

// TestOracle: random changes and messages, here and in plain lists.
func TestOracle(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 1))
	t.Log("seed", seed)
	var got Result
	delivered := 0
	for range 250 {
		table, o := New(), &oracle{exchanges: predeclared(), queues: []string{"q0", "q1", "q2"}}
		for _, q := range o.queues {
			table.QueueDeclared(q)
		}
		for range 400 {
			change(t, r, table, o)
			m := &Message{Key: randomKey(r, "a", "b", "", "*", "q1"), Headers: randomHeaders(r, "a", "c", "x-b"), Delay: r.IntN(4) == 0}
			if r.IntN(4) == 0 {
				m.More = []string{randomKey(r, "a", "b", "c")}
			}
			x := pick(r, o.exchanges...).Name
			if err := table.Route(x, m, &got); err != nil {
				t.Fatal(err)
			}
			if queues, held := o.route(x, m); !slices.Equal(queues, got.Queues) || !slices.Equal(held, got.Held) {
				t.Fatalf("from '%s' with %+v: %v, not %v; held by %v, not %v\n%+v\n%+v", x, m, got.Queues, queues, got.Held, held, o.exchanges, o.bindings)
			}
			delivered += len(got.Queues)
			m.More, m.Delay = nil, false
			if queues, _ := o.route(x, m); len(queues) > 0 && !table.MayReach(x, m.Key) {
				t.Fatalf("from '%s' with %+v: %v may not be reached", x, m, queues)
			}
		}
		checkSame(t, table, o)
	}
	if delivered < 10_000 {
		t.Errorf("only %d deliveries: the test tests little", delivered)
	}
}

// checkSame: the table lists what the oracle has, and so does a restored one.
func checkSame(t *testing.T, table *Table, o *oracle) {
	t.Helper()
	var names []string
	for _, x := range table.Exchanges() {
		names = append(names, x.Name)
		if o.exchange(x.Name) == nil {
			t.Fatalf("exchange '%s' is still there", x.Name)
		}
	}
	if len(names) != len(o.exchanges) || len(table.Bindings()) != len(o.bindings) || len(table.index) > len(o.bindings) {
		t.Fatalf("%v and %d bindings, not %v and %d", names, len(table.Bindings()), o.exchanges, len(o.bindings))
	}
	body := table.Snapshot()
	again, err := Restore(body)
	if err != nil || !bytes.Equal(again.Snapshot(), body) {
		t.Fatalf("restored differs: %v", err)
	}
	for _, b := range o.bindings { // a trie without bindings is empty
		if _, err := table.Unbind(b); err != nil {
			t.Fatal(err)
		}
	}
	for name, x := range table.exchanges {
		if x.topic != nil && !x.topic.empty() || len(x.direct) > 0 || len(x.all.items) > 0 || len(x.out) > 0 {
			t.Fatalf("exchange '%s' keeps what was unbound", name)
		}
	}
}
