package group

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

func TestOffsets(t *testing.T) {
	at := func(topic byte, index int32, offset int64) Offset {
		return Offset{Partition: Partition{[16]byte{topic}, index}, Offset: offset, LeaderEpoch: 3, Metadata: "käse"}
	}
	run(t, Options{MaxMetadata: 10}, func(t *testing.T, w world) {
		long := at(1, 2, 5)
		long.Metadata = "longer than ten bytes"
		errs, err := w.Commit(t.Context(), CommitRequest{Group: name, Generation: -1, Offsets: []Offset{at(2, 0, 7), at(1, 1, 8), long, at(1, 0, 9)}})
		w.want(err, nil)
		if !slices.Equal(errs, []error{nil, nil, ErrMetadataTooLarge, nil}) {
			t.Fatalf("errors = %v", errs)
		}
		all, err := w.Offsets(name, nil)
		w.want(err, nil)
		if len(all) != 3 || all[0].Offset != 9 || all[1].Offset != 8 || all[2].Offset != 7 || all[2].Metadata != "käse" || all[2].LeaderEpoch != 3 || all[2].CommittedAt == 0 {
			t.Fatalf("offsets = %+v", all)
		}
		some, _ := w.Offsets(name, []Partition{{[16]byte{1}, 1}, {[16]byte{9}, 9}})
		if len(some) != 1 || some[0].Offset != 8 {
			t.Fatalf("some offsets = %+v", some)
		}
		if none, err := w.Offsets("nobody", nil); err != nil || len(none) != 0 {
			t.Fatalf("offsets of nobody = %v, %v", none, err)
		}
		w.state(Empty, 0, 0)

		// A second coordinator that replays the log knows the same.
		c := New(Options{})
		for i, k := range w.j.kinds {
			w.want(c.Apply(k, w.j.bodys[i]), nil)
		}
		c.Serve(w.j)
		again, _ := c.Offsets(name, nil)
		if !slices.Equal(all, again) {
			t.Fatalf("replayed offsets = %+v", again)
		}

		w.want(w.DeleteOffsets(t.Context(), name, []Partition{all[1].Partition}), nil)
		w.want(w.ForgetTopic(t.Context(), [16]byte{2}, ""), nil)
		w.want(w.ForgetTopic(t.Context(), [16]byte{77}, ""), nil)
		if all, _ = w.Offsets(name, nil); len(all) != 1 || all[0].Offset != 9 {
			t.Fatalf("offsets left = %+v", all)
		}
		w.want(w.Delete(t.Context(), "nobody"), ErrUnknownGroup)
		w.want(w.Delete(t.Context(), name), nil)
		w.state(Dead, 0, 0)
	})
}

func TestWhoMayCommit(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		commit := func(generation int32, member string) error {
			_, err := w.Commit(t.Context(), CommitRequest{Group: name, Generation: generation, Identity: Identity{Member: member}, Offsets: []Offset{{Offset: 1}}})
			return err
		}
		w.want(commit(3, "x"), ErrIllegalGeneration) // no such group
		w.want(commit(-1, ""), nil)
		ids, g := w.stable(2)
		w.want(commit(g, ids[1]), nil)
		w.want(commit(g-1, ids[1]), ErrIllegalGeneration)
		w.want(commit(g, "x"), ErrUnknownMember)
		w.want(commit(-1, ""), ErrUnknownMember) // only members, now
		w.want(w.Delete(t.Context(), name), ErrGroupNotEmpty)
		a := w.join(ask(ids[0]))
		synctest.Wait()
		w.want(commit(g, ids[1]), nil) // before it joins again, it may
		b := w.join(ask(ids[1]))
		synctest.Wait()
		if !a.done.Load() || !b.done.Load() {
			t.Fatal("rebalance does not complete")
		}
		w.want(commit(g+1, ids[1]), ErrRebalanceInProgress)
		_, _ = w.Leave(name, []Identity{{Member: ids[0]}, {Member: ids[1]}})
		w.state(Empty, 3, 0)
		w.want(commit(-1, ""), nil)
		w.want(commit(3, ids[0]), ErrUnknownMember)
		w.j.fail = errors.New("fenced")
		w.want(commit(-1, ""), ErrUnavailable)
	})
}

// A commit of the old generation that is still on its way must not land behind
// one of the new.
func TestGenerationWaitsForCommits(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, g := w.stable(1)
		gate := make(chan struct{})
		w.j.hold(gate)
		committed := false
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			_, _ = w.Commit(ctx, CommitRequest{Group: name, Generation: g, Identity: Identity{Member: ids[0]}, Offsets: []Offset{{Offset: 1}}})
			committed = true
		}()
		synctest.Wait()
		cancel() // the client going away changes nothing
		a := w.join(ask(ids[0]))
		time.Sleep(time.Second)
		synctest.Wait()
		if a.done.Load() || committed {
			t.Fatalf("generation began while a commit was flying: %+v", a)
		}
		_, err := w.Commit(t.Context(), CommitRequest{Group: name, Generation: g, Identity: Identity{Member: ids[0]}, Offsets: []Offset{{Offset: 2}}})
		w.want(err, ErrRebalanceInProgress)
		close(gate)
		synctest.Wait()
		if !committed || !a.done.Load() || a.Generation != g+1 {
			t.Fatalf("after the commit landed: %v, %+v", committed, a)
		}
	})
}

func TestApplyRefuses(t *testing.T) {
	c := New(Options{})
	good := encodeCommit("g", 5, []Offset{{Offset: 1, LeaderEpoch: -1}})
	for what, test := range map[string]struct {
		kind uint16
		body []byte
	}{
		"kind":     {199, good},
		"version":  {kindCommit, append([]byte{9}, good[1:]...)},
		"short":    {kindCommit, good[:len(good)-1]},
		"long":     {kindCommit, append(slices.Clone(good), 0)},
		"empty":    {kindDeleteGroup, nil},
		"no topic": {kindForgetTopic, []byte{bodyVersion, 1, 2}},
	} {
		if err := c.Apply(test.kind, test.body); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v, want ErrCorrupt", what, err)
		}
	}
	if len(c.groups) != 0 {
		t.Error("a refused entry changed the state")
	}
}

func FuzzApply(f *testing.F) {
	f.Add(kindCommit, encodeCommit("g", 5, []Offset{{Partition: Partition{[16]byte{1}, 3}, Offset: 1, LeaderEpoch: -1, Metadata: "meta"}}))
	f.Add(kindDeleteOffsets, encodePartitions("g", []Partition{{[16]byte{1}, 3}}))
	f.Add(kindDeleteGroup, encodeName("g"))
	f.Add(kindForgetTopic, encodeTopic([16]byte{1}))
	f.Fuzz(func(t *testing.T, kind uint16, body []byte) {
		if err := New(Options{}).Apply(kind, body); err != nil && !errors.Is(err, ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
