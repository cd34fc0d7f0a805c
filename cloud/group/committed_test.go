package group

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// A consumer group counts as what administrators see it to be.
func TestListOfConsumers(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		w.j.topic("t", 4)
		w.calm(w.client("m", "t"))
		if l, err := w.List(); err != nil || len(l) != 1 || l[0].Members != 1 || l[0].State != Stable {
			t.Errorf("%+v, %v", l, err)
		}
	})
}

func TestListStates(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		check := func(when string, members int, want map[State]int) {
			t.Helper()
			list, err := w.List()
			states, counted := make(map[State]int), 0
			for _, l := range list {
				states[l.State]++
				counted += l.Members
			}
			if err != nil || counted != members || !maps.Equal(states, want) {
				t.Errorf("%s: %+v, %v; want %v with %d members", when, list, err, want, members)
			}
		}
		check("without groups", 0, map[State]int{})
		w.commit("offsets only", Offset{})
		w.stable(2)
		w.j.topic("t", 4)
		for _, member := range []string{"first", "second"} {
			r := w.client(member, "t").joining()
			r.Group = "consumers"
			_, err := w.ConsumerHeartbeat(r)
			w.want(err, nil)
		}
		check("one of each", 4, map[State]int{Empty: 1, Stable: 1, Reconciling: 1})
		for _, member := range []string{"first", "second"} {
			r := w.client(member, "t").joining()
			r.Group, r.Epoch = "consumers", leaveEpoch
			_, err := w.ConsumerHeartbeat(r)
			w.want(err, nil)
		}
		check("the consumers have left", 2, map[State]int{Empty: 1, Stable: 1})
		w.want(w.Close(), nil)
		if _, err := w.List(); err == nil {
			t.Error("a coordinator that is closed lists groups")
		}
	})
}

// commit is one by no member.
func (w world) commit(group string, of ...Offset) {
	w.t.Helper()
	_, err := w.Commit(w.t.Context(), CommitRequest{Group: group, Generation: -1, Offsets: of})
	w.want(err, nil)
}

func TestEachCommitted(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		at := func(topic byte, index int32, offset int64) Position {
			return Position{Partition{[16]byte{topic}, index}, offset}
		}
		want := map[string][]Position{"one": {at(1, 0, 5), at(1, 1, 6), at(2, 0, 7)}, "two": {at(1, 0, 8)}}
		for name, positions := range want {
			var of []Offset
			for _, p := range positions {
				of = append(of, Offset{Partition: p.Partition, Offset: p.Offset, Metadata: "m"})
			}
			w.commit(name, of...)
		}
		w.stable(2) // a group without offsets
		all := func() map[string][]Position {
			got := make(map[string][]Position)
			w.want(w.EachCommitted(func(name string, committed []Position) {
				w.commit("comes meanwhile", Offset{}) // nothing is locked
				slices.SortFunc(committed, func(a, b Position) int { return comparePartitions(a.Partition, b.Partition) })
				got[name] = slices.Clone(committed)
			}), nil)
			return got
		}
		if got := all(); !maps.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%v, want %v", got, want)
		}
		w.want(w.Delete(t.Context(), "comes meanwhile"), nil)
		w.want(w.ForgetTopic(t.Context(), [16]byte{1}, ""), nil)
		if got := all(); len(got) != 1 || !slices.Equal(got["one"], want["one"][2:]) {
			t.Errorf("%v when a topic is gone", got)
		}
		w.want(w.Close(), nil)
		if err := w.EachCommitted(func(string, []Position) { t.Error("called") }); err == nil || !strings.Contains(err.Error(), "closed") {
			t.Errorf("closed: %v", err)
		}
	})
}
