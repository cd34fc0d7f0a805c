package cluster

import (
	"testing"
	"testing/synctest"
	"time"
)

// movedTo returns how the shards that a node leads came to it.
func movedTo(h *host) map[Move]int {
	h.mu.Lock()
	l := h.life
	h.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	all := make(map[Move]int)
	for shard, state := range l.owns {
		if state == Owning {
			all[l.came[shard]]++
		}
	}
	return all
}

// TestKnown: a node says how each of its shards came to it, who has the others, and which
// nodes are there or gone.
func TestKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, 4, 1)
		defer w.end()
		one := w.start("one")
		time.Sleep(20 * time.Second)
		if got := movedTo(one); got[Move{First, ""}] != 4 {
			t.Errorf("of a new cluster: %v", got)
		}
		two := w.start("two")
		time.Sleep(time.Minute)
		if got := movedTo(two); got[Move{HandedOver, "one"}] != 2 || len(got) != 1 {
			t.Errorf("beside another node: %v", got)
		}
		known, claims := one.life.manager.Known(), one.life.manager.Claims()
		if len(known) != 1 || known[0].Name != "two" || !known[0].Alive || known[0].Err != nil || known[0].Draining {
			t.Errorf("one knows %+v", known)
		}
		has := make(map[string]int)
		for i, c := range claims {
			if c.Shard != uint32(i) || c.Epoch == 0 {
				t.Errorf("claim %d: %+v", i, c)
			}
			has[c.Owner]++
		}
		if has["one"] != 2 || has["two"] != 2 {
			t.Errorf("one knows the claims %+v", claims)
		}
		two.kill()
		time.Sleep(time.Minute)
		if got := movedTo(one); got[Move{Silent, "two"}] != 2 || got[Move{First, ""}] != 2 {
			t.Errorf("after the other node was killed: %v", got)
		}
		if known = one.life.manager.Known(); len(known) != 1 || known[0].Alive || known[0].Err == nil || time.Since(known[0].Heard) < 50*time.Second {
			t.Errorf("of a node that is gone one knows %+v", known)
		}
		three := w.start("three")
		time.Sleep(time.Minute)
		one.stop()
		time.Sleep(time.Minute)
		if got := movedTo(three); got[Move{HandedOver, "one"}] != 4 || !one.life.manager.Draining() {
			t.Errorf("after the other node was stopped: %v", got)
		}
		one.boot()
		time.Sleep(time.Minute)
		one.kill()
		one.boot()
		time.Sleep(time.Minute)
		if got := movedTo(one); got[Move{Restarted, "one"}] != 2 {
			t.Errorf("after a restart: %v", got)
		}
		one.life.manager.Heard(Report{Node: Node{Name: "one", Boot: "another", Host: "elsewhere"}})
		if host, at := one.life.manager.Namesake(); host != "elsewhere" || time.Since(at) != 0 {
			t.Errorf("a node of the same name: %q, %v", host, at)
		}
	})
}
