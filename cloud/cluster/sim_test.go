package cluster

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"
)

// TestPlacement plays what may happen to two or three nodes and one shard for ten
// minutes each, and counts the claims: each one more than needed is a recovery, and a moment
// without an owner, for nothing.
func TestPlacement(t *testing.T) {
	const T = DefaultTakeover
	for name, c := range map[string]struct {
		play   func(w *world, a, b *host)
		most   int           // claims after the first
		least  int           // of those
		gap    time.Duration // without an owner, at most; 0: any
		onlyIf string        // "busy" or "idle": else both
		third  bool          // a third node stands by
	}{
		"nothing":       {play: func(w *world, a, b *host) {}},
		"cut":           {play: func(w *world, a, b *host) { w.separate("b", "a", errLost) }},
		"cut other way": {play: func(w *world, a, b *host) { w.separate("a", "b", errLost) }},
		"firewall":      {play: func(w *world, a, b *host) { w.separate("b", "a", ErrRefused) }},
		"cut from one":  {third: true, play: func(w *world, a, b *host) { w.separate("b", "a", errLost) }},
		"cut, slow bucket": {play: func(w *world, a, b *host) {
			w.mu.Lock()
			w.latency = 400 * time.Millisecond
			w.mu.Unlock()
			w.separate("b", "a", errLost)
		}},
		"cut again and again": {play: func(w *world, a, b *host) {
			for range 40 {
				w.separate("b", "a", errLost)
				time.Sleep(w.random(10 * time.Second))
				w.separate("b", "a", nil)
				time.Sleep(w.random(5 * time.Second))
			}
		}},
		"killed": {least: 1, most: 1, gap: 3 * T / 2, play: func(w *world, a, b *host) {
			time.Sleep(w.random(time.Second))
			a.kill()
			time.Sleep(time.Minute)
			a.boot() // and stands by
		}},
		"restarted":     {least: 1, most: 1, gap: T / 2, play: func(w *world, a, b *host) { a.kill(); a.boot() }},
		"killed in cut": {least: 1, most: 1, gap: 2 * T, play: func(w *world, a, b *host) { w.separate("b", "a", errLost); time.Sleep(time.Minute); a.kill() }},
		"frozen": {least: 1, most: 1, gap: 2 * T, play: func(w *world, a, b *host) {
			a.freeze()
			time.Sleep(time.Minute)
			a.resume()
		}},
		"frozen for a moment": {play: func(w *world, a, b *host) { a.freeze(); time.Sleep(T / 2); a.resume() }},
		"standby frozen":      {play: func(w *world, a, b *host) { b.freeze(); time.Sleep(time.Minute); b.resume() }},
		"killed by turns": {least: 3, most: 3, gap: 10 * T, play: func(w *world, a, b *host) {
			for range 3 {
				h := a
				if w.owner(0) == "b" {
					h = b
				}
				h.kill()
				time.Sleep(time.Minute)
				h.boot()
				time.Sleep(time.Minute)
			}
		}},
	} {
		for _, busy := range []bool{false, true} {
			kind := map[bool]string{false: "idle", true: "busy"}[busy]
			if c.onlyIf != "" && c.onlyIf != kind {
				continue
			}
			t.Run(name+"/"+kind, func(t *testing.T) {
				for range rounds(50) {
					synctest.Test(t, func(t *testing.T) {
						seed := rand.Uint64()
						t.Logf("seed %d", seed)
						w := newWorld(t, 1, seed)
						w.idle = func(uint32) bool { return !busy }
						defer w.end()
						a := w.start("a")
						time.Sleep(time.Second)
						b := w.start("b")
						if c.third {
							w.start("c")
						}
						time.Sleep(10 * time.Second)
						w.figures()
						c.play(w, a, b)
						time.Sleep(10 * time.Minute)
						f := w.figures()
						if n := f.claims + f.moves; n < c.least || n > c.most {
							t.Errorf("%d claims, want %d to %d", n, c.least, c.most)
						}
						if f.none > 0 {
							t.Error("nobody leads")
						}
						if c.gap > 0 && f.gap > c.gap {
							t.Errorf("nobody served for %v", f.gap)
						}
					})
				}
			})
		}
	}
}
