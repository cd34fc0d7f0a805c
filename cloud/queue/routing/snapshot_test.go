package routing

import (
	"bytes"
	"errors"
	"testing"
)

// sample has something of everything.
func sample(t testing.TB) *Table {
	table := New()
	declare(t, table, Exchange{Name: "d", Type: DelayedMessage, DelayedType: Topic, Arguments: []byte{1, 2}})
	declare(t, table, Exchange{Name: "h", Type: ConsistentHash, HashHeader: "x-h", AutoDelete: true})
	declare(t, table, Exchange{Name: "z", Type: Direct, Durable: true, Internal: true, Alternate: "d"})
	declare(t, table, Exchange{Name: "s", Type: Deduplication, CacheSize: 1000, CacheTTL: 5})
	bind(t, table, Binding{Source: "amq.topic", Destination: "q2", Key: "a.*.#"})
	bind(t, table, Binding{Source: "amq.topic", Destination: "q1", Key: "a"})
	bind(t, table, Binding{Source: "amq.topic", Destination: "z", ToExchange: true, Key: "#"})
	bind(t, table, Binding{Source: "h", Destination: "q2", Key: "7"})
	bind(t, table, Binding{Source: "h", Destination: "q1", Key: "3", Arguments: []byte("args")})
	bind(t, table, Binding{Source: "amq.headers", Destination: "q1", Match: Match{Any, []Header{{"b", FloatValue(0.5)}, {"a", IntValue(-1)}, {"c", TextValue("t")}}}})
	return table
}

func TestSnapshot(t *testing.T) {
	body := sample(t).Snapshot()
	table, err := Restore(body)
	if err != nil || !bytes.Equal(table.Snapshot(), body) {
		t.Fatal(err)
	}
	if !table.ReadsHeaders() || table.bindings != 6 || len(table.Queues()) != 2 || len(table.Exchanges()) != 11 {
		t.Errorf("%+v", table.Exchanges())
	}
	if x, err := table.Lookup("z"); err != nil || x.Alternate != "d" || !x.Internal || !x.Durable || x.AutoDelete {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err := table.Lookup("none"); !errors.Is(err, ErrNotFound) {
		t.Error(err)
	}
	for n := range body {
		if _, err := Restore(body[:n]); !errors.Is(err, ErrCorrupt) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	if _, err := Restore(append(body, 0)); !errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

// TestRestoreOrder: names out of order were not written by Snapshot.
func TestRestoreOrder(t *testing.T) {
	table := New()
	table.QueueDeclared("first")
	table.QueueDeclared("later")
	body := table.Snapshot()
	if _, err := Restore(body); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"zirst", "later"} { // out of order; twice
		if _, err := Restore(bytes.Replace(body, []byte("first"), []byte(name), 1)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("queues %s and later: %v", name, err)
		}
	}
}

// TestOrder: the order of the calls does not show in the bytes.
func TestOrder(t *testing.T) {
	a, b := New(), New()
	keys := []string{"a", "b", "#", "a.*"}
	for i := range keys {
		bind(t, a, Binding{Source: "amq.topic", Destination: keys[i], Key: keys[len(keys)-1-i]})
		bind(t, b, Binding{Source: "amq.topic", Destination: keys[len(keys)-1-i], Key: keys[i]})
	}
	if !bytes.Equal(a.Snapshot(), b.Snapshot()) {
		t.Error("the same state has other bytes")
	}
}

func FuzzRestore(f *testing.F) {
	f.Add(New().Snapshot())
	f.Add(sample(f).Snapshot())
	f.Fuzz(func(t *testing.T, body []byte) {
		table, err := Restore(body)
		if err != nil {
			return
		}
		if again := table.Snapshot(); !bytes.Equal(again, body) {
			t.Fatalf("%x is restored and becomes %x", body, again)
		}
		for _, x := range table.Exchanges() {
			route(t, table, x.Name, Message{Key: "a.b"})
		}
	})
}

func FuzzTopic(f *testing.F) {
	f.Add("a.*.#", "#.b", "a.c.b")
	f.Add("", "#.#.#", ".")
	f.Fuzz(func(t *testing.T, p1, p2, key string) {
		if len(p1)+len(p2)+len(key) > 40 {
			t.Skip("the definition takes too long")
		}
		table, want := New(), ""
		bind(t, table, Binding{Source: "amq.topic", Destination: "1", Key: p1})
		bind(t, table, Binding{Source: "amq.topic", Destination: "2", Key: p2})
		if topicMatches(words(p1), words(key)) {
			want = "1"
		}
		if topicMatches(words(p2), words(key)) {
			want += " 2"
		}
		if want == " 2" {
			want = "2"
		}
		if got := route(t, table, "amq.topic", Message{Key: key}); got != want {
			t.Errorf("%q with %q and %q: %q, not %q", key, p1, p2, got, want)
		}
		for _, b := range table.Bindings() {
			if _, err := table.Unbind(b); err != nil {
				t.Fatal(err)
			}
		}
		if !table.exchanges["amq.topic"].topic.empty() {
			t.Errorf("%q and %q leave nodes", p1, p2)
		}
	})
}
