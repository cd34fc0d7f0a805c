package queue

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/commitlog/upkeep"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

var seeds = flag.Int("seeds", 60, "random schedules of TestRandomSchedules")

// TestRandomSchedules has clients that publish, consume, get, settle, purge and move, with
// takeovers at any moment, and compares what they are given with what they were told.
// Half of the schedules have a bucket without delays, so that after each step all must be
// as a queue promises; the others have one that is slow and fails in every way.
func TestRandomSchedules(t *testing.T) {
	n := *seeds
	if os.Getenv("WEIR_SOAK") == "1" {
		n *= 100
	}
	for seed := range uint64(n) {
		for _, fault := range schedule(t, seed, Mutations{}) {
			t.Errorf("seed %d: %s", seed, fault)
		}
		if t.Failed() {
			break
		}
	}
}

// schedule runs one schedule and returns what was wrong.
func schedule(t *testing.T, seed uint64, m Mutations) (faults []string) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1)), bucket: twoShards(t), fast: seed%2 == 0, shard: uint32(seed / 2 % 2), mutations: m, tracks: map[string]*track{}}
		defer func() {
			w.end()
			faults = w.faults
			if cause := recover(); cause != nil && cause != any(w) {
				panic(cause)
			}
		}()
		w.begin()
		for range 150 {
			w.step()
			if len(w.faults) > 0 {
				break
			}
		}
		w.finish()
	})
	return faults
}

// world is one schedule. Only the test's goroutine touches it, but for answers.
type world struct {
	t         *testing.T
	rng       *rand.Rand
	bucket    *mem.Bucket
	shard     uint32
	fast      bool
	mutations Mutations
	owners    []*owner // the newest one last
	tracks    map[string]*track
	wholes    []*whole
	missing   bool // queue plain may not be there
	moving    int  // how often moves without an answer can move a message
	bodies    int
	before    map[string]look
	faults    []string // what was wrong

	mu      sync.Mutex
	answers []func() // guarded by mu; run by the test's goroutine
}

// owner is a process that owns the shard, or thinks so.
type owner struct {
	*served
	faults *storagetest.Faults
	shared *Window
	takers []*taker
	held   []leasedTo
}

// taker is a consumer.
type taker struct {
	*Consumer
	queue   string
	windows []*Window // its own, and one that it shares
}

// leasedTo is a message that a client has.
type leasedTo struct {
	queue   string
	d       Delivery
	m       *track
	windows []*Window // none: of a get
	first   bool      // no client had it before
}

func (o *owner) ended() bool { return o.log.Err() != nil }

func (o *owner) settle(s Settlement) ([]error, error) {
	return o.submit(Work{Settlements: []Settlement{s}})
}

func (w *world) errorf(format string, args ...any) {
	w.faults = append(w.faults, fmt.Sprintf(format, args...))
}

// fatalf ends the schedule.
func (w *world) fatalf(format string, args ...any) {
	w.errorf(format, args...)
	panic(w)
}

func (w *world) owner() *owner { return w.owners[len(w.owners)-1] }

// begin opens the first owner, and declares what there is.
func (w *world) begin() {
	w.takeOver(0)
	s := w.owner().served
	s.declare(dead, nil)
	for _, name := range []string{"plain", "single", "prio", "rej", "late", "ttl", "exp", "max", "bytes", "limit", "once", "uniq"} {
		s.declare(name, func(q *state.Settings) { settings(name, q) })
	}
	x := routing.Exchange{Name: "later", Type: routing.DelayedMessage, DelayedType: routing.Fanout, Durable: true}
	if err := s.DeclareExchange(w.ctx(), DefaultVhost, x); err != nil {
		w.fatalf("%v", err)
	}
	x = routing.Exchange{Name: "dedup", Type: routing.Deduplication, CacheSize: 1000, Durable: true}
	if err := s.DeclareExchange(w.ctx(), DefaultVhost, x); err != nil {
		w.fatalf("%v", err)
	}
	for _, b := range []routing.Binding{{Source: "later", Destination: "late"}, {Source: "dedup", Destination: "uniq"}, {Source: "amq.fanout", Destination: "single"},
		{Source: "amq.fanout", Destination: "prio"}, {Source: "amq.fanout", Destination: "rej"}} {
		if err := s.Bind(w.ctx(), DefaultVhost, b); err != nil {
			w.fatalf("%v", err)
		}
	}
}

const ttl = 300 * time.Millisecond

// settings are those of a queue by its name.
func settings(name string, q *state.Settings) {
	switch name {
	case "single":
		q.SingleActive = true
	case "prio":
		q.MaxPriority = 3
	case "rej":
		q.MaxLength, q.Overflow = 4, state.RejectPublish
	case "ttl":
		q.TTL = ttl
	case "max":
		q.MaxLength = 4
	case "bytes":
		q.MaxBytes = 20
	case "limit":
		q.DeliveryLimit = 1
	case "auto":
		q.AutoDelete = true
	case "own":
		q.Owner = "me"
	case "once":
		q.Deduplicate = true
	}
	if dies[name] != "" {
		deadTo(dead)(q)
	}
}

// dies has the queues with dead letters: why messages die there, if no client rejects them.
var dies = map[string]reason{"ttl": reasonExpired, "exp": reasonExpired, "max": reasonMaxLen, "bytes": reasonMaxLen, "limit": reasonDeliveryLimit}

// takeOver makes a new process the owner. The old one still runs, or has crashed, or has
// ended in order.
func (w *world) takeOver(trouble float64) {
	if len(w.owners) > 0 {
		switch old := w.owner(); w.rng.IntN(3) {
		case 0:
			_ = old.faults.Close()
		case 1:
			old.close(w.rng.IntN(2) == 0)
		}
	}
	w.before = nil
	for {
		f := storagetest.NewFaults(w.bucket, w.rng.Uint64())
		if !w.fast {
			f.Random(storagetest.Odds{Fail: trouble, Applied: trouble, Late: trouble, Again: trouble, Land: 0.1, Before: 20 * time.Millisecond, After: 20 * time.Millisecond})
		}
		quiet := slog.New(watch{slog.DiscardHandler, w})
		e := New(Options{Log: quiet, Mutations: w.mutations})
		log, err := commitlog.Open(w.t.Context(), commitlog.Options{Bucket: f, Shard: w.shard, Node: "a", Log: quiet, Machines: []logstate.Machine{e},
			TailBytes: int64(1 + w.rng.IntN(20_000)), Needed: e.Needed, Upkeep: upkeep.Options{Slots: 10 + w.rng.IntN(100), Segment: 200 + w.rng.IntN(2000)}})
		if errors.Is(err, storagetest.ErrInjected) {
			continue // before anything was claimed
		}
		if err != nil {
			w.fatalf("%v", err)
		}
		e.Start(w.t.Context(), machine.WaitingLog{Log: log})
		w.owners = append(w.owners, &owner{served: &served{e, w.t, log}, faults: f, shared: NewWindow(5)})
		if err := e.open(w.t.Context()); err != nil && !w.owner().ended() {
			w.fatalf("%v", err)
		}
		if err == nil && !w.owner().ended() {
			return
		}
	}
}

// watch looks for lines about messages that are not in the log.
type watch struct {
	slog.Handler
	w *world
}

func (watch) Enabled(context.Context, slog.Level) bool { return true }

func (h watch) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "is not in the log") {
		var more []string
		r.Attrs(func(a slog.Attr) bool {
			more = append(more, a.String())
			return true
		})
		h.w.answer(func() { h.w.errorf("%s: %v", r.Message, more) })
	}
	return nil
}

func (w *world) step() {
	if w.owner().ended() {
		w.takeOver(0.01)
	}
	o := w.owner()
	if len(w.owners) > 1 && w.rng.IntN(20) == 0 {
		o = w.owners[w.rng.IntN(len(w.owners))]
	}
	switch n := w.rng.IntN(100); {
	case n < 25:
		w.stepPublish(o)
	case n < 28:
		w.stepAtomic(o)
	case n < 50:
		w.stepSettle(o)
	case n < 60:
		w.stepTake(o)
	case n < 66:
		w.stepConsume(o)
	case n < 69:
		w.stepClose(o)
	case n < 76:
		w.stepGet(o)
	case n < 84:
		w.stepManage(o)
	case n < 96:
		time.Sleep(time.Duration(w.rng.IntN(200)) * time.Millisecond)
	case n < 98:
		w.takeOver([]float64{0, 0.01, 0.03}[w.rng.IntN(3)])
	default:
		w.owners[w.rng.IntN(len(w.owners))].faults.LandOne()
	}
	w.hear()
	w.quiet()
}

// hear takes the answers that have come.
func (w *world) hear() {
	synctest.Wait()
	w.mu.Lock()
	answers := w.answers
	w.answers = nil
	w.mu.Unlock()
	for _, answer := range answers {
		answer()
	}
}

func (w *world) answer(a func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, a)
}

// async calls an engine, and handles the answer later.
func (w *world) async(call func() (answer func())) {
	go func() { w.answer(call()) }()
}

// failed reports whether err is one, and complains if it cannot be.
func (w *world) failed(o *owner, err error) bool {
	known := errors.Is(err, ErrNoQueue) || errors.Is(err, ErrConsumed) || errors.Is(err, ErrExclusive)
	if err != nil && !known && w.fast && o == w.owner() && !o.ended() {
		w.errorf("%v", err)
	}
	return err != nil
}

func (w *world) pick(all ...string) string { return all[w.rng.IntN(len(all))] }

// track begins a track.
func (w *world) track(queue, body string) *track {
	m := &track{queue: queue, body: body, at: time.Now(), moved: w.moving, seen: map[string]bool{}, holders: map[holder]bool{}}
	m.gone = queue == "auto" || queue == "own" || queue == "plain" && w.missing
	w.tracks[queue+"/"+body] = m
	return m
}

func (w *world) body() string {
	w.bodies++
	return fmt.Sprint("m", w.bodies)
}

// stepPublish publishes some messages to a queue, to several, or delayed.
func (w *world) stepPublish(o *owner) {
	var work Work
	var all [][]*track // of each publication
	to := w.pick("plain", "single", "prio", "rej", "ttl", "exp", "max", "bytes", "limit", "auto", "own", "amq.fanout", "later", "once", "dedup")
	for range 1 + w.rng.IntN(4) {
		p := Publication{Key: to, Body: []byte(w.body())}
		var tracks []*track
		switch to {
		case "amq.fanout":
			p.Exchange = to
			p.Properties = properties(uint8(w.rng.IntN(4)), 0, 0)
			for _, q := range []string{"single", "prio", "rej"} {
				tracks = append(tracks, w.track(q, string(p.Body)))
			}
		case "later":
			p.Exchange = to
			if w.rng.IntN(2) == 0 {
				p.Exchange, p.Key, p.Delayed = "", "late", true
			}
			delay := int64(1 + w.rng.IntN(500))
			p.Properties = properties(0, delay, 0)
			m := w.track("late", string(p.Body))
			m.notBefore = m.at.Add(time.Duration(delay) * time.Millisecond)
			tracks = append(tracks, m)
		case "once", "dedup":
			queue := to
			if to == "dedup" {
				p.Exchange, queue = to, "uniq"
			}
			m := w.track(queue, string(p.Body))
			m.value = fmt.Sprint(w.rng.IntN(12))
			p.Properties = duplicable(m.value)
			tracks = append(tracks, m)
		default:
			m := w.track(to, string(p.Body))
			tracks = append(tracks, m)
			if to == "exp" && w.rng.IntN(3) > 0 {
				m.expires = 1 + w.rng.IntN(500)
			}
			p.Properties = properties(uint8(w.rng.IntN(4)), 0, m.expires)
		}
		work.Publications, all = append(work.Publications, p), append(all, tracks)
	}
	w.publish(o, work, all)
	if to != "dedup" {
		return
	}
	for i, p := range work.Publications { // as a client does that is not sure
		m := w.track("uniq", w.body())
		m.value, p.Body = all[i][0].value, []byte(m.body)
		w.publish(o, Work{Publications: []Publication{p}}, [][]*track{{m}})
	}
}

// publish publishes messages, and notes what becomes of them.
func (w *world) publish(o *owner, work Work, all [][]*track) {
	o.Submit(DefaultVhost, work, func(outcomes []error, err error) {
		w.answer(func() {
			if w.failed(o, err) {
				return
			}
			for i, tracks := range all {
				w.published(tracks, outcomes[i])
			}
		})
	})
}

func (w *world) published(tracks []*track, err error) {
	for _, m := range tracks {
		switch {
		case err == nil, errors.Is(err, ErrOverflow) && m.queue != "rej":
			m.confirmed = true
		case errors.Is(err, ErrOverflow), errors.Is(err, ErrUnroutable):
			m.refused = true
		default:
			w.errorf("publish %s: %v", m.body, err)
		}
	}
}

// stepAtomic publishes to two queues and accepts some messages, all or nothing.
func (w *world) stepAtomic(o *owner) {
	body := w.body()
	x := &whole{published: []*track{w.track("single", body), w.track("prio", body)}}
	work := Work{Atomic: true}
	for _, m := range x.published {
		work.Publications = append(work.Publications, Publication{Key: m.queue, Body: []byte(body)})
	}
	for len(o.held) > 0 && len(x.accepted) < 3 {
		h := o.held[len(o.held)-1]
		if h.queue != "single" && h.queue != "prio" {
			break
		}
		o.held = o.held[:len(o.held)-1]
		x.accepted = append(x.accepted, h.m)
		w.let(o, h)
		h.m.asks++
		work.Settlements = append(work.Settlements, Settlement{h.d.Queue, []int64{h.d.ID}, Accept})
	}
	w.wholes = append(w.wholes, x)
	o.Submit(DefaultVhost, work, func(outcomes []error, err error) {
		w.answer(func() {
			if w.failed(o, err) {
				return
			}
			for i, m := range x.published {
				w.published([]*track{m}, outcomes[i])
			}
			for _, m := range x.accepted {
				m.accepted = true
			}
		})
	})
}

// let notes that a client does not have a message any more.
func (w *world) let(o *owner, h leasedTo) {
	delete(h.m.holders, holder{o, h.queue})
	for _, x := range h.windows {
		x.Release(1)
	}
}

// stepSettle settles some of what the clients have.
func (w *world) stepSettle(o *owner) {
	for range 1 + w.rng.IntN(3) {
		if len(o.held) == 0 {
			return
		}
		i := w.rng.IntN(len(o.held))
		h := o.held[i]
		o.held = append(o.held[:i:i], o.held[i+1:]...)
		w.settle(o, h, []Verdict{Accept, Accept, Accept, Release, Return, Reject}[w.rng.IntN(6)])
	}
}

func (w *world) settle(o *owner, h leasedTo, v Verdict) {
	m := h.m
	done := v == Accept
	switch {
	case v == Reject && (h.queue == m.queue && dies[h.queue] != ""):
		m.rejected = true
	case v == Reject:
		done = true
	}
	if done {
		m.asks++
	}
	if v == Return && h.first {
		delete(m.seen, h.queue) // it did not get there
	}
	work := Work{Settlements: []Settlement{{h.d.Queue, []int64{h.d.ID}, v}}}
	if done && w.rng.IntN(4) == 0 {
		o.Submit(DefaultVhost, work, nil)
	} else {
		o.Submit(DefaultVhost, work, func(_ []error, err error) {
			w.answer(func() {
				if w.failed(o, err) {
					return
				}
				switch {
				case done:
					m.accepted = true
				case v == Release && h.queue == m.queue:
					m.released++
				}
			})
		})
	}
	w.let(o, h)
}

// finish lets a new owner do what is left, and audits.
func (w *world) finish() {
	if len(w.faults) > 0 {
		return
	}
	w.takeOver(0)
	time.Sleep(10 * time.Second)
	w.hear()
	w.audit()
	w.auditDuplicates()
}

// end ends all owners, in no order, and looks whether they leave something behind.
func (w *world) end() {
	for _, o := range w.owners {
		o.close(w.rng.IntN(2) == 0)
	}
	w.hear()
	for _, o := range w.owners {
		for _, h := range o.hosts {
			timers := []*time.Timer{h.delayed, h.freeing}
			for _, l := range h.lives {
				timers = append(timers, l.expiry, l.unused)
			}
			for _, t := range timers {
				if t != nil && t.Stop() {
					w.errorf("a timer is left")
				}
			}
		}
	}
}

// close closes the engine and the log: both at once, or the log first.
func (o *owner) close(atOnce bool) {
	if !atOnce {
		o.end()
		return
	}
	var both sync.WaitGroup
	both.Go(func() { o.Engine.Close() })
	both.Go(func() { o.log.Close() })
	both.Wait()
}

// ctx is that of the calls of clients.
func (w *world) ctx() context.Context { return w.t.Context() }
