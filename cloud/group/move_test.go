package group

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"

	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/storage/weir"
)

// TestMove: random groups that move to another shard and back are what they were.
func TestMove(t *testing.T) {
	moved := 0
	about := make(map[uint16]bool)
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 7))
		c := New(Options{})
		for range 60 {
			kind, body := randomEntry(random)
			if kind == kindCount {
				continue // there is no offsets topic in several shards
			}
			about[kind] = machinetest.Apply(t, c, kind, body)
		}
		moved += machinetest.Split(t, random, c, func() machinetest.Slicer { return New(Options{}) })
	}
	if moved < 20 {
		t.Errorf("only %d of 40 had anything to move", moved)
	}
	if !about[kindCommit] || !about[kindDeleteOffsets] || !about[kindDeleteGroup] || about[kindForgetTopic] {
		t.Errorf("entries of these kinds are about one group: %v", about)
	}
}

// TestMoveCounted: where there is an offsets topic, offsets that come get places in it.
func TestMoveCounted(t *testing.T) {
	one, two := New(Options{}), New(Options{})
	commit := encodeCommit("g", 1, []Offset{{Partition: Partition{[16]byte{1}, 0}, Offset: 5}})
	if err := one.Apply(kindCommit, commit); err != nil {
		t.Fatal(err)
	}
	two.applyCount()
	if err := two.Import(one.Export(sliceOf("g"))); err != nil {
		t.Fatal(err)
	}
	if err := New(Options{}).Restore(two.Snapshot()); err != nil {
		t.Error(err)
	}
}

func sliceOf(group string) (set weir.SliceSet) {
	set.Add(weir.SliceOfGroup(group))
	return set
}

// TestMoveMembers: from the moment on when its slice is closed, nobody gets an answer from
// the old coordinator but that the group is elsewhere: no member joins, and nobody is told
// that there are no offsets. What is on its way is awaited first.
func TestMoveMembers(t *testing.T) {
	run(t, Options{}, func(t *testing.T, w world) {
		ids, generation := w.stable(2)
		offset := []Offset{{Partition: Partition{[16]byte{1}, 0}, Offset: 5}}
		commit := CommitRequest{Group: name, Generation: generation, Identity: Identity{Member: ids[0]}, Offsets: offset}
		gate := make(chan struct{})
		w.j.hold(gate)
		committed := make(chan error, 1)
		go func() {
			_, err := w.Commit(t.Context(), commit)
			committed <- err
		}()
		synctest.Wait()
		closed := make(chan error, 1)
		go func() { closed <- w.CloseSlices(t.Context(), sliceOf(name)) }()
		synctest.Wait()
		if len(closed) > 0 {
			t.Error("closed while a commit was on its way")
		}
		close(gate)
		w.j.hold(nil)
		w.want(<-committed, nil)
		w.want(<-closed, nil)
		w.elsewhere(t, commit)
		w.OpenSlices(sliceOf(name))
		if all, err := w.Offsets(name, nil); err != nil || len(all) != 1 {
			t.Errorf("it has stayed, with %v, %v", all, err)
		}
		rejoin := ask(ids[0])
		waiting := w.join(rejoin) // waits for the other member
		synctest.Wait()
		w.want(w.CloseSlices(t.Context(), sliceOf(name)), nil)
		body := w.Export(sliceOf(name))
		w.Remove(sliceOf(name))
		synctest.Wait()
		w.want(waiting.err, ErrClosed)
		w.elsewhere(t, commit)
		if w.bytes != 0 {
			t.Errorf("%d bytes are counted for groups that have left", w.bytes)
		}
		there := New(Options{})
		there.Serve(&journal{c: there})
		if err := there.Import(body); err != nil {
			t.Fatal(err)
		}
		if all, err := there.Offsets(name, nil); err != nil || len(all) != 1 || all[0].Offset != 5 {
			t.Errorf("the other shard has %v, %v", all, err)
		}
		if _, err := there.Commit(t.Context(), commit); err == nil {
			t.Error("a member of the old coordinator commits at the new one without joining")
		}
		w.want(there.Close(), nil)
	})
}

// elsewhere checks that each request for the group gets ErrClosed.
func (w world) elsewhere(t *testing.T, commit CommitRequest) {
	t.Helper()
	_, offsets := w.Offsets(name, nil)
	_, described := w.Describe(name)
	_, joined := w.Join(t.Context(), ask(""))
	_, committed := w.Commit(t.Context(), commit)
	_, may := w.MayCommit(commit)
	for what, err := range map[string]error{
		"offsets": offsets, "describe": described, "join": joined, "commit": committed, "may commit": may,
		"may fetch": w.MayFetch(name, "", -1), "heartbeat": w.Heartbeat(name, commit.Generation, commit.Identity),
		"delete": w.Delete(t.Context(), name), "delete offsets": w.DeleteOffsets(t.Context(), name, nil),
	} {
		if err != ErrClosed {
			t.Errorf("%s: %v", what, err)
		}
	}
}
