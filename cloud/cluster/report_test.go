package cluster

import (
	"bytes"
	"errors"
	"reflect"
	"strings"
	"testing"
)

func fullReport() Report {
	return Report{Node: Node{ID: 7, Name: "a", Boot: "b", Host: "h", Member: 3, Addresses: Addresses{Peer: {"": "a:7401"}}},
		Shards: []ShardReport{{Shard: 2, Epoch: 9, State: Owning, Slot: 4}, {Shard: 3, Epoch: 1, State: Handing}},
		Epochs: []uint64{0, 8, 9}, Heard: []string{"c", "d"}, Draining: true, Offers: []Offer{{Shard: 3, Epoch: 1}}}
}

// TestReport: what is sent is read, and what cannot be a report is refused.
func TestReport(t *testing.T) {
	want := fullReport()
	body, err := want.Encode()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ReadReport(body)
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, %v; want %+v", got, err, want)
	}
	if has := got.of(2); has == nil || has.next().Slot != 4 || has.next().Epoch != 9 || got.of(1) != nil || !got.of(3).next().IsZero() {
		t.Errorf("of shard 2: %+v, of shard 1: %+v", has, got.of(1))
	}
	for name, bad := range map[string][]byte{
		"garbage":         []byte("{"),
		"no name":         []byte(`{"node":{"boot":"b"}}`),
		"too many shards": []byte(`{"node":{"name":"a"},"epochs":[1` + strings.Repeat(",1", 2000) + `]}`),
		"too long":        bytes.Repeat([]byte(" "), MaxReport+1),
	} {
		if _, err := ReadReport(bad); !errors.Is(err, errReport) {
			t.Errorf("%s: %v", name, err)
		}
	}
	later := bytes.Replace(body, []byte(`{"node"`), []byte(`{"new":{"a":[1]},"node"`), 1)
	if got, err := ReadReport(later); err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("of a later version: %+v, %v", got, err)
	}
}

func FuzzReport(f *testing.F) {
	body, err := fullReport().Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Fuzz(func(t *testing.T, p []byte) {
		r, err := ReadReport(p)
		if err != nil {
			return
		}
		again, err := r.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadReport(again); err != nil && len(again) <= MaxReport {
			t.Fatalf("%q became %q: %v", p, again, err)
		}
	})
}

// TestWant: no node should have more than its part, all nodes agree, and a node that
// comes or goes moves few shards.
func TestWant(t *testing.T) {
	nodes := []candidate{{name: "a"}, {name: "b"}, {name: "c"}, {name: "d"}, {name: "e"}}
	var before [][]string
	for n := 1; n <= len(nodes); n++ {
		all := want(16, nodes[:n])
		load := make(map[string]int)
		moved := 0
		for shard, order := range all {
			load[order[0]]++
			if len(order) != n {
				t.Errorf("%d nodes: %d candidates for shard %d", n, len(order), shard)
			}
			if before != nil && before[shard][0] != order[0] {
				moved++
			}
		}
		for name, has := range load {
			if has < 16/n || has > (16+n-1)/n {
				t.Errorf("%d nodes: %s should have %d", n, name, has)
			}
		}
		if moved > 10 {
			t.Errorf("%d shards move when the %dth node comes", moved, n)
		}
		before = all
	}
	if got := want(3, nil); len(got) != 3 || got[0] != nil {
		t.Errorf("without nodes: %v", got)
	}
}
