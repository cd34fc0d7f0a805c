package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/mem"
)

// world is a bucket, the network between nodes, and the nodes, in a bubble. What
// runs in it is this package and the real journal.
type world struct {
	t         *testing.T
	r         *rand.Rand // guarded by mu
	disk      storage.Bucket
	shards    uint32
	takeover  time.Duration
	idle      func(shard uint32) bool // whose owner has nothing to write
	mutations mutations
	recovery  time.Duration           // that the log of a shard takes, besides what the bucket takes
	unable    string                  // a node that claims and then fails
	damaged   func(shard uint32) bool // that nobody can lead; nil: none
	roles     map[string]Roles        // of nodes that do not have all
	succeeds  successor               // what happens in a hand-over; nil: nothing
	earlier   bool                    // the nodes do not know hand-overs in steps
	revoked   string                  // a node that all others know to be revoked; guarded by mu

	mu      sync.Mutex
	latency time.Duration       // of the bucket: between half of that and one and a half
	tail    bool                // and a hundredth of its calls take up to 300 ms
	loss    float64             // of questions between nodes
	cut     map[[2]string]error // who does not reach whom, and how that looks
	nodes   map[string]*host
	claims  []claimMade
	lost    int // claims that were begun and lost
	gap     time.Duration
	unowned map[uint32]time.Duration // for how long now, of each shard
	done    chan struct{}
	wg      sync.WaitGroup
}

type claimMade struct {
	shard  uint32
	node   string
	handed bool
}

// host is a node: a process that is started again a second after it ended.
type host struct {
	w        *world
	name     string
	counters Counters

	mu     sync.Mutex
	cancel context.CancelFunc
	life   *life         // the process that runs, or ran last
	thaw   chan struct{} // closed when it runs; else the process is stopped
	lives  sync.WaitGroup
}

// life is a process, and the bucket as it reaches it.
type life struct {
	h       *host
	manager *Manager
	killed  chan struct{} // closed when it reaches nothing any more

	mu    sync.Mutex
	up    bool
	owns  map[uint32]State
	logs  map[uint32]*journal.Journal // that it leads
	ended map[uint32]*journal.Journal // that it has handed over
	came  map[uint32]Move             // of the shards that it has led
}

var (
	errLost   = errors.New("no route to host")
	errUnable = errors.New("log cannot be read here")
)

func newWorld(t *testing.T, shards uint32, seed uint64) *world {
	w := &world{t: t, r: rand.New(rand.NewPCG(seed, 1)), disk: mem.New(), shards: shards, takeover: DefaultTakeover, latency: 4 * time.Millisecond,
		idle: func(uint32) bool { return true }, cut: make(map[[2]string]error), nodes: make(map[string]*host), unowned: make(map[uint32]time.Duration), done: make(chan struct{})}
	w.wg.Go(w.measure)
	return w
}

// end kills all nodes: else the bubble never ends.
func (w *world) end() {
	close(w.done)
	w.wg.Wait()
	for _, h := range w.nodes {
		h.kill()
	}
	for _, h := range w.nodes {
		h.lives.Wait()
	}
}

// start begins a node that is kept running until kill.
func (w *world) start(name string) *host {
	h := &host{w: w, name: name, thaw: make(chan struct{})}
	close(h.thaw)
	h.boot()
	w.mu.Lock()
	w.nodes[name] = h
	w.mu.Unlock()
	return h
}

func (h *host) boot() {
	ctx, cancel := context.WithCancel(context.Background())
	killed := make(chan struct{})
	first := h.begin(killed)
	h.mu.Lock()
	h.cancel = cancel
	h.mu.Unlock()
	h.lives.Go(func() {
		for l := first; ; l = h.begin(killed) {
			_ = l.manager.Run(ctx)
			l.end()
			if wait(ctx, time.Second); ctx.Err() != nil {
				return
			}
		}
	})
}

// begin starts a process.
func (h *host) begin(killed chan struct{}) *life {
	l := &life{h: h, killed: killed, up: true, owns: make(map[uint32]State), came: make(map[uint32]Move), logs: make(map[uint32]*journal.Journal), ended: make(map[uint32]*journal.Journal)}
	l.manager = New(l.options())
	h.mu.Lock()
	defer h.mu.Unlock()
	h.life = l
	return l
}

func (l *life) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.up = false
	clear(l.owns)
}

// kill ends the process as SIGKILL does: nothing that it began reaches the bucket.
func (h *host) kill() {
	h.mu.Lock()
	l, cancel := h.life, h.cancel
	h.mu.Unlock()
	select {
	case <-l.killed:
	default:
		close(l.killed)
	}
	l.end()
	cancel()
}

// stop ends the process as SIGTERM does.
func (h *host) stop() {
	h.mu.Lock()
	l, cancel := h.life, h.cancel
	h.mu.Unlock()
	ctx, done := context.WithTimeout(context.Background(), 30*time.Second)
	defer done()
	l.manager.Drain(ctx)
	cancel()
	h.lives.Wait()
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
func (l *life) running() error {
	l.h.mu.Lock()
	thaw := l.h.thaw
	l.h.mu.Unlock()
	select {
	case <-l.killed:
		return context.Canceled
	default:
	}
	select {
	case <-thaw:
		return nil
	case <-l.killed:
		return context.Canceled
	}
}

func (h *host) frozen() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	select {
	case <-h.thaw:
		return false
	default:
		return true
	}
}

func (l *life) set(shard uint32, state State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.up {
		l.owns[shard] = state
	}
}

func (l *life) state(shard uint32) State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.owns[shard]
}

func (l *life) options() ManagerOptions {
	h, w := l.h, l.h.w
	w.mu.Lock()
	boot := fmt.Sprint(w.r.Uint64())
	w.mu.Unlock()
	self := Node{ID: NodeID(h.name), Name: h.name, Addresses: Addresses{Peer: {"": h.name + ".example:7401"}}, Boot: boot, Roles: w.roles[h.name]}
	return ManagerOptions{
		Bucket: l, Self: self, Log: slog.New(slog.DiscardHandler), Shards: w.count, Takeover: w.takeover,
		Ask:    func(ctx context.Context, to Node, mine Report) (Report, error) { return l.ask(ctx, to.Name, mine) },
		Follow: func(context.Context, uint32, Node, uint64) {},
		Progress: func(shard uint32) (State, journal.Position) {
			if j := l.log(shard); j != nil {
				return l.state(shard), journal.Position{Epoch: j.Epoch()}
			}
			return l.state(shard), journal.Position{}
		},
		Lead: func(ctx context.Context, shard uint32, self Node, epoch uint64, c Candidate) error {
			l.set(shard, Recovering)
			l.mu.Lock()
			l.came[shard] = self.Move
			l.mu.Unlock()
			defer l.set(shard, "")
			return l.lead(ctx, shard, self, epoch, c)
		},
		Prepare: l.prepare, HandOver: l.handOver, Succeed: l.succeed,
		Revoked: func(node string) bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return node == w.revoked && node != h.name
		},
		Counters: &h.counters, mutations: w.mutations, random: w.random,
	}
}

// random returns a time below d.
func (w *world) random(d time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Duration(w.r.Int64N(int64(d)))
}

// travel is a packet on its way from one node to another.
func (w *world) travel(ctx context.Context, from, to string) error {
	w.mu.Lock()
	lost, delay := w.cut[[2]string{from, to}], time.Duration(1+w.r.IntN(10))*time.Millisecond
	if w.r.Float64() < w.loss {
		lost = errLost
	}
	w.mu.Unlock()
	if errors.Is(lost, ErrRefused) {
		return lost
	}
	if lost != nil {
		<-ctx.Done() // packets vanish
		return lost
	}
	wait(ctx, delay)
	return ctx.Err()
}

// ask is a question to another node.
func (l *life) ask(ctx context.Context, name string, mine Report) (answer Report, err error) {
	err = l.call(ctx, name, func(other *life) error {
		answer = other.manager.Heard(mine)
		return nil
	})
	return answer, err
}

// call is a request to another node, and its answer.
func (l *life) call(ctx context.Context, name string, answers func(other *life) error) error {
	if err := l.running(); err != nil {
		return err
	}
	w, from := l.h.w, l.h.name
	if err := w.travel(ctx, from, name); err != nil {
		return err
	}
	w.mu.Lock()
	to := w.nodes[name]
	w.mu.Unlock()
	to.mu.Lock()
	other, thaw := to.life, to.thaw
	to.mu.Unlock()
	other.mu.Lock()
	up := other.up
	other.mu.Unlock()
	if !up {
		return ErrRefused
	}
	select {
	case <-thaw:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := answers(other); err != nil {
		return err
	}
	if err := other.running(); err != nil { // it was killed before it could answer
		return errLost
	}
	if err := w.travel(ctx, name, from); err != nil {
		return err
	}
	return l.running()
}

// nothing is a journal.State.
type nothing struct{}

func (nothing) Apply(journal.Position, []journal.Entry) error { return nil }

func (nothing) Restore(journal.Position, []byte) error { return nil }

// traffic is what clients write.
func traffic(ctx context.Context, j *journal.Journal) {
	for ctx.Err() == nil {
		if _, err := j.Write([]journal.Entry{{Kind: 1, Body: []byte("v")}}); err != nil {
			return
		}
		wait(ctx, 700*time.Millisecond)
	}
}

// lead is an owner as package cloud runs one.
func (l *life) lead(ctx context.Context, shard uint32, self Node, epoch uint64, c Candidate) error {
	j, err := l.open(ctx, shard, self, epoch, c)
	switch {
	case errors.Is(err, journal.ErrFenced):
		l.h.w.mu.Lock()
		l.h.w.lost++
		l.h.w.mu.Unlock()
		return errors.Join(ErrSuperseded, err)
	case err != nil && ctx.Err() != nil:
		return nil
	case err != nil:
		return err
	}
	l.setLog(shard, j)
	defer l.setLog(shard, nil)
	l.set(shard, Owning)
	l.manager.Serves()
	inner, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	if !l.h.w.idle(shard) {
		wg.Go(func() { traffic(inner, j) })
	}
	wg.Go(func() {
		Answer(inner, l.h.w.takeover, func() journal.Position { return journal.Position{} }, func(ctx context.Context) (string, bool, error) {
			who, asked, err := j.Asked(ctx)
			if asked {
				_, err = j.Write([]journal.Entry{{Kind: 1, Body: []byte("here")}})
			}
			return who, asked, err
		}, func(string, error) {})
	})
	lost := make(chan error, 1)
	wg.Go(func() {
		lost <- Confirm(inner, l.h.w.takeover, j.Confirm, func(doubt bool) {
			l.set(shard, map[bool]State{true: Doubting, false: Owning}[doubt])
		})
	})
	select {
	case err = <-lost:
	case <-j.Done():
		err = j.Err()
	}
	l.set(shard, Recovering) // it serves nothing any more
	cancel()
	closed := j.Close()
	wg.Wait()
	if errors.Is(j.Err(), journal.ErrYielded) {
		l.mu.Lock()
		l.ended[shard] = j
		l.mu.Unlock()
		return nil
	}
	if err == nil && ctx.Err() == nil {
		err = closed
	}
	return err
}

func (l *life) reach(ctx context.Context) error {
	w := l.h.w
	if err := l.running(); err != nil {
		return err
	}
	w.mu.Lock()
	d := w.latency/2 + time.Duration(w.r.Int64N(int64(w.latency)))
	if w.tail && w.r.IntN(100) == 0 {
		d += 100*time.Millisecond + time.Duration(w.r.Int64N(int64(200*time.Millisecond)))
	}
	broken := errors.Is(w.cut[[2]string{l.h.name, "bucket"}], errLost)
	w.mu.Unlock()
	if broken {
		wait(ctx, time.Second)
		return errors.Join(errLost, ctx.Err())
	}
	wait(ctx, d)
	return l.running()
}

func (l *life) Create(ctx context.Context, key string, body []byte) error {
	if err := l.reach(ctx); err != nil {
		return err
	}
	err := l.h.w.disk.Create(ctx, key, body)
	if shard, _, is := strings.Cut(key, "/epoch/"); is && err == nil {
		var n uint32
		fmt.Sscanf(shard, "%d", &n)
		l.h.w.mu.Lock()
		defer l.h.w.mu.Unlock()
		l.h.w.claims = append(l.h.w.claims, claimMade{n, l.h.name, bytes.Contains(body, []byte(`"handed":true`))})
	}
	return err
}

func (l *life) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := l.reach(ctx); err != nil {
		return nil, err
	}
	return l.h.w.disk.Get(ctx, key, off, n)
}

func (l *life) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := l.reach(ctx); err != nil {
		return nil, err
	}
	return l.h.w.disk.List(ctx, prefix, after, max)
}

func (l *life) Delete(ctx context.Context, keys ...string) error {
	if err := l.reach(ctx); err != nil {
		return err
	}
	return l.h.w.disk.Delete(ctx, keys...)
}

// separate makes every question from one node to another end so; nil: it arrives.
func (w *world) separate(from, to string, how error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut[[2]string{from, to}] = how
}

// part cuts the network between two nodes, or mends it.
func (w *world) part(a, b string, how error) {
	w.separate(a, b, how)
	w.separate(b, a, how)
}

// owner returns which running node serves a shard, "" if none does.
func (w *world) owner(shard uint32) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name, h := range w.nodes {
		h.mu.Lock()
		l := h.life
		h.mu.Unlock()
		if l.state(shard) == Owning && !h.frozen() {
			return name
		}
	}
	return ""
}

// measure finds the longest time without an owner, over all shards.
func (w *world) measure() {
	const step = 100 * time.Millisecond
	tick := time.NewTicker(step)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-w.done:
			return
		}
		for shard := range w.count() {
			served := w.owner(shard) != ""
			w.mu.Lock()
			if served {
				w.unowned[shard] = 0
			} else {
				w.unowned[shard] += step
				w.gap = max(w.gap, w.unowned[shard])
			}
			w.mu.Unlock()
		}
	}
}

// figures are what happened since the last call.
type figures struct {
	claims int // by takeover
	moves  int // claims by agreement with the owner before
	lost   int // claims that another node was faster with
	asks   int // questions in the bucket, since the beginning
	gap    time.Duration
	loads  map[string]int // shards of each node that runs
	none   int            // shards that nobody serves
	wrong  int            // shards whose owner does not have the roles for them
}

func (w *world) figures() figures {
	f := figures{loads: make(map[string]int)}
	for shard := range w.count() {
		if name := w.owner(shard); name != "" {
			f.loads[name]++
			if !w.roles[name].Has(needed(shard, w.count())) {
				f.wrong++
			}
		} else {
			f.none++
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.claims {
		if c.handed {
			f.moves++
		} else {
			f.claims++
		}
	}
	f.lost, f.gap = w.lost, w.gap
	for name, h := range w.nodes {
		f.asks += int(h.counters.Asks.Load())
		h.mu.Lock()
		if h.life.mu.Lock(); h.life.up {
			f.loads[name] += 0
		}
		h.life.mu.Unlock()
		h.mu.Unlock()
	}
	w.claims, w.lost, w.gap = nil, 0, 0
	clear(w.unowned)
	return f
}

// rounds is how often each scene is played.
func rounds(soak int) int {
	if soaks() {
		return soak
	}
	return 1
}

// soaks reports whether tests may take long.
func soaks() bool { return os.Getenv("WEIR_SOAK") != "" }
