package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// matches is the standard's text (§4.7) without any cleverness.
func matches(filter, topic string) bool {
	f, t := strings.Split(filter, "/"), strings.Split(topic, "/")
	if strings.HasPrefix(topic, "$") && (f[0] == "+" || f[0] == "#") {
		return false
	}
	for i, level := range f {
		if level == "#" {
			return true
		}
		if i == len(t) {
			return false
		}
		if level != "+" && level != t[i] {
			return false
		}
		if i == len(t)-1 {
			return len(f) == len(t) || len(f) == len(t)+1 && f[i+1] == "#"
		}
	}
	return false
}

func TestMatching(t *testing.T) {
	tests := []struct {
		filter, topic string
		want          bool
	}{
		{"sport/#", "sport", true}, {"sport/+/#", "sport", false}, {"+/#", "a", true}, {"+/+/#", "a/b", true},
		{"#", "a/b/c", true}, {"+", "a/b", false}, {"+/+", "/a", true}, {"/+", "/a", true}, {"+", "/a", false},
		{"#", "$SYS/x", false}, {"+/x", "$SYS/x", false}, {"$SYS/#", "$SYS/x", true}, {"a/+/c", "a//c", true},
		{"a/b", "a/b/", false}, {"a/b/#", "a/b/", true}, {"a/#", "ab", false},
	}
	for _, test := range tests {
		var subs trie
		subs.subscribe(&client{id: "c"}, subscription{filter: test.filter})
		var kept retainedTree
		kept.set(&Message{Topic: test.topic, Payload: []byte("x")})
		n := len(replayed(&kept, test.filter))
		if got := len(matchAll(&subs, test.topic)) == 1; got != test.want || matches(test.filter, test.topic) != test.want || (n == 1) != test.want {
			t.Errorf("%q on %q: trie %v, retained %d, want %v", test.filter, test.topic, got, n, test.want)
		}
	}
}

// TestTrieModel compares trie and retained tree with lists, over random
// subscribing, unsubscribing, retaining and matching.
func TestTrieModel(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	defer func() {
		if t.Failed() {
			t.Logf("seed %d", seed)
		}
	}()
	word := func(words ...string) string {
		out := make([]string, 1+r.IntN(4))
		for i := range out {
			out[i] = words[r.IntN(len(words))]
		}
		return strings.Join(out, "/")
	}
	var clients []*client
	for i := range 5 {
		clients = append(clients, &client{id: fmt.Sprint(i)})
	}
	var subs trie
	var kept retainedTree
	model := map[[2]string]bool{} // client id, filter
	retained := map[string]bool{}
	for range 20000 {
		switch r.IntN(6) {
		case 0, 1:
			f := word("a", "b", "+", "", "$x")
			if r.IntN(2) == 0 {
				f += "/#"
			}
			c := clients[r.IntN(len(clients))]
			key := [2]string{c.id, f}
			if subs.subscribe(c, subscription{filter: f}) == model[key] {
				t.Fatalf("subscribe %v", key)
			}
			model[key] = true
		case 2:
			for key := range model {
				if !subs.unsubscribe(clients[key[0][0]-'0'], key[1]) || subs.unsubscribe(clients[key[0][0]-'0'], key[1]) {
					t.Fatalf("unsubscribe %v", key)
				}
				delete(model, key)
				break
			}
		case 3:
			topic := "t" + word("a", "b", "")
			retained[topic] = r.IntN(2) == 0
			m := &Message{Topic: topic}
			if retained[topic] {
				m.Payload = []byte("x")
			} else {
				delete(retained, topic)
			}
			kept.set(m)
		case 4:
			f := "t" + word("a", "+", "")
			if r.IntN(3) == 0 {
				f = word("ta", "+", "a") + "/#"
			}
			want := []string{}
			for topic := range retained {
				if matches(f, topic) {
					want = append(want, topic)
				}
			}
			got := replayed(&kept, f)
			if !slices.IsSortedFunc(got, func(a, b string) int { return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/")) }) {
				t.Fatalf("out of order: %q", got)
			}
			compare(t, "retained "+f, got, want)
		case 5:
			topic := word("a", "b", "", "$x")
			want, got := []string{}, []string{}
			for key := range model {
				if matches(key[1], topic) && !slices.Contains(want, key[0]) {
					want = append(want, key[0])
				}
			}
			for _, m := range matchAll(&subs, topic) {
				got = append(got, m.client.id)
			}
			compare(t, topic, got, want)
		}
	}
	if subs.count != len(model) || kept.count != len(retained) {
		t.Fatalf("counts %d %d, want %d %d", subs.count, kept.count, len(model), len(retained))
	}
	for key := range model {
		subs.unsubscribe(clients[key[0][0]-'0'], key[1])
	}
	for topic := range retained {
		kept.set(&Message{Topic: topic})
	}
	if subs.root.children.len() != 0 || len(kept.root.children) != 0 {
		t.Fatal("nodes are left over")
	}
}

func matchAll(t *trie, topic string) []match {
	t.find(topic)
	return t.match(topic, "")
}

// replayed are the topics that a new subscription brings, in their order.
func replayed(t *retainedTree, filter string) (topics []string) {
	r := replay{filter: filter, until: t.now()}
	for m := r.take(t); m != nil; m = r.take(t) {
		topics = append(topics, m.Topic)
		r.next = nil
	}
	return topics
}

func compare(t *testing.T, what string, got, want []string) {
	t.Helper()
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Fatalf("%s: got %q, want %q", what, got, want)
	}
}

func TestValidFilter(t *testing.T) {
	for f, want := range map[string]bool{
		"a": true, "+": true, "#": true, "a/#": true, "a/+/b": true, "/": true, "//": true, "+/#": true,
		"": false, "a#": false, "a+": false, "+a": false, "#/a": false, "a/#/b": false, "a/b+/c": false, "a/b/c/d": false,
	} {
		if got := validFilter(f, 3); got != want {
			t.Errorf("%q: %v", f, got)
		}
	}
	for f, want := range map[string]bool{
		"$share/g/a": true, "$share/g/a/#": true, "$share": false, "$share/g": false, "$share//a": false,
		"$share/g/": false, "$share/+/a": false, "$shared/g": true,
	} {
		if _, _, got := shareName(f); got != want {
			t.Errorf("%q: %v", f, got)
		}
	}
}
