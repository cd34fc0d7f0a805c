package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
)

// served is an engine on a log of its own.
type served struct {
	*Engine
	t   *testing.T
	log *commitlog.Log
}

// serve opens the log of a bucket with an engine, which ends with the test.
func serve(t *testing.T, bucket storage.Bucket, change ...func(*commitlog.Options)) *served {
	t.Helper()
	return serveWith(t, bucket, Options{}, change...)
}

// serveWith is serve for an engine with options.
func serveWith(t *testing.T, bucket storage.Bucket, engine Options, change ...func(*commitlog.Options)) *served {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	engine.Log = quiet
	e := New(engine)
	o := commitlog.Options{Bucket: bucket, Node: "a", Log: quiet, Machines: []logstate.Machine{e}}
	for _, c := range change {
		c(&o)
	}
	log, err := commitlog.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	e.Start(t.Context(), machine.WaitingLog{Log: log})
	s := &served{e, t, log}
	t.Cleanup(s.end)
	if err := e.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s
}

// end closes the engine and the log. It may be called twice.
func (s *served) end() {
	s.log.Close()
	s.Engine.Close()
}

// plain are the settings of a queue without arguments.
func plain() state.Settings {
	return state.Settings{Durable: true, TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
}

// declare creates a queue in the default vhost.
func (s *served) declare(name string, change func(*state.Settings)) {
	s.t.Helper()
	settings := plain()
	if change != nil {
		change(&settings)
	}
	i, err := s.DeclareQueue(s.t.Context(), DefaultVhost, name, settings)
	if err != nil || !i.Created {
		s.t.Fatalf("declare %s: %+v, %v", name, i, err)
	}
}

// submit makes work durable.
func (s *served) submit(w Work) ([]error, error) {
	s.t.Helper()
	type answer struct {
		outcomes []error
		err      error
	}
	done := make(chan answer, 1)
	s.Submit(DefaultVhost, w, func(outcomes []error, err error) { done <- answer{outcomes, err} })
	a := <-done
	return a.outcomes, a.err
}

// publish publishes bodies to a queue.
func (s *served) publish(queue string, bodies ...string) {
	s.t.Helper()
	var w Work
	for _, b := range bodies {
		w.Publications = append(w.Publications, Publication{Key: queue, Body: []byte(b)})
	}
	outcomes, err := s.submit(w)
	if err != nil {
		s.t.Fatal(err)
	}
	for i, err := range outcomes {
		if err != nil {
			s.t.Fatalf("publish %s: %v", bodies[i], err)
		}
	}
}

// client is a consumer whose deliveries are asked for.
type client struct {
	*Consumer
	s         *served
	window    *Window
	ready     chan struct{}
	cancelled chan struct{}
}

func (s *served) consume(queue string, prefetch int) *client {
	s.t.Helper()
	c := &client{s: s, window: NewWindow(prefetch), ready: make(chan struct{}, 1), cancelled: make(chan struct{})}
	var err error
	c.Consumer, err = s.Consume(ConsumerOptions{Vhost: DefaultVhost, Queue: queue, Windows: []*Window{c.window},
		Ready: func() {
			select {
			case c.ready <- struct{}{}:
			default:
			}
		},
		Cancelled: func() { close(c.cancelled) }})
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

// next waits for the next delivery.
func (c *client) next() Delivery {
	c.s.t.Helper()
	ctx, cancel := context.WithTimeout(c.s.t.Context(), 10*time.Second)
	defer cancel()
	for {
		if got := c.Take(nil, 1); len(got) == 1 {
			return got[0]
		}
		select {
		case <-c.ready:
		case <-ctx.Done():
			c.s.t.Fatal("no delivery")
		}
	}
}

// expect waits for deliveries of these bodies, in order.
func (c *client) expect(bodies ...string) []Delivery {
	c.s.t.Helper()
	var all []Delivery
	for _, want := range bodies {
		d := c.next()
		if string(d.Body) != want {
			c.s.t.Fatalf("delivered %q, want %q", d.Body, want)
		}
		all = append(all, d)
	}
	return all
}

// settle settles deliveries and gives their places back.
func (c *client) settle(v Verdict, all ...Delivery) {
	c.s.t.Helper()
	s := Settlement{Queue: c.Queue(), Verdict: v}
	for _, d := range all {
		s.IDs = append(s.IDs, d.ID)
	}
	if _, err := c.s.submit(Work{Settlements: []Settlement{s}}); err != nil {
		c.s.t.Fatal(err)
	}
	c.window.Release(len(all))
}

// left returns how many messages wait in a queue, leased ones included.
func (s *served) left(queue string) int64 {
	s.t.Helper()
	i, err := s.Queue(DefaultVhost, queue, "")
	if err != nil {
		s.t.Fatal(err)
	}
	return i.Ready + i.Unsettled
}

func numbered(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprint(i)
	}
	return all
}

// TestLife: what is published is delivered in order, what is accepted is gone, what is
// released comes again in its place and is counted, and a new owner knows all that.
func TestLife(t *testing.T) {
	bucket := mem.New()
	s := serve(t, bucket)
	s.declare("q", nil)
	s.publish("q", numbered(10)...)
	c := s.consume("q", 4)
	got := c.expect("0", "1", "2", "3")
	c.settle(Accept, got[0], got[2])
	more := c.expect("4", "5")
	c.settle(Release, more[0], got[1])
	again := c.expect("1", "4")
	if !again[0].Redelivered() || again[0].Count != 1 || got[1].Redelivered() {
		t.Errorf("count of a released message: %d", again[0].Count)
	}
	c.settle(Accept, again...)
	c.expect("6", "7")
	s.end()
	select {
	case <-c.cancelled:
	case <-t.Context().Done():
	}

	s = serve(t, bucket)
	if n := s.left("q"); n != 6 {
		t.Errorf("%d messages wait after a takeover, want 6", n)
	}
	c = s.consume("q", 0)
	all := c.expect("3", "5", "6", "7", "8", "9")
	if !all[0].Redelivered() || !all[3].Redelivered() {
		t.Error("what the former owner had delivered is not marked as redelivered")
	}
	c.settle(Accept, all...)
	if n := s.left("q"); n != 0 {
		t.Errorf("%d messages are left", n)
	}
}

// TestOutcomes: each publication has its own outcome, and an atomic work is done whole or
// not at all.
func TestOutcomes(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", nil)
	w := Work{Publications: []Publication{{Key: "q", Body: []byte("a")}, {Key: "nobody"}, {Exchange: "nowhere"}, {Key: "q", Body: []byte("b")}}}
	outcomes, err := s.submit(w)
	var missing *routing.Error
	if err != nil || outcomes[0] != nil || !errors.Is(outcomes[1], ErrUnroutable) || !errors.As(outcomes[2], &missing) || outcomes[3] != nil {
		t.Fatalf("%v, %v", outcomes, err)
	}
	w.Atomic = true
	if outcomes, err = s.submit(w); err != nil || !errors.As(outcomes[2], &missing) {
		t.Fatalf("%v, %v", outcomes, err)
	}
	c := s.consume("q", 0)
	got := c.expect("a", "b")
	if n := s.left("q"); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	_, err = s.submit(Work{Atomic: true, Publications: []Publication{{Key: "q", Body: []byte("c")}},
		Settlements: []Settlement{{c.Queue(), []int64{got[0].ID, got[1].ID}, Accept}}})
	if err != nil {
		t.Fatal(err)
	}
	c.expect("c")
	if n := s.left("q"); n != 1 {
		t.Errorf("%d messages, want 1", n)
	}
	if _, err := s.submit(Work{Publications: []Publication{{Key: "q", Body: make([]byte, maxMessage+1)}}}); err != nil {
		t.Fatal(err)
	}
}

// TestShare: consumers of a queue share its messages, those of a higher priority first.
func TestShare(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", nil)
	a, b := s.consume("q", 10), s.consume("q", 10)
	s.publish("q", numbered(20)...)
	got := map[string]int{}
	for range 10 {
		got[string(a.next().Body)]++
		got[string(b.next().Body)]++
	}
	if len(got) != 20 {
		t.Errorf("%d of 20 messages", len(got))
	}
	if err := a.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := s.Queue(DefaultVhost, "q", "")
	if err != nil || info.Consumers != 1 || info.Unsettled != 20 {
		t.Errorf("%+v, %v", info, err)
	}
}

// deadTo makes a queue send its dead letters to another one.
func deadTo(queue string) func(*state.Settings) {
	return func(s *state.Settings) { s.DeadLetter = &state.DeadLetter{Key: queue, HasKey: true} }
}

// TestDeadLetters: what is rejected goes to the dead-letter exchange with its history,
// and back.
func TestDeadLetters(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", deadTo("dead"))
	s.declare("dead", nil)
	s.publish("q", "x", "y")
	c, dead := s.consume("q", 1), s.consume("dead", 0)
	c.settle(Reject, c.expect("x")...)
	d := dead.expect("x")[0]
	props, err := decodeProperties(d.Properties)
	if err != nil {
		t.Fatal(err)
	}
	all := deathsOf(props.Headers)
	if len(all) != 1 || all[0].queue != "q" || all[0].reason != "rejected" || all[0].count != 1 {
		t.Errorf("x-death %+v", all)
	}
	dead.settle(Accept, c.expect("y")...) // another queue's: nothing happens
	dead.settle(Release, d)
	if err := dead.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "dead", Most: 10, Back: true})
	if err != nil || n != 1 {
		t.Errorf("moved %d, %v", n, err)
	}
	if n := s.left("q"); n != 2 {
		t.Errorf("%d messages are in the queue, want 2", n)
	}
}

// TestExpiry: messages expire at the head of a queue, and a queue that nobody uses does.
func TestExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", func(q *state.Settings) { q.TTL = time.Second; deadTo("dead")(q) })
		s.declare("own", deadTo("dead"))
		s.declare("dead", nil)
		s.declare("unused", func(q *state.Settings) { q.Expires = 3 * time.Second })
		s.publish("q", "a", "b")
		own := wire.Properties{Flags: wire.HasExpiration, Expiration: "1500"}
		raw, err := own.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := s.submit(Work{Publications: []Publication{{Key: "own", Properties: raw, Body: []byte("c")}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if s.left("q") != 2 || s.left("own") != 1 {
			t.Errorf("%d and %d messages after 0.9 s", s.left("q"), s.left("own"))
		}
		time.Sleep(time.Second)
		synctest.Wait()
		if s.left("q") != 0 || s.left("own") != 0 || s.left("dead") != 3 {
			t.Errorf("%d, %d and %d messages after 1.9 s", s.left("q"), s.left("own"), s.left("dead"))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if _, err := s.Queue(DefaultVhost, "unused", ""); !errors.Is(err, ErrNoQueue) {
			t.Errorf("the unused queue: %v", err)
		}
		s.end()
	})
}

// TestDelay: an exchange holds a message until it is due, also over a takeover: one of type
// x-delayed-message, or any for a publication that asks for that.
func TestDelay(t *testing.T) {
	for name, p := range map[string]Publication{
		"delayed exchange": {Exchange: "late", Key: "k"}, "any exchange": {Exchange: "amq.direct", Key: "k", Delayed: true}, "default exchange": {Key: "q", Delayed: true},
	} {
		t.Run(name, func(t *testing.T) { synctest.Test(t, func(t *testing.T) { testDelay(t, p) }) })
	}
}

func testDelay(t *testing.T, p Publication) {
	bucket := mem.New()
	s := serve(t, bucket)
	s.declare("q", nil)
	x := routing.Exchange{Name: "late", Type: routing.DelayedMessage, DelayedType: routing.Direct, Durable: true}
	if err := s.DeclareExchange(t.Context(), DefaultVhost, x); err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"late", "amq.direct"} {
		if err := s.Bind(t.Context(), DefaultVhost, routing.Binding{Source: source, Destination: "q", Key: "k"}); err != nil {
			t.Fatal(err)
		}
	}
	var w Work
	for i, ms := range []int64{2500, 300, 2300} {
		p.Properties, p.Body = properties(0, ms, 0), fmt.Append(nil, i)
		w.Publications = append(w.Publications, p)
	}
	if outcomes, err := s.submit(w); err != nil || slices.ContainsFunc(outcomes, func(err error) bool { return err != nil }) {
		t.Fatal(outcomes, err)
	}
	time.Sleep(299 * time.Millisecond)
	synctest.Wait()
	if n := s.left("q"); n != 0 {
		t.Errorf("%d messages are early", n)
	}
	time.Sleep(2 * time.Millisecond)
	synctest.Wait()
	if n := s.left("q"); n != 1 {
		t.Errorf("%d messages after 301 ms, want 1", n)
	}
	s.end()
	s = serve(t, bucket)
	time.Sleep(3 * time.Second)
	synctest.Wait()
	s.consume("q", 0).expect("1", "2", "0")
	s.end()
}

// TestDelayWhere: what is not delayed goes to its queues at once, and no exchange holds
// what a client may not publish to it.
func TestDelayWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		w := Work{Publications: []Publication{
			{Key: "q", Properties: properties(0, 5000, 0)}, {Key: "q", Delayed: true}, {Key: "q", Delayed: true, Properties: properties(0, -5, 0)},
			{Exchange: "none", Delayed: true, Properties: properties(0, 5, 0)}, {Exchange: "amq.rabbitmq.trace", Delayed: true, Properties: properties(0, 5, 0)},
		}}
		outcomes, err := s.submit(w)
		if err != nil || outcomes[0] != nil || outcomes[1] != nil || outcomes[2] != nil || !errors.Is(outcomes[3], routing.ErrNotFound) || !errors.Is(outcomes[4], routing.ErrInternal) {
			t.Errorf("%v, %v", outcomes, err)
		}
		if n := s.left("q"); n != 3 {
			t.Errorf("%d messages, want 3", n)
		}
		s.end()
	})
}

// TestLimits: a full queue loses its first messages, or rejects new ones.
func TestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("drop", func(q *state.Settings) { q.MaxLength = 3; deadTo("dead")(q) })
		s.declare("dead", nil)
		s.declare("reject", func(q *state.Settings) { q.MaxLength = 2; q.Overflow = state.RejectPublish })
		s.declare("bytes", func(q *state.Settings) { q.MaxBytes = 10 })
		s.publish("drop", numbered(10)...)
		s.publish("bytes", "1234", "5678", "90ab", "cdef")
		outcomes, err := s.submit(Work{Publications: []Publication{{Key: "reject"}, {Key: "reject"}, {Key: "reject"}}})
		if err != nil || outcomes[1] != nil || !errors.Is(outcomes[2], ErrOverflow) {
			t.Error(outcomes, err)
		}
		synctest.Wait()
		s.consume("drop", 0).expect("7", "8", "9")
		s.consume("bytes", 0).expect("90ab", "cdef")
		if n := s.left("dead"); n != 7 {
			t.Errorf("%d dead letters, want 7", n)
		}
		s.end()
	})
}

// TestPriorities: a message of a higher priority comes first.
func TestPriorities(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", func(q *state.Settings) { q.MaxPriority = 5 })
	var w Work
	for i, p := range []uint8{0, 3, 9, 3, 5} {
		props := wire.Properties{Flags: wire.HasPriority, Priority: p}
		raw, err := props.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		w.Publications = append(w.Publications, Publication{Key: "q", Properties: raw, Body: fmt.Append(nil, i)})
	}
	if _, err := s.submit(w); err != nil {
		t.Fatal(err)
	}
	s.consume("q", 0).expect("2", "4", "1", "3", "0")
}

// TestSessions: an exclusive queue is deleted with its session, and by a new owner; an
// auto-delete queue with its last consumer.
func TestSessions(t *testing.T) {
	bucket := mem.New()
	s := serve(t, bucket)
	for _, name := range []string{"a", "b"} {
		s.declare(name, func(q *state.Settings) { q.Owner = "session " + name })
	}
	s.declare("auto", func(q *state.Settings) { q.AutoDelete = true })
	if _, err := s.Queue(DefaultVhost, "a", "session b"); !errors.Is(err, ErrExclusive) {
		t.Error(err)
	}
	if err := s.EndSession(t.Context(), DefaultVhost, "session a"); err != nil {
		t.Error(err)
	}
	if _, err := s.Queue(DefaultVhost, "a", "session a"); !errors.Is(err, ErrNoQueue) {
		t.Error(err)
	}
	c := s.consume("auto", 0)
	if err := c.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.Queue(DefaultVhost, "auto", ""); !errors.Is(err, ErrNoQueue) {
		t.Error(err)
	}
	s.end()
	s = serve(t, bucket)
	if all, err := s.Queues(DefaultVhost); err != nil || len(all) != 0 {
		t.Errorf("%+v, %v", all, err)
	}
}

// TestPurge: what is leased survives a purge.
func TestPurge(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", nil)
	s.publish("q", numbered(5)...)
	c := s.consume("q", 2)
	got := c.expect("0", "1")
	n, err := s.Purge(t.Context(), DefaultVhost, "q", "")
	if err != nil || n != 3 {
		t.Fatalf("purged %d, %v", n, err)
	}
	c.settle(Release, got[1])
	c.expect("1")
	if n := s.left("q"); n != 2 {
		t.Errorf("%d messages, want 2", n)
	}
	if _, err := s.DeleteQueue(t.Context(), DefaultVhost, "q", "", true, false); !errors.Is(err, ErrInUse) {
		t.Error(err)
	}
	if _, err := s.DeleteQueue(t.Context(), DefaultVhost, "q", "", false, false); err != nil {
		t.Error(err)
	}
	<-c.cancelled
}
