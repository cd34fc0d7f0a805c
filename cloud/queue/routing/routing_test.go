package routing

import (
	"errors"
	"fmt"
	"math"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func declare(t testing.TB, table *Table, x Exchange) {
	t.Helper()
	if created, err := table.Declare(x); err != nil || !created {
		t.Fatalf("declare %v: created %v, %v", x, created, err)
	}
}

func bind(t testing.TB, table *Table, b Binding) {
	t.Helper()
	if !b.ToExchange {
		table.QueueDeclared(b.Destination)
	}
	if _, err := table.Bind(b); err != nil {
		t.Fatalf("bind %v: %v", b, err)
	}
}

func route(t testing.TB, table *Table, exchange string, m Message) string {
	t.Helper()
	var r Result
	if err := table.Route(exchange, &m, &r); err != nil {
		t.Fatal(err)
	}
	return strings.Join(r.Queues, " ")
}

// TestTopic: what RabbitMQ's documentation says of topic exchanges, and its empty words.
func TestTopic(t *testing.T) {
	table := New()
	for i, pattern := range []string{"*.orange.*", "*.*.rabbit", "lazy.#", "#", "*", "", "a.", "#.b", "a.*.#.z", "#.#", "*.#.*"} {
		bind(t, table, Binding{Source: "amq.topic", Destination: fmt.Sprint("q", i), Key: pattern})
	}
	for key, want := range map[string]string{
		"quick.orange.rabbit":      "q0 q1 q10 q3 q9",
		"lazy.orange.elephant":     "q0 q10 q2 q3 q9",
		"quick.orange.fox":         "q0 q10 q3 q9",
		"lazy.brown.fox":           "q10 q2 q3 q9",
		"lazy.pink.rabbit":         "q1 q10 q2 q3 q9",
		"lazy":                     "q2 q3 q4 q9",
		"lazy.orange.new.rabbit":   "q10 q2 q3 q9",
		"":                         "q3 q5 q9",
		"a.":                       "q10 q3 q6 q9",
		".":                        "q10 q3 q9",
		"b":                        "q3 q4 q7 q9",
		"a.b":                      "q10 q3 q7 q9",
		"a..z":                     "q10 q3 q8 q9",
		"a.z":                      "q10 q3 q9",
		"a.1.2.3.z":                "q10 q3 q8 q9",
		"*":                        "q3 q4 q9",
		"#":                        "q3 q4 q9",
		"quick.orange.male.rabbit": "q10 q3 q9",
	} {
		if got := route(t, table, "amq.topic", Message{Key: key}); got != want {
			t.Errorf("%q: %s, not %s", key, got, want)
		}
	}
}

func TestHeaders(t *testing.T) {
	pdf := []Header{{"format", TextValue("pdf")}, {"type", TextValue("report")}}
	for _, c := range []struct {
		mode           Mode
		asked, message []Header
		want           bool
	}{
		{All, pdf, pdf, true},
		{All, pdf, pdf[:1], false},
		{Any, pdf, pdf[1:], true},
		{Any, pdf, nil, false},
		{All, nil, nil, true},
		{Any, nil, pdf, false},
		{All, []Header{{"x-a", IntValue(1)}}, nil, true},
		{Any, []Header{{"x-a", IntValue(1)}}, []Header{{"x-a", IntValue(1)}}, false},
		{AllWithX, []Header{{"x-a", IntValue(1)}}, nil, false},
		{AnyWithX, []Header{{"x-a", IntValue(1)}}, []Header{{"x-a", IntValue(1)}}, true},
		{AllWithX, []Header{{"x-match", TextValue("all-with-x")}}, nil, true},
		{All, []Header{{"a", Value{}}}, []Header{{"a", IntValue(9)}}, true},
		{All, []Header{{"a", Value{}}}, []Header{{"b", IntValue(9)}}, false},
		{All, []Header{{"a", IntValue(1)}}, []Header{{"a", Value{}}}, false},
		{All, []Header{{"a", IntValue(1)}}, []Header{{"a", IntValue(1)}, {"a", IntValue(2)}}, true},
		{All, []Header{{"a", IntValue(2)}}, []Header{{"a", IntValue(1)}, {"a", IntValue(2)}}, false},
	} {
		table := New()
		bind(t, table, Binding{Source: "amq.headers", Destination: "q", Match: Match{c.mode, c.asked}})
		if got := route(t, table, "amq.headers", Message{Headers: c.message}) == "q"; got != c.want {
			t.Errorf("%s of %v with %v: %v", modes[c.mode], c.asked, c.message, got)
		}
	}
}

func TestEqual(t *testing.T) {
	for _, c := range []struct {
		a, b Value
		want bool
	}{
		{IntValue(1), UintValue(1), true},
		{IntValue(1), FloatValue(1), true},
		{IntValue(1), FloatValue(1.5), false},
		{IntValue(1), TextValue("1"), false},
		{IntValue(1), BoolValue(true), false},
		{IntValue(-1), UintValue(math.MaxUint64), false},
		{UintValue(1 << 63), FloatValue(1 << 63), true},
		{IntValue(math.MaxInt64), FloatValue(1 << 63), false},
		{IntValue(math.MinInt64), FloatValue(math.MinInt64), true},
		{IntValue(1<<53 + 1), FloatValue(1 << 53), false},
		{FloatValue(0), FloatValue(math.Copysign(0, -1)), true},
		{FloatValue(math.NaN()), FloatValue(math.NaN()), false},
		{FloatValue(math.Inf(1)), UintValue(math.MaxUint64), false},
		{TextValue("a"), TextValue("a"), true},
		{Value{Kind: Encoded, Text: "a"}, TextValue("a"), false},
		{BoolValue(false), Value{}, false},
	} {
		if equal(c.a, c.b) != c.want || equal(c.b, c.a) != c.want {
			t.Errorf("%v and %v: not %v", c.a, c.b, c.want)
		}
	}
}

// calls returns calls of the table that are made later.
func calls(table *Table) (declaring func(Exchange) func() error, binding, unbinding func(Binding) func() error, deleting func(string, bool) func() error, publishing func(string) func() error) {
	declaring = func(x Exchange) func() error {
		return func() error { _, err := table.Declare(x); return err }
	}
	binding = func(b Binding) func() error { return func() error { _, err := table.Bind(b); return err } }
	unbinding = func(b Binding) func() error { return func() error { _, err := table.Unbind(b); return err } }
	deleting = func(name string, unused bool) func() error {
		return func() error { _, err := table.Delete(name, unused); return err }
	}
	publishing = func(name string) func() error {
		return func() error { return table.Publish(name, &Message{}, new(Result)) }
	}
	return declaring, binding, unbinding, deleting, publishing
}

// TestRefused: each refusal with its kind and what it is about.
func TestRefused(t *testing.T) {
	table := New()
	declare(t, table, Exchange{Name: "x", Type: Direct, Durable: true, Alternate: "a"})
	declare(t, table, Exchange{Name: "h", Type: ConsistentHash})
	declare(t, table, Exchange{Name: "in", Type: Fanout, Internal: true})
	bind(t, table, Binding{Source: "x", Destination: "q"})
	declaring, binding, unbinding, deleting, publishing := calls(table)
	for _, c := range []struct {
		do   func() error
		want error
		text string
	}{
		{declaring(Exchange{Name: "y", Type: "none"}), ErrType, "'none'"},
		{declaring(Exchange{Name: "", Type: "none"}), ErrType, "'none'"},
		{declaring(Exchange{Name: "", Type: Direct}), ErrDefault, ""},
		{declaring(Exchange{Name: "amq.y", Type: Direct}), ErrReserved, "amq.y"},
		{declaring(Exchange{Name: "amq.topic", Type: Topic, Durable: true}), nil, ""},
		{declaring(Exchange{Name: "x", Type: Fanout}), ErrInequivalent, "type, received 'fanout', current is 'direct'"},
		{declaring(Exchange{Name: "x", Type: Direct}), ErrInequivalent, "durable, received 'false', current is 'true'"},
		{declaring(Exchange{Name: "x", Type: Direct, Durable: true, AutoDelete: true}), ErrInequivalent, "auto_delete, received 'true'"},
		{declaring(Exchange{Name: "x", Type: Direct, Durable: true, Internal: true}), ErrInequivalent, "internal, received 'true'"},
		{declaring(Exchange{Name: "x", Type: Direct, Durable: true}), ErrInequivalent, "alternate-exchange, received '', current is 'a'"},
		{declaring(Exchange{Name: "x", Type: Direct, Durable: true, Alternate: "a", Arguments: []byte("other")}), nil, ""},
		{declaring(Exchange{Name: "d", Type: DelayedMessage}), ErrInvalid, "x-delayed-type"},
		{declaring(Exchange{Name: "d", Type: DelayedMessage, DelayedType: DelayedMessage}), ErrInvalid, "x-delayed-type"},
		{declaring(Exchange{Name: "d", Type: ConsistentHash, HashHeader: "a", HashProperty: "message_id"}), ErrInvalid, "hash-header"},
		{declaring(Exchange{Name: "d", Type: ConsistentHash, HashProperty: "app_id"}), ErrInvalid, "hash-property, received 'app_id'"},
		{binding(Binding{Source: "", Destination: "q"}), ErrDefault, ""},
		{binding(Binding{Source: "x", Destination: "", ToExchange: true}), ErrDefault, ""},
		{binding(Binding{Source: "none", Destination: "q"}), ErrNotFound, "exchange 'none'"},
		{binding(Binding{Source: "x", Destination: "none"}), ErrNotFound, "queue 'none'"},
		{binding(Binding{Source: "x", Destination: "none", ToExchange: true}), ErrNotFound, "exchange 'none'"},
		{binding(Binding{Source: "h", Destination: "q", Key: "a"}), ErrInvalid, "routing key, received 'a'"},
		{binding(Binding{Source: "h", Destination: "q", Key: "0"}), ErrInvalid, "routing key"},
		{binding(Binding{Source: "amq.match", Destination: "q", Match: Match{Mode: 9}}), ErrInvalid, "x-match"},
		{unbinding(Binding{Source: "", Destination: "q"}), ErrDefault, ""},
		{unbinding(Binding{Source: "none", Destination: "none"}), nil, ""},
		{deleting("", false), ErrDefault, ""},
		{deleting("amq.topic", false), ErrReserved, "amq.topic"},
		{deleting("none", true), nil, ""},
		{deleting("x", true), ErrInUse, "'x'"},
		{publishing("none"), ErrNotFound, "exchange 'none'"},
		{publishing("in"), ErrInternal, "'in'"},
	} {
		before := string(table.Snapshot())
		if err := c.do(); !errors.Is(err, c.want) || err != nil && !strings.Contains(err.Error(), c.text) {
			t.Errorf("%v, not %v with %q", err, c.want, c.text)
		}
		if string(table.Snapshot()) != before {
			t.Errorf("%v, %q: the table has changed", c.want, c.text)
		}
	}
	if _, err := ParseMode("some"); !errors.Is(err, ErrInvalid) {
		t.Error(err)
	}
	if m, err := ParseMode("any-with-x"); err != nil || m != AnyWithX {
		t.Error(m, err)
	}
}

// TestGraph: cycles, alternates, auto-delete in a chain, CC, the default exchange.
func TestGraph(t *testing.T) {
	table := New()
	for _, x := range []string{"a", "b", "c"} {
		declare(t, table, Exchange{Name: x, Type: Fanout, AutoDelete: true})
	}
	for _, b := range []Binding{{Source: "a", Destination: "b"}, {Source: "b", Destination: "c"}} {
		b.ToExchange = true
		bind(t, table, b)
	}
	bind(t, table, Binding{Source: "c", Destination: "q"})
	declare(t, table, Exchange{Name: "main", Type: Direct, Alternate: "a"})
	bind(t, table, Binding{Source: "main", Destination: "hit", Key: "k"})
	bind(t, table, Binding{Source: "main", Destination: "cc", Key: "cc"})
	for _, c := range []struct {
		exchange string
		m        Message
		want     string
	}{
		{"main", Message{Key: "k"}, "hit"},
		{"main", Message{Key: "other"}, "q"},
		{"main", Message{Key: "other", More: []string{"cc", "k", "cc"}}, "cc hit"},
		{"", Message{Key: "q", More: []string{"cc", "none"}}, "cc q"},
		{"", Message{Key: "none"}, ""},
	} {
		if got := route(t, table, c.exchange, c.m); got != c.want {
			t.Errorf("'%s' %v: %s", c.exchange, c.m, got)
		}
	}
	if gone := table.QueueDeleted("q"); !slices.Equal(gone, []string{"a", "b", "c"}) {
		t.Errorf("%v are gone with the queue", gone)
	}
	if got := route(t, table, "main", Message{Key: "other"}); got != "" {
		t.Errorf("%s: the alternate exchange is gone", got)
	}
}

// TestCycle: exchanges that are bound in a circle end with the last binding to a queue.
func TestCycle(t *testing.T) {
	table := New()
	declare(t, table, Exchange{Name: "a", Type: Fanout})
	declare(t, table, Exchange{Name: "b", Type: Fanout})
	bind(t, table, Binding{Source: "a", Destination: "b", ToExchange: true})
	bind(t, table, Binding{Source: "b", Destination: "a", ToExchange: true})
	bind(t, table, Binding{Source: "a", Destination: "a", ToExchange: true})
	if table.MayReach("a", "k") || route(t, table, "a", Message{}) != "" {
		t.Error("no queue is bound, and one is reached")
	}
	bind(t, table, Binding{Source: "b", Destination: "q"})
	if got := route(t, table, "a", Message{}); got != "q" || !table.MayReach("a", "k") {
		t.Errorf("%q is reached", got)
	}
	if gone, err := table.Delete("a", false); err != nil || !slices.Equal(gone, []string{"a"}) || len(table.Bindings()) != 1 {
		t.Errorf("%v, %v: %v", gone, err, table.Bindings())
	}
}

func TestDelayed(t *testing.T) {
	table := New()
	declare(t, table, Exchange{Name: "d", Type: DelayedMessage, DelayedType: Topic})
	bind(t, table, Binding{Source: "d", Destination: "q", Key: "a.*"})
	bind(t, table, Binding{Source: "amq.fanout", Destination: "d", ToExchange: true})
	bind(t, table, Binding{Source: "amq.fanout", Destination: "now"})
	var r Result
	if err := table.Route("amq.fanout", &Message{Key: "a.b", Delay: true}, &r); err != nil || !slices.Equal(r.Queues, []string{"now"}) || !slices.Equal(r.Held, []string{"d"}) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := table.Route("d", &Message{Key: "a.b"}, &r); err != nil || !slices.Equal(r.Queues, []string{"q"}) || len(r.Held) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestConsistentHash: shares follow the weights, a new queue takes only from others, and a
// restored table sends each message to the same queue.
func TestDeduplication(t *testing.T) {
	table := New()
	declare(t, table, Exchange{Name: "x", Type: Deduplication, CacheSize: 5, CacheTTL: 7})
	bind(t, table, Binding{Source: "x", Destination: "q"})
	bind(t, table, Binding{Source: "amq.fanout", Destination: "x", ToExchange: true})
	bind(t, table, Binding{Source: "amq.fanout", Destination: "r"})
	var r Result
	for _, x := range []struct {
		from     string
		filter   bool
		queues   string
		filtered string
	}{{"x", false, "[q]", "[]"}, {"x", true, "[]", "[x]"}, {"amq.fanout", true, "[r]", "[x]"}, {"amq.fanout", false, "[q r]", "[]"}} {
		if err := table.Route(x.from, &Message{Filter: x.filter}, &r); err != nil || fmt.Sprint(r.Queues) != x.queues || fmt.Sprint(r.Filtered) != x.filtered {
			t.Errorf("%+v: %+v, %v", x, r, err)
		}
	}
	if x, err := table.Lookup("x"); err != nil || x.CacheSize != 5 || x.CacheTTL != 7 || !table.MayReach("x", "any") {
		t.Errorf("%+v, %v", x, err)
	}
	for _, bad := range []Exchange{
		{Name: "y", Type: Deduplication}, {Name: "y", Type: Deduplication, CacheSize: 1, CacheTTL: -1}, {Name: "y", Type: Fanout, CacheSize: 1},
		{Name: "y", Type: Fanout, CacheTTL: 1}, {Name: "y", Type: DelayedMessage, DelayedType: Deduplication},
	} {
		if _, err := table.Declare(bad); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
	if err := table.Hold("amq.fanout", &r); err != nil || fmt.Sprint(r) != "{[] [amq.fanout] []}" {
		t.Errorf("%v, %v", r, err)
	}
}

func TestConsistentHash(t *testing.T) {
	for _, x := range []Exchange{{}, {HashHeader: "h"}, {HashProperty: "correlation_id"}, {HashProperty: "message_id"}, {HashProperty: "timestamp"}} {
		x.Name, x.Type = "h", ConsistentHash
		table := New()
		declare(t, table, x)
		for i, weight := range []string{"1", "2", "3"} {
			bind(t, table, Binding{Source: "h", Destination: fmt.Sprint("q", 2-i), Key: weight})
		}
		bind(t, table, Binding{Source: "h", Destination: "q2", Key: "9"}) // does not count
		if table.ReadsHeaders() != (x.HashHeader != "") {
			t.Errorf("%+v: reads headers %v", x, table.ReadsHeaders())
		}
		const n = 6000
		send := func(table *Table) (to []string) {
			for i := range n {
				s := fmt.Sprint(i)
				m := Message{Key: "k", Headers: []Header{{"a", Value{}}, {"h", IntValue(int64(i))}}}
				switch {
				case x.HashProperty == "correlation_id":
					m.CorrelationID = s
				case x.HashProperty == "message_id":
					m.MessageID = s
				case x.HashProperty == "timestamp":
					m.Timestamp = s
				case x.HashHeader == "":
					m.Key = s
				}
				to = append(to, route(t, table, "h", m))
			}
			return to
		}
		before := send(table)
		for i := range 3 {
			share, want := 0, (3-i)*n/6
			for _, q := range before {
				if q == fmt.Sprint("q", i) {
					share++
				}
			}
			if share < want*8/10 || share > want*12/10 {
				t.Errorf("%+v: q%d gets %d of %d", x, i, share, n)
			}
		}
		again, err := Restore(table.Snapshot())
		if err != nil || !slices.Equal(send(again), before) {
			t.Errorf("%+v: restored differs, %v", x, err)
		}
		bind(t, table, Binding{Source: "h", Destination: "another", Key: "2"})
		for i, q := range send(table) {
			if q != before[i] && q != "another" {
				t.Fatalf("%+v: message %d moves from %s to %s", x, i, before[i], q)
			}
		}
	}
}

// TestAllocations: a message that goes through all types of exchanges allocates nothing.
func TestAllocations(t *testing.T) {
	table := New()
	m, r := &Message{Key: "a.b.c", More: []string{"a.b"}, Headers: []Header{{"h", IntValue(1)}}}, new(Result)
	for _, x := range []Exchange{{Type: Direct}, {Type: Topic}, {Type: Headers}, {Type: ConsistentHash}, {Type: DelayedMessage, DelayedType: Topic}} {
		x.Name = x.Type
		declare(t, table, x)
		bind(t, table, Binding{Source: "amq.fanout", Destination: x.Name, ToExchange: true})
		for i, key := range []string{"a.b.c", "#", "a.*.#", "5"} {
			if (x.Type == ConsistentHash) == (key == "5") {
				bind(t, table, Binding{Source: x.Name, Destination: fmt.Sprint(x.Name, i), Key: key})
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() {
		if err := table.Route("amq.fanout", m, r); err != nil || len(r.Queues) != 11 {
			t.Fatal(err, r.Queues)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkMillionBindings: a topic exchange with a million patterns on 1,000 queues.
func BenchmarkMillionBindings(b *testing.B) {
	heap := func() int64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before, table := heap(), New()
	for i := range 1_000_000 {
		bind(b, table, Binding{Source: "amq.topic", Destination: fmt.Sprint("q", i%1000), Key: fmt.Sprintf("site%d.line%d.*", i/1000, i%1000)})
	}
	perBinding := float64(heap()-before) / 1e6
	m, r := &Message{Key: "site17.line4.temperature"}, new(Result)
	b.ReportAllocs()
	for b.Loop() {
		if err := table.Route("amq.topic", m, r); err != nil || len(r.Queues) != 1 {
			b.Fatal(err, r.Queues)
		}
	}
	b.ReportMetric(perBinding, "B/binding")
}
