package journal

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io/fs"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

var (
	seedFlag = flag.Uint64("journal.seed", envSeed(), "run only this random schedule (also WEIR_SEED)")
	runsFlag = flag.Int("journal.runs", 400, "random schedules to run")
)

func envSeed() uint64 {
	seed, _ := strconv.ParseUint(os.Getenv("WEIR_SEED"), 10, 64)
	return seed
}

// TestRandomSchedules runs two or three nodes that fight for one shard over a
// bucket that loses answers, delays writes and lets them land long after their
// writer died. A run is determined by its seed.
func TestRandomSchedules(t *testing.T) {
	first, runs := rand.Uint64()>>16, storagetest.Rounds(*runsFlag)
	if *seedFlag != 0 {
		first, runs = *seedFlag, 1
	}
	t.Logf("seeds %d … %d", first, first+uint64(runs)-1)
	var sum tally
	for seed := first; seed < first+uint64(runs); seed++ {
		w := simulate(t, seed, mutations{}, caller{})
		if len(w.faults) > 0 {
			for _, f := range w.faults {
				t.Error(f)
			}
			t.Fatalf("seed %d: run it again with -journal.seed=%d -v", seed, seed)
		}
		sum.add(w.tally)
	}
	t.Logf("%d runs: %+v", runs, sum)
	if sum.Acked == 0 {
		t.Error("nothing was acknowledged")
	}
}

// A seed determines a run: all that is drawn depends on the seed and on who makes
// which call at what time, and no two things that could matter to each other happen
// at one instant.
func TestSeedDeterminesRun(t *testing.T) {
	for seed := range uint64(storagetest.Rounds(100)) {
		a, b := simulate(t, seed, mutations{}, caller{}), simulate(t, seed, mutations{}, caller{})
		if a.tally != b.tally {
			t.Errorf("seed %d: %+v, then %+v", seed, a.tally, b.tally)
		}
	}
}

// world is one run.
type world struct {
	seed      uint64
	mutations mutations
	caller    caller
	disk      *mem.Bucket
	log       *slog.Logger
	storm     float64 // how bad the weather is, 0…1

	mu        sync.Mutex
	late      []straggler // guarded by mu; what may still land
	histories []*history  // guarded by mu; one per process that ever lived
	saves     []save      // guarded by mu; what checkpoints hold: the bodies are numbers of these
	waiting   []*offer    // guarded by mu; candidates that a hand-over may choose
	faults    []string    // guarded by mu; what must not be
	tally     tally       // guarded by mu
}

// simulate runs the schedule of a seed and judges it.
func simulate(t *testing.T, seed uint64, m mutations, c caller) *world {
	w := &world{seed: seed, mutations: m, caller: c, disk: mem.New(), log: slog.New(slog.DiscardHandler)}
	if *seedFlag != 0 {
		w.log = slog.New(slog.NewTextHandler(t.Output(), nil))
	}
	rng := w.draw("world")
	w.storm = rng.Float64() * rng.Float64()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute+upTo(rng, time.Minute))
		defer cancel()
		var wg sync.WaitGroup
		for n := range 2 + rng.IntN(2) {
			wg.Go(func() { w.node(ctx, fmt.Sprintf("node%d", n)) })
		}
		wg.Go(func() { w.reader(ctx) })
		wg.Wait()
		w.audit(t.Context())
	})
	return w
}

// node lives and dies again and again.
func (w *world) node(ctx context.Context, name string) {
	rng := w.draw(name)
	for n := 0; sleep(ctx, upTo(rng, 8*time.Second)); n++ {
		w.live(ctx, fmt.Sprintf("%s.%d", name, n), name, time.Second+upTo(rng, 40*time.Second))
	}
}

// lag is between the crash of a process, the end of what it is doing and the end
// of its journal, as far as there are all three. Of what happens at one instant of
// a bubble's time the scheduler chooses the order.
const lag = time.Millisecond

// live is one process, from its start to its end.
func (w *world) live(ctx context.Context, id, name string, span time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	rng, h := w.draw(id), w.process(id)
	life, kill := context.WithCancel(context.Background())
	defer kill()
	if rng.IntN(2) == 0 {
		defer time.AfterFunc(span-lag, func() { w.kill(id); kill() }).Stop()
	}
	o := w.options(&line{w, id, life}, name, rng)
	j, err := w.begin(ctx, o, id, h, rng)
	for w.judge(id, err); err == nil; w.judge(id, err) {
		h.opened(j)
		w.lead(ctx, cancel, id, j, h, rng)
		if j, h, err = w.resume(ctx, o, id, j, h, rng); j == nil {
			w.judge(id, err)
			return
		}
	}
}

// lead is the time in which a process holds a journal.
func (w *world) lead(ctx context.Context, cancel context.CancelFunc, id string, j *Journal, h *history, rng *rand.Rand) {
	var others sync.WaitGroup
	others.Go(func() {
		select {
		case <-ctx.Done():
		case <-h.ended:
		}
		sleep(context.Background(), lag)
		w.judge(id, j.Close())
	})
	others.Go(func() { w.keep(ctx, id, j, h) })
	switch yielded := w.work(ctx, id, j, h, rng); {
	case yielded || rng.IntN(3) == 0:
		close(h.ended)
	case rng.IntN(2) == 0:
		cancel() // a node that knows that it is fenced; others linger
	}
	others.Wait()
}

// work writes until the journal takes no more. It reports whether the journal has yielded.
func (w *world) work(ctx context.Context, id string, j *Journal, h *history, rng *rand.Rand) bool {
	pause := time.Millisecond + upTo(rng, 2*time.Second)
	k := h.first
	defer func() { h.first = k }()
	for sleep(ctx, upTo(rng, pause)) {
		if w.handOver(ctx, id, j, h, rng) {
			return true
		}
		var entries []Entry
		for range rng.IntN(4) {
			entries = append(entries, Entry{Kind: uint16(k), Body: fmt.Appendf(nil, "%s.%d", id, k)})
			k++
		}
		if e, ok := h.drops(rng, id, k); ok {
			entries = append(entries, e)
			k++
		}
		flying := expected(entries)
		pos, err := j.Write(entries)
		if err != nil {
			w.judge(id, err)
			break
		}
		h.wrote(pos, flying)
		w.count(func(t *tally) { t.Written += len(flying) })
		if rng.IntN(10) == 0 {
			w.confirm(ctx, id, j)
		}
	}
	return false
}

// process makes the state of a new process.
func (w *world) process(id string) *history {
	w.mu.Lock()
	defer w.mu.Unlock()
	h := &history{w: w, id: id, ended: make(chan struct{})}
	w.histories = append(w.histories, h)
	return h
}

func (w *world) options(b storage.Bucket, name string, rng *rand.Rand) Options {
	return Options{
		Bucket: b, Shard: 3, Node: name, Info: []byte(name), Level: 1 + rng.IntN(2),
		Depth: 1 + rng.IntN(4), Window: 1 + rng.IntN(5), Log: w.log.With("process", name),
		mutations: w.mutations, jitter: func() float64 { return w.draw(name, time.Now().UnixNano()).Float64() },
	}
}

// line is a process's way to the bucket. Each call has a Faults of its own,
// whose outcome depends on the seed, the call and its time only, so that the
// order in which goroutines run does not matter.
type line struct {
	w    *world
	id   string
	life context.Context // of the process
}

func (l *line) Create(ctx context.Context, key string, body []byte) error {
	sent := time.Now()
	f, rng, ctx, stop := l.call(ctx, key)
	defer stop()
	err := f.Create(ctx, key, body)
	if len(f.Pending()) > 0 {
		l.w.later(straggler{l.id, key, sent, f}, rng)
	}
	return err
}

func (l *line) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	f, _, ctx, stop := l.call(ctx, key)
	defer stop()
	return f.Get(ctx, key, off, n)
}

// List shows what is there when it begins and when it ends, and of that a page: of
// what comes and goes while it takes its time, nothing. No bucket promises more.
func (l *line) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	f, _, ctx, stop := l.call(ctx, prefix)
	defer stop()
	const all = 1 << 20
	before, err := l.w.disk.List(ctx, prefix, after, all)
	if err != nil {
		return nil, err
	}
	keys, err := f.List(ctx, prefix, after, all)
	keys = slices.DeleteFunc(keys, func(key string) bool { return !slices.Contains(before, key) })
	return keys[:min(max, len(keys))], err
}

func (l *line) Delete(ctx context.Context, keys ...string) error {
	sent := time.Now()
	f, rng, ctx, stop := l.call(ctx, keys[0])
	defer stop()
	err := f.Delete(ctx, keys...)
	if len(f.Pending()) > 0 {
		l.w.later(straggler{l.id, keys[0], sent, f}, rng)
	}
	return err
}

func (l *line) call(ctx context.Context, key string) (*storagetest.Faults, *rand.Rand, context.Context, func()) {
	rng := l.w.draw(l.id, key, time.Now().UnixNano())
	o := storagetest.Outcome{Before: upTo(rng, 60*time.Millisecond), After: upTo(rng, 60*time.Millisecond)}
	if rng.Float64() < 0.4*l.w.storm {
		o.Fate = storagetest.Fates()[rng.IntN(len(storagetest.Fates()))]
	}
	// A process that sleeps does so before a request leaves it or while the
	// answer is on its way.
	switch nap := upTo(rng, 30*time.Second); rng.IntN(25) {
	case 0:
		o.Before += nap
	case 1:
		o.After += nap
	}
	f := storagetest.NewFaults(l.w.disk, rng.Uint64())
	f.Plan(func(storagetest.Call) storagetest.Outcome { return o })
	ctx, cancel := context.WithCancel(ctx)
	died := context.AfterFunc(l.life, cancel)
	if l.life.Err() != nil {
		cancel() // now: the dead send nothing
	}
	return f, rng, ctx, func() { died(); cancel() }
}

// later lets a write land that its process has given up: in a while, or when
// everything else is over.
func (w *world) later(s straggler, rng *rand.Rand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.late = append(w.late, s)
	if rng.IntN(3) > 0 {
		time.AfterFunc(upTo(rng, 40*time.Second), func() { s.Land() })
	}
}

// straggler is a write that may still land.
type straggler struct {
	who, key string
	sent     time.Time
	*storagetest.Faults
}

// compare puts stragglers in an order that is not that in which they were noted:
// those of one process may have been given up at one instant.
func (s straggler) compare(o straggler) int {
	return cmp.Or(s.sent.Compare(o.sent), cmp.Compare(s.who, o.who), cmp.Compare(s.key, o.key))
}

// reader replays the log now and then. Nobody needs to know of it.
func (w *world) reader(ctx context.Context) {
	rng := w.draw("reader")
	for n := 0; sleep(ctx, upTo(rng, 20*time.Second)); n++ {
		id := fmt.Sprintf("reader.%d", n)
		h := w.process(id)
		acked := w.longest()
		end, err := Replay(ctx, w.options(&line{w, id, ctx}, "reader", rng), h)
		if ctx.Err() != nil {
			return
		}
		w.judge(id, err)
		if err == nil && len(h.got) < acked {
			w.fault("%s: replayed %d entries to %v, %d were acknowledged before", id, len(h.got), end, acked)
		}
		w.count(func(t *tally) { t.Replays++ })
	}
}

// judge tells the errors that may happen from those that must not.
func (w *world) judge(id string, err error) {
	switch {
	case err == nil, errors.Is(err, ErrClosed), w.condemn(id, err):
	case errors.Is(err, ErrFenced):
		w.count(func(t *tally) { t.Fenced++ })
	case errors.Is(err, ErrYielded): // counted by handOver
	default:
		w.count(func(t *tally) { t.Abandoned++ })
	}
}

// condemn reports whether err must not happen.
func (w *world) condemn(id string, err error) bool {
	for _, bad := range []error{ErrForeign, ErrCorrupt, ErrFormat, ErrPosition} {
		if errors.Is(err, bad) {
			w.fault("%s: %v", id, err)
			return true
		}
	}
	return false
}

// audit compares what every process ever believed with what a new owner finds.
func (w *world) audit(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, time.Hour)
	defer cancel()
	o := Options{Bucket: w.disk, Shard: 3, Node: "auditor", Log: w.log}
	final := &history{w: w, id: "auditor"}
	j, err := Open(ctx, o, final)
	if err != nil {
		w.fault("the auditor cannot take over: %v", err)
		return
	}
	w.judge("auditor", j.Close())
	slices.SortFunc(w.late, straggler.compare)
	for _, s := range w.late {
		s.Land()
	}
	late := &history{w: w, id: "late reader"}
	if _, err := Replay(ctx, o, late); err != nil {
		w.fault("replay: %v", err)
	}
	if len(late.got) != len(final.got) {
		w.fault("%d entries, and %d after everything has landed", len(final.got), len(late.got))
	}
	w.tally.Final = len(final.got)
	w.auditFinal(ctx, final, j.Checkpointed())
	w.auditSaves(final)
	w.auditSeals(ctx, j.way)
	w.auditKept(ctx, final)
	for _, h := range append(w.histories, late) {
		w.auditHistory(h, final)
	}
}

// auditFinal checks the log itself: positions, order per writer, bytes. Before
// the newest checkpoint they may be gone, and there may be SEALs of those who
// found them gone.
func (w *world) auditFinal(ctx context.Context, final *history, saved Position) {
	last := map[string]int{}
	for i, a := range final.got {
		if i > 0 && a.pos.Before(final.got[i-1].pos) {
			w.fault("entry %d at %v comes after %v", i, a.pos, final.got[i-1].pos)
		}
		writer, k := a.writer()
		if before, found := last[writer]; found && k <= before {
			w.fault("%s at %v comes after number %d of its writer", a.body, a.pos, before)
		}
		last[writer] = k
		raw, err := w.disk.Get(ctx, SlotKey(3, a.pos), 0, -1)
		if a.pos.Before(saved) && (errors.Is(err, fs.ErrNotExist) || raw[offType] == byte(typeSeal)) {
			continue
		}
		if err != nil || !bytes.HasPrefix(raw[min(a.at, int64(len(raw))):], []byte(a.body)) {
			w.fault("%s at %v: not at offset %d of %q: %v", a.body, a.pos, a.at, raw, err)
		}
	}
}

// auditHistory checks that a process knew a beginning of the final log, and had
// acknowledged nothing that a later owner did not recover.
func (w *world) auditHistory(h, final *history) {
	if len(h.got) > len(final.got) {
		w.fault("%s has %d entries, the log %d: first lost %+v", h.id, len(h.got), len(final.got), h.got[len(final.got)])
		return
	}
	for i, a := range h.got {
		if a != final.got[i] {
			w.fault("%s has %+v where the log has %+v", h.id, a, final.got[i])
			return
		}
	}
	for _, later := range w.histories {
		if h.epoch > 0 && later.epoch > h.epoch && later.recovered < len(h.got) {
			w.fault("%s acknowledged up to entry %d, but %s took over at %d", h.id, len(h.got), later.id, later.recovered)
		}
	}
}

func (w *world) fault(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

func (w *world) count(f func(*tally)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(&w.tally)
}

// longest returns how many entries some owner has acknowledged.
func (w *world) longest() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	most := 0
	for _, h := range w.histories {
		if h.epoch > 0 {
			most = max(most, len(h.got))
		}
	}
	return most
}

// draw returns random numbers that depend on the seed and the arguments.
func (w *world) draw(of ...any) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintln(h, of...)
	return rand.New(rand.NewPCG(w.seed, h.Sum64()))
}

func upTo(rng *rand.Rand, d time.Duration) time.Duration { return time.Duration(rng.Int64N(int64(d))) }

// history is the State of a process: everything that was applied.
type history struct {
	w  *world
	id string

	got       []applied // guarded by w.mu
	next      Position  // guarded by w.mu; got is the state before it
	flying    []applied // guarded by w.mu; written, behind got
	dead      bool      // guarded by w.mu; what it learns after that never happened
	epoch     uint64    // guarded by w.mu; 0: not an owner
	recovered int       // guarded by w.mu; entries when it became owner

	ended chan struct{} // closed when its process wants to be a candidate again
	first int           // number of the first entry that its process has not written
	offer *offer        // the candidate to which it is about to hand over

	kept    []Position // guarded by w.mu; slots to which the state refers
	dropped []Position // guarded by w.mu; to which it did, before an entry that was applied here
}

type applied struct {
	pos  Position
	body string
	at   int64
}

// writer splits "node0.2.17" into writer and number.
func (a applied) writer() (string, int) {
	for i := len(a.body) - 1; i >= 0; i-- {
		if a.body[i] == '.' {
			k, _ := strconv.Atoi(a.body[i+1:])
			return a.body[:i], k
		}
	}
	return a.body, 0
}

func (h *history) Apply(pos Position, entries []Entry) error {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	if h.dead {
		return nil
	}
	for _, e := range entries {
		h.got = append(h.got, applied{pos, string(e.Body), e.At})
	}
	h.refer(pos, entries)
	h.next = Position{pos.Epoch, pos.Slot + 1}
	h.flying = slices.DeleteFunc(h.flying, func(a applied) bool { return a.pos.Before(h.next) })
	if h.epoch > 0 {
		h.w.tally.Acked += len(entries)
	}
	return nil
}

// kill ends a process: what it learns from now on never happened.
func (w *world) kill(id string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, h := range w.histories {
		h.dead = h.dead || h.id == id
	}
	w.tally.Crashed++
}

func (h *history) opened(j *Journal) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.tally.Opened++
	for _, other := range h.w.histories {
		if other.epoch > 0 && !other.dead {
			h.w.tally.Takeovers++
			break
		}
	}
	h.epoch, h.recovered = j.Epoch(), len(h.got)
	h.next = Position{h.epoch, 1}
}

// sleep waits for d and reports whether ctx is still alive.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
