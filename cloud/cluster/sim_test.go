package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// world is a bucket, the network between nodes, and the nodes, in a bubble. What
// runs in it is this package and the real commit log.
type world struct {
	t    *testing.T
	disk storage.Bucket
	busy bool // owners append all the time

	mu      sync.Mutex
	latency time.Duration       // of the bucket: between half of that and one and a half
	cut     map[[2]string]error // who does not reach whom, and how that looks
	nodes   map[string]*host
	served  time.Time     // when an owner last had an append acknowledged, or began
	gap     time.Duration // the longest time between two of those
}

// host is a node: a process that is started again a second after it ended.
type host struct {
	w    *world
	name string

	mu     sync.Mutex
	cancel context.CancelFunc
	role   string        // of the life that runs; "" if none does
	thaw   chan struct{} // closed when it runs; else the process is stopped
	dead   bool          // no life of it reaches the bucket any more
	lives  sync.WaitGroup
}

var errLost = errors.New("no route to host")

func newWorld(t *testing.T) *world {
	return &world{t: t, disk: mem.New(), latency: 4 * time.Millisecond, cut: make(map[[2]string]error), nodes: make(map[string]*host)}
}

// start begins a node that is kept running until stop.
func (w *world) start(name string) *host {
	h := &host{w: w, name: name, thaw: make(chan struct{})}
	close(h.thaw)
	w.mu.Lock()
	w.nodes[name] = h
	w.mu.Unlock()
	h.boot()
	return h
}

func (h *host) boot() {
	ctx, cancel := context.WithCancel(context.Background())
	h.mu.Lock()
	h.cancel, h.dead = cancel, false
	h.mu.Unlock()
	h.lives.Go(func() {
		for ctx.Err() == nil {
			life := h.live(ctx)
			_ = Run(ctx, life)
			h.set("")
			wait(ctx, time.Second)
		}
	})
}

// kill ends the process as SIGKILL does: nothing that it began reaches the bucket.
func (h *host) kill() {
	h.mu.Lock()
	h.dead, h.role = true, ""
	cancel := h.cancel
	h.mu.Unlock()
	cancel()
	h.lives.Wait()
}

func (h *host) set(role string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dead {
		h.role = role
	}
}

func (h *host) freeze() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.thaw = make(chan struct{})
}

func (h *host) resume() {
	h.mu.Lock()
	defer h.mu.Unlock()
	close(h.thaw)
}

// running waits while the process is stopped.
func (h *host) running(ctx context.Context) error {
	h.mu.Lock()
	thaw, dead := h.thaw, h.dead
	h.mu.Unlock()
	if dead {
		return context.Canceled
	}
	select {
	case <-thaw:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// live is the next life of the process.
func (h *host) live(ctx context.Context) Options {
	view := &view{h}
	self := Node{Name: h.name, Addresses: Addresses{Peer: {"": h.name + ".example:7401"}}, Boot: fmt.Sprint(rand.Uint64())}
	h.set("recovering")
	return Options{
		Bucket: view, Self: self, Log: slog.New(slog.DiscardHandler),
		Ask:    func(ctx context.Context, owner Node) (Sign, error) { return h.ask(ctx, owner.Name) },
		Follow: func(context.Context, Node) { h.set("standby") },
		Lead: func(ctx context.Context, self Node, epoch uint64) error {
			h.set("recovering")
			return h.lead(ctx, view, self, epoch)
		},
	}
}

// ask is a question from h to another node.
func (h *host) ask(ctx context.Context, name string) (Sign, error) {
	if err := h.running(ctx); err != nil {
		return Sign{}, err
	}
	w := h.w
	w.mu.Lock()
	to, lost := w.nodes[name], errors.Join(w.cut[[2]string{h.name, name}], w.cut[[2]string{name, h.name}])
	w.mu.Unlock()
	if errors.Is(lost, ErrRefused) {
		return Sign{}, lost
	}
	if lost != nil {
		<-ctx.Done() // packets vanish
		return Sign{}, lost
	}
	to.mu.Lock()
	role := to.role
	to.mu.Unlock()
	if role == "" {
		return Sign{}, ErrRefused
	}
	if err := to.running(ctx); err != nil {
		return Sign{}, err
	}
	if role == "standby" {
		return Sign{}, errors.New("it stands by")
	}
	return Sign{}, nil
}

// lead is an owner as package cloud runs one.
func (h *host) lead(ctx context.Context, view storage.Bucket, self Node, epoch uint64) error {
	info, err := self.Info(1)
	if err != nil {
		return err
	}
	log, err := commitlog.Open(ctx, commitlog.Options{Bucket: view, Node: h.name, Info: info, Epoch: epoch, Log: slog.New(slog.DiscardHandler)})
	if errors.Is(err, commitlog.ErrFenced) {
		return errors.Join(ErrSuperseded, err)
	}
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer log.Close() // it answers waiting calls
	defer cancel()
	h.set("owner")
	h.w.serves()
	if h.w.busy {
		wg.Go(func() { h.write(ctx, log) })
	}
	wg.Go(func() { Answer(ctx, 0, log.Acked, log.Answer, func(string, error) {}) })
	lost := make(chan error, 1)
	wg.Go(func() { lost <- Confirm(ctx, 0, log.Confirm, func(bool) {}) })
	select {
	case err := <-lost:
		return err
	case <-log.Done():
		return log.Err()
	}
}

// write appends all the time.
func (h *host) write(ctx context.Context, log *commitlog.Log) {
	topic, err := log.CreateTopic(ctx, "t", 1, nil)
	if err != nil && !errors.Is(err, commitlog.ErrTopicExists) {
		return
	}
	for ctx.Err() == nil {
		b := record.NewBuilder(record.None)
		if err := b.Append(&record.Record{Timestamp: 1, Value: []byte("v")}); err != nil {
			panic(err)
		}
		batch, err := b.Build()
		if err != nil {
			panic(err)
		}
		done := make(chan error, 1)
		log.Append(commitlog.Append{Topic: topic.ID, Batch: batch}, func(_ int64, err error) { done <- err })
		if <-done == nil {
			h.w.serves()
		}
		wait(ctx, 200*time.Millisecond)
	}
}

// serves records which node is the owner.
func (w *world) serves() {
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if !w.served.IsZero() {
		w.gap = max(w.gap, now.Sub(w.served))
	}
	w.served = now
}

// view is the bucket as a node reaches it.
type view struct{ h *host }

func (v *view) reach(ctx context.Context) error {
	if err := v.h.running(ctx); err != nil {
		return err
	}
	v.h.w.mu.Lock()
	d := v.h.w.latency
	v.h.w.mu.Unlock()
	wait(ctx, d/2+rand.N(d))
	return v.h.running(ctx)
}

func (v *view) Create(ctx context.Context, key string, body []byte) error {
	if err := v.reach(ctx); err != nil {
		return err
	}
	return v.h.w.disk.Create(ctx, key, body)
}

func (v *view) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := v.reach(ctx); err != nil {
		return nil, err
	}
	return v.h.w.disk.Get(ctx, key, off, n)
}

func (v *view) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := v.reach(ctx); err != nil {
		return nil, err
	}
	return v.h.w.disk.List(ctx, prefix, after, max)
}

func (v *view) Delete(ctx context.Context, keys ...string) error {
	if err := v.reach(ctx); err != nil {
		return err
	}
	return v.h.w.disk.Delete(ctx, keys...)
}

// separate makes every question between two nodes end so.
func (w *world) separate(a, b string, how error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]string{a, b}] = how
}

func (w *world) claims() uint64 {
	claim, _, err := journal.NewestClaim(context.Background(), w.disk, 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return claim.Epoch
}

func (w *world) owner() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, h := range w.nodes {
		h.mu.Lock()
		role := h.role
		h.mu.Unlock()
		if role == "owner" {
			return name
		}
	}
	return ""
}

// TestPlacement plays what may happen to two or three nodes for ten minutes each,
// and counts the claims: each one more than needed is a recovery, and a moment
// without an owner, for nothing.
func TestPlacement(t *testing.T) {
	const T = DefaultTakeover
	for name, c := range map[string]struct {
		play   func(w *world, a, b *host)
		most   uint64        // claims after the first
		least  uint64        // of those
		gap    time.Duration // without an owner, at most; 0: any. Measured while busy
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
				time.Sleep(rand.N(10 * time.Second))
				w.separate("b", "a", nil)
				time.Sleep(rand.N(5 * time.Second))
			}
		}},
		"killed": {least: 1, most: 1, gap: 3 * T / 2, play: func(w *world, a, b *host) {
			time.Sleep(rand.N(time.Second))
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
				if w.owner() == "b" {
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
				for range rounds() {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.busy = busy
						a := w.start("a")
						time.Sleep(time.Second)
						b := w.start("b")
						nodes := []*host{a, b}
						if c.third {
							nodes = append(nodes, w.start("c"))
						}
						defer func() { // else the bubble never ends
							for _, h := range nodes {
								h.kill()
							}
						}()
						time.Sleep(10 * time.Second)
						before := w.claims()
						w.mu.Lock()
						w.gap = 0
						w.mu.Unlock()
						c.play(w, a, b)
						time.Sleep(10 * time.Minute)
						if n := w.claims() - before; n < c.least || n > c.most {
							t.Errorf("%d claims, want %d to %d", n, c.least, c.most)
						}
						if w.owner() == "" {
							t.Error("nobody leads")
						}
						w.mu.Lock()
						if busy && c.gap > 0 && w.gap > c.gap {
							t.Errorf("nobody served for %v", w.gap)
						}
						w.mu.Unlock()
					})
				}
			})
		}
	}
}

// rounds is how often each scene is played.
func rounds() int {
	if os.Getenv("WEIR_SOAK") != "" {
		return 50
	}
	return 1
}
