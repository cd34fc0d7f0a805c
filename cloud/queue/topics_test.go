package queue

import (
	"context"
	"errors"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
)

// memory is topics that only append. They answer when they are told to.
type memory struct {
	mu      sync.Mutex
	records []StreamMessage // guarded by mu: that are durable
	asked   chan appendCall // calls of Append that wait for an answer
}

type appendCall struct {
	m       *memory
	all     []StreamMessage
	answers func([]error)
}

// answer ends the call with the same answer for each message.
func (a appendCall) answer(err error) {
	errs := make([]error, len(a.all))
	for i := range errs {
		errs[i] = err
	}
	a.m.mu.Lock()
	if err == nil {
		a.m.records = append(a.m.records, a.all...)
	}
	a.m.mu.Unlock()
	a.answers(errs)
}

// bodies returns "topic body" of what is durable.
func (m *memory) bodies() (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, r := range m.records {
		all = append(all, r.Topic+" "+string(r.Body))
	}
	return all
}

// serveTopics is serve with topics.
func serveTopics(t *testing.T, change ...func(*Topics)) (*served, *memory) {
	t.Helper()
	m := &memory{asked: make(chan appendCall, 10)}
	quiet := slog.New(slog.DiscardHandler)
	calls := Topics{
		Create: func(context.Context, string, *state.Settings) error { return nil },
		Stat:   func(string) (int64, int64, error) { return 0, 0, nil },
		Append: func(_ context.Context, all []StreamMessage, done func([]error)) { m.asked <- appendCall{m, all, done} },
	}
	for _, c := range change {
		c(&calls)
	}
	e := New(Options{Log: quiet, Topics: calls})
	log, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet, Machines: []logstate.Machine{e}})
	if err != nil {
		t.Fatal(err)
	}
	e.Start(t.Context(), machine.WaitingLog{Log: log})
	s := &served{e, t, log}
	t.Cleanup(s.end)
	if err := e.open(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, m
}

func (s *served) bind(exchange, queue, key string) {
	s.t.Helper()
	if err := s.Bind(s.t.Context(), DefaultVhost, routing.Binding{Source: exchange, Destination: queue, Key: key}); err != nil {
		s.t.Fatal(err)
	}
}

func isStream(s *state.Settings) { s.Stream = true }

// start submits work, and returns where its outcomes come.
func (s *served) start(w Work) <-chan []error {
	done := make(chan []error, 1)
	s.Submit(DefaultVhost, w, func(outcomes []error, err error) {
		if err != nil {
			outcomes = []error{err}
		}
		done <- outcomes
	})
	return done
}

// TestPublishToStream: what is published to a stream queue goes to its topic, and is
// confirmed when it is durable in all that it was routed to.
func TestPublishToStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.declare("queue", nil)
	s.bind("amq.fanout", "stream", "")
	s.bind("amq.fanout", "queue", "")
	published := func(want int64) {
		t.Helper()
		if got, err := s.Counts(DefaultVhost); got.Published != want || err != nil {
			t.Errorf("%d publishes are counted, want %d: %v", got.Published, want, err)
		}
	}
	done := s.start(Work{Publications: []Publication{
		{Exchange: "amq.fanout", Key: "k", Body: []byte("both")}, {Key: "stream", Body: []byte("one")}, {Key: "nobody", Body: []byte("none")},
	}})
	call := <-topics.asked
	published(0)
	c := s.consume("queue", 0)
	c.settle(Accept, c.expect("both")...)
	select {
	case outcomes := <-done:
		t.Fatalf("confirmed before it is durable in the topic: %v", outcomes)
	default:
	}
	call.answer(nil)
	if outcomes := <-done; outcomes[0] != nil || outcomes[1] != nil || !errors.Is(outcomes[2], ErrUnroutable) {
		t.Errorf("outcomes %v", outcomes)
	}
	published(2)
	if got, want := topics.bodies(), []string{"stream both", "stream one"}; !slices.Equal(got, want) {
		t.Errorf("the topic has %q, want %q", got, want)
	}
	done = s.start(Work{Publications: []Publication{{Exchange: "amq.fanout", Body: []byte("too large")}, {Key: "queue", Body: []byte("other")}}})
	(<-topics.asked).answer(ErrTooLarge)
	if outcomes := <-done; !errors.Is(outcomes[0], ErrRefused) || !errors.Is(outcomes[0], ErrTooLarge) || outcomes[1] != nil {
		t.Errorf("outcomes of a message that the topic refuses: %v", outcomes)
	}
	done = s.start(Work{Publications: []Publication{{Key: "stream"}}})
	(<-topics.asked).answer(ErrClosed)
	if outcomes := <-done; !errors.Is(outcomes[0], ErrClosed) {
		t.Errorf("outcome when the topic is served elsewhere: %v", outcomes)
	}
	published(3) // of the last two works "other" only
}

// TestPublishToTopic: a publication can name a topic that gets it, whether a queue does or
// not, but not twice.
func TestPublishToTopic(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.bind("amq.topic", "stream", "stream.#")
	done := s.start(Work{Publications: []Publication{
		{Exchange: "amq.topic", Key: "stream.a", Topic: "stream", Body: []byte("1")}, {Exchange: "amq.topic", Key: "other.a", Topic: "other", Body: []byte("2")},
	}})
	(<-topics.asked).answer(nil)
	if outcomes := <-done; outcomes[0] != nil || outcomes[1] != nil {
		t.Errorf("outcomes %v", outcomes)
	}
	if got, want := topics.bodies(), []string{"stream 1", "other 2"}; !slices.Equal(got, want) {
		t.Errorf("the topics have %q, want %q", got, want)
	}
}

// TestReadToStream: what was read from a topic goes to queues, and not to stream queues.
func TestReadToStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.declare("queue", nil)
	s.bind("amq.topic", "stream", "#")
	s.bind("amq.topic", "queue", "queue.#")
	done := s.start(Work{Publications: []Publication{{Exchange: "amq.topic", Key: "queue.a"}, {Exchange: "amq.topic", Key: "other.a"}},
		Positions: []Position{{Reader: "r", Position: state.Position{Offset: 7}, After: 2}}})
	var outcomes []error
	select {
	case outcomes = <-done:
	case call := <-topics.asked:
		t.Fatalf("a topic gets %d messages", len(call.all))
	}
	if outcomes[0] != nil || !errors.Is(outcomes[1], ErrUnroutable) || s.left("queue") != 1 {
		t.Errorf("outcomes %v, and the queue has %d messages", outcomes, s.left("queue"))
	}
}

// TestDeadLetterToStream: a message stays in its queue until its dead letter is durable in
// the topic, and the topic is tried until it answers.
func TestDeadLetterToStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.declare("queue", func(x *state.Settings) { x.DeadLetter = &state.DeadLetter{Key: "stream", HasKey: true} })
	s.publish("queue", "1", "2")
	c := s.consume("queue", 0)
	got := c.expect("1", "2")
	done := s.start(Work{Settlements: []Settlement{{c.Queue(), []int64{got[0].ID}, Reject}}})
	waiting := func() int64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.state.Vhost(DefaultVhost).Queue("queue").Len()
	}
	(<-topics.asked).answer(errors.New("the bucket does not answer"))
	second := <-topics.asked
	select {
	case outcomes := <-done:
		t.Fatalf("settled before the dead letter is durable: %v", outcomes)
	default:
	}
	if n := waiting(); n != 2 {
		t.Errorf("%d messages wait, want 2: the dead letter is not durable", n)
	}
	second.answer(nil)
	if outcomes := <-done; len(outcomes) != 0 {
		t.Fatalf("outcomes %v", outcomes)
	}
	if n := waiting(); n != 1 || !slices.Equal(topics.bodies(), []string{"stream 1"}) {
		t.Errorf("%d messages wait, and the topic has %q", n, topics.bodies())
	}
	done = s.start(Work{Settlements: []Settlement{{c.Queue(), []int64{got[1].ID}, Reject}}})
	(<-topics.asked).answer(ErrNoTopic)
	<-done
	if n := waiting(); n != 0 {
		t.Errorf("%d messages wait for a topic that is gone", n)
	}
}

// TestOverflowToStream: a message that a full queue rejects, and whose dead letter goes to a
// topic, is answered when that is durable; the topic is tried until it is.
func TestOverflowToStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.declare("full", func(x *state.Settings) {
		x.MaxLength, x.Overflow = 0, state.RejectPublishDLX
		x.DeadLetter = &state.DeadLetter{Key: "stream", HasKey: true}
	})
	done := s.start(Work{Publications: []Publication{{Key: "full", Body: []byte("1")}, {Key: "stream", Body: []byte("2")}}})
	dead, other := <-topics.asked, <-topics.asked
	if string(dead.all[0].Body) == "2" {
		dead, other = other, dead
	}
	other.answer(nil)
	dead.answer(errors.New("the bucket does not answer"))
	dead = <-topics.asked
	select {
	case outcomes := <-done:
		t.Fatalf("answered before all is durable: %v", outcomes)
	default:
	}
	dead.answer(nil)
	if outcomes := <-done; !errors.Is(outcomes[0], ErrOverflow) || outcomes[1] != nil {
		t.Errorf("outcomes %v", outcomes)
	}
	if got, want := topics.bodies(), []string{"stream 2", "stream 1"}; !slices.Equal(got, want) {
		t.Errorf("the topic has %q, want %q", got, want)
	}
}

// TestDelayToStream: a delayed message goes to the topic when it is due, and is delayed no
// longer when it is durable there.
func TestDelayToStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	if err := s.DeclareExchange(t.Context(), DefaultVhost, routing.Exchange{Name: "later", Type: "x-delayed-message", DelayedType: "fanout"}); err != nil {
		t.Fatal(err)
	}
	s.bind("later", "stream", "")
	if outcomes := <-s.start(Work{Publications: []Publication{{Exchange: "later", Properties: withHeader(t, "x-delay", wire.Int32(1)), Body: []byte("1")}}}); outcomes[0] != nil {
		t.Fatal(outcomes)
	}
	call := <-topics.asked
	delayed := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		_, any := s.state.Vhost(DefaultVhost).DelayedUntil()
		return any
	}
	if !delayed() {
		t.Error("the message is not delayed any more, though it is not durable in the topic")
	}
	call.answer(nil)
	for end := time.Now().Add(10 * time.Second); delayed(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("the message is still delayed")
		}
	}
	if got := topics.bodies(); !slices.Equal(got, []string{"stream 1"}) {
		t.Errorf("the topic has %q", got)
	}
}

// TestTransactionToStream: what a transaction settles is settled only if the topics take
// what it publishes.
func TestTransactionToStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.declare("in", nil)
	s.declare("out", nil)
	s.publish("in", "1")
	c := s.consume("in", 0)
	got := c.expect("1")
	w := Work{Atomic: true, Settlements: []Settlement{{c.Queue(), []int64{got[0].ID}, Accept}},
		Publications: []Publication{{Key: "stream", Body: []byte("a")}, {Key: "out", Body: []byte("b")}}}
	for _, refusal := range []error{ErrTooLarge, nil} {
		done := s.start(w)
		call := <-topics.asked
		for _, name := range []string{"in", "out"} {
			if i, err := s.Queue(DefaultVhost, name, ""); err != nil || i.Ready+i.Unsettled != map[string]int64{"in": 1}[name] {
				t.Errorf("before the topic has answered, queue %s is %+v: %v", name, i, err)
			}
		}
		call.answer(refusal)
		if outcomes := <-done; !errors.Is(outcomes[0], refusal) || outcomes[1] != nil {
			t.Errorf("outcomes %v", outcomes)
		}
	}
	for name, want := range map[string]int64{"in": 0, "out": 1} {
		if i, err := s.Queue(DefaultVhost, name, ""); err != nil || i.Ready+i.Unsettled != want {
			t.Errorf("after the transaction queue %s is %+v: %v", name, i, err)
		}
	}
	if got := topics.bodies(); !slices.Equal(got, []string{"stream a"}) {
		t.Errorf("the topic has %q", got)
	}
}

// TestStreamMemory: a consumer of a stream queue that does not read holds little.
func TestStreamMemory(t *testing.T) {
	const size, each = 10_000, 13 // a read returns about streamBytes
	synctest.Test(t, func(t *testing.T) {
		reads := 0
		s, _ := serveTopics(t, func(topics *Topics) {
			topics.Open = func(context.Context, string, Offset) (func(context.Context, int) ([]Delivery, error), error) {
				return func(context.Context, int) ([]Delivery, error) {
					reads++
					all := make([]Delivery, each)
					for i := range all {
						all[i].Body = make([]byte, size)
					}
					return all, nil
				}, nil
			}
			topics.Watch = func(string) (func(context.Context), error) { return func(ctx context.Context) { <-ctx.Done() }, nil }
		})
		s.declare("stream", isStream)
		c, err := s.ConsumeStream(t.Context(), ConsumerOptions{Vhost: DefaultVhost, Queue: "stream", Windows: []*Window{NewWindow(0)}, Ready: func() {}, Cancelled: func() {}}, Offset{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if held := reads * each * size; held > 3*streamBytes {
			t.Errorf("%d bytes are read for a client that takes nothing", held)
		}
		before := reads
		for range 5 {
			c.Take(nil, 100)
			synctest.Wait()
		}
		if reads < before+3 {
			t.Errorf("%d reads while the client takes all it gets", reads-before)
		}
		if err := c.Close(t.Context()); err != nil {
			t.Error(err)
		}
		s.end()
	})
}

// TestCloseWithStream: an engine that closes does not wait for topics for ever.
func TestCloseWithStream(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	done := s.start(Work{Atomic: true, Publications: []Publication{{Key: "stream"}}})
	call := <-topics.asked
	closed := make(chan struct{})
	go func() {
		s.end()
		close(closed)
	}()
	call.answer(ErrClosed)
	select {
	case <-closed:
	case <-time.After(10 * time.Second):
		t.Fatal("the engine does not close")
	}
	if outcomes := <-done; !errors.Is(outcomes[0], ErrClosed) {
		t.Errorf("outcome %v", outcomes)
	}
}
