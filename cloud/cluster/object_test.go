package cluster

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"
)

// forget deletes the member object of a node that is there.
func (w *world) forget(h *host) (there func() bool) {
	key := memberKey(NodeID(h.name), h.life.manager.node().Member)
	if err := w.disk.Delete(w.t.Context(), key); err != nil {
		w.t.Fatal(err)
	}
	return func() bool { _, err := w.disk.Get(w.t.Context(), key, 0, 1); return err == nil }
}

// lostQuestion lets one question of n0 to n1 go unanswered, while the object of n1 is gone.
func lostQuestion(t *testing.T, without mutations) (claims int) {
	synctest.Test(t, func(t *testing.T) {
		w := cluster(t, 4, 1)
		w.mutations = without
		defer w.end()
		n0, n1 := w.start("n0"), w.start("n1")
		time.Sleep(30 * time.Second)
		w.figures()
		w.forget(n1)
		w.separate(n0.name, n1.name, errLost)
		time.Sleep(w.takeover / 3)
		w.separate(n0.name, n1.name, nil)
		time.Sleep(10 * time.Second)
		claims = w.figures().claims
	})
	return claims
}

// TestLostQuestion: a live owner keeps its shards when its object is gone and one question
// goes unanswered.
func TestLostQuestion(t *testing.T) {
	if n := lostQuestion(t, mutations{}); n > 0 {
		t.Errorf("%d takeovers", n)
	}
}

// TestClaimWithoutObject: a node whose object was deleted makes it again when it takes a
// shard over.
func TestClaimWithoutObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := cluster(t, 4, 1)
		defer w.end()
		n0, n1 := w.start("n0"), w.start("n1")
		time.Sleep(30 * time.Second)
		there := w.forget(n1)
		n0.kill()
		time.Sleep(10 * time.Second)
		if w.figures().none > 0 || !there() {
			t.Errorf("the shards have an owner, and its object is there: %v", there())
		}
	})
}

// TestDamagedShard: a shard that nobody can lead does not keep the others from moving.
func TestDamagedShard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := cluster(t, 8, 1)
		w.damaged = func(shard uint32) bool { return shard == 3 }
		w.idle = func(uint32) bool { return true } // logs that are read fast
		defer w.end()
		var all []*host
		for i := range 3 {
			all = append(all, w.start(fmt.Sprint("n", i)))
		}
		time.Sleep(5 * time.Minute) // each has tried that one again and again
		w.figures()
		all[1].stop()
		time.Sleep(3 * time.Second)
		if f := w.figures(); f.none != 1 || f.moves < 2 {
			t.Errorf("after a node has gone: %+v", f)
		}
		w.start("n3")
		time.Sleep(time.Minute)
		if f := w.figures(); f.loads["n3"] < 2 || f.none != 1 {
			t.Errorf("after a node has come: %+v", f)
		}
	})
}
