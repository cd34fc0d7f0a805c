package cluster

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// count is the number of shards of the cluster.
func (w *world) count() uint32 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.shards
}

// grow gives the cluster another shard.
func (w *world) grow() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.shards++
}

func (h *host) manager() *Manager {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.life.manager
}

// TestCreate: a node leads a shard that the cluster does not have yet, and no other does.
// When the cluster has it, it is a shard like any other.
func TestCreate(t *testing.T) {
	for _, shards := range []uint32{1, 4} {
		synctest.Test(t, func(t *testing.T) {
			w := cluster(t, shards, uint64(shards))
			defer w.end()
			a, b := w.start("a"), w.start("b")
			time.Sleep(30 * time.Second)
			had := w.figures()
			if _, err := a.manager().Create(shards + 1); err == nil {
				t.Error("a shard is created that is not the next one")
			}
			release, err := a.manager().Create(shards)
			if err != nil {
				t.Fatal(err)
			}
			_, hold := a.manager().Hold(t.Context(), shards)
			time.Sleep(5 * time.Second)
			if owner := w.owner(shards); owner != "a" {
				t.Errorf("the new shard is served by %q", owner)
			}
			if _, err := a.manager().Create(shards); err == nil {
				t.Error("it is created twice")
			}
			release() // it has not become part of the cluster
			if owner := w.owner(shards); owner != "" {
				t.Errorf("%q serves a shard that was given up", owner)
			}
			if f := w.figures(); f.moves > had.moves || f.none > 0 {
				t.Errorf("shards have moved: %+v, before %+v", f, had)
			}

			release, err = b.manager().Create(shards) // another node tries again
			if err != nil {
				t.Fatal(err)
			}
			time.Sleep(30 * time.Second)
			if owner := w.owner(shards); owner != "b" {
				t.Fatalf("the new shard is served by %q", owner)
			}
			w.grow()
			release()
			hold()
			time.Sleep(30 * time.Second)
			f := w.figures()
			if f.none > 0 || f.loads["a"] > f.loads["b"]+1 || f.loads["b"] > f.loads["a"]+1 {
				t.Errorf("the cluster with another shard: %+v", f)
			}
			b.kill()
			a.kill()
			w.start("c")
			time.Sleep(time.Minute)
			if f := w.figures(); f.none > 0 {
				t.Errorf("after a crash of all: %+v", f)
			}
		})
	}
}

// TestHold: no shard is handed over while it is held.
func TestHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := cluster(t, 4, 1)
		defer w.end()
		a := w.start("a")
		time.Sleep(30 * time.Second)
		_, release := a.manager().Hold(t.Context(), 0)
		w.start("b")
		time.Sleep(30 * time.Second)
		if f := w.figures(); f.loads["a"] != 4 {
			t.Errorf("shards are handed over: %+v", f)
		}
		release()
		time.Sleep(30 * time.Second)
		if f := w.figures(); f.loads["a"] != 2 || f.none > 0 {
			t.Errorf("shards are not handed over: %+v", f)
		}
	})
}

// TestDrainHeld: a node that drains tells those who hold shards, hands over the others, and
// waits for these, of which one is no part of the cluster yet.
func TestDrainHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := cluster(t, 4, 1)
		defer w.end()
		a := w.start("a")
		time.Sleep(30 * time.Second)
		end, err := a.manager().Create(4)
		if err != nil {
			t.Fatal(err)
		}
		held, release := a.manager().Hold(t.Context(), 0, 4)
		w.start("b")
		time.Sleep(30 * time.Second)
		if held.Err() != nil {
			t.Error("the holder is told before the node drains")
		}
		stopped := make(chan struct{})
		go func() {
			defer close(stopped)
			a.stop()
		}()
		time.Sleep(10 * time.Second)
		if cause := context.Cause(held); !errors.Is(cause, ErrDrains) {
			t.Errorf("the holder is told %v", cause)
		}
		for shard, want := range []string{"a", "b", "b", "b", "a"} {
			if got := w.owner(uint32(shard)); got != want {
				t.Errorf("shard %d is served by %q, not %q", shard, got, want)
			}
		}
		w.grow()
		time.Sleep(5 * time.Second) // b hears of it
		end()
		release()
		<-stopped
		for shard := range uint32(5) {
			if got := w.owner(shard); got != "b" {
				t.Errorf("shard %d is served by %q", shard, got)
			}
		}
		if again, release := a.manager().Hold(t.Context(), 0); !errors.Is(context.Cause(again), ErrDrains) {
			t.Error("who holds a shard of a node that drains is not told")
		} else {
			release()
		}
	})
}
