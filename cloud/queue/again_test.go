package queue

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
)

// TestNumbersTooLarge: a declaration that no entry can have is refused, and does not stop
// the log.
func TestNumbersTooLarge(t *testing.T) {
	s := serve(t, mem.New())
	settings := plain()
	settings.MaxLength = math.MaxInt64
	if _, err := s.DeclareQueue(t.Context(), DefaultVhost, "q", settings); !errors.Is(err, ErrInvalid) {
		t.Errorf("a length: %v", err)
	}
	settings = plain()
	settings.TTL = math.MaxInt64
	if _, err := s.DeclareQueue(t.Context(), DefaultVhost, "q", settings); !errors.Is(err, ErrInvalid) {
		t.Errorf("a time to live: %v", err)
	}
	x := routing.Exchange{Name: "x", Type: routing.Deduplication, CacheSize: math.MaxInt64}
	if err := s.DeclareExchange(t.Context(), DefaultVhost, x); !errors.Is(err, ErrInvalid) {
		t.Errorf("a cache: %v", err)
	}
	s.declare("q", nil)
	s.publish("q", "1")
	s.consume("q", 0).expect("1")
}

// TestRemembersTogether: the exchanges of a vhost do not remember more together than they
// may.
func TestRemembersTogether(t *testing.T) {
	s := serve(t, mem.New())
	declare := func(name string, size int64) error {
		return s.DeclareExchange(t.Context(), DefaultVhost, routing.Exchange{Name: name, Type: routing.Deduplication, CacheSize: size})
	}
	for i := range 3 {
		if err := declare(fmt.Sprint("x", i), 1<<40); err != nil {
			t.Fatal(err)
		}
	}
	if err := declare("y", 999_999); err != nil {
		t.Fatal(err)
	}
	if err := declare("z", 2); !errors.Is(err, ErrInvalid) {
		t.Errorf("one too much: %v", err)
	}
	if err := declare("z", 1); err != nil {
		t.Errorf("the last one: %v", err)
	}
	if err := declare("y", 999_999); err != nil {
		t.Errorf("one that is there: %v", err)
	}
}

// TestRejectToItself: the dead letter of a queue that looks for duplicates is no duplicate
// of the message that it is made of.
func TestRejectToItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", func(q *state.Settings) { q.Deduplicate = true; deadTo("q")(q) })
		s.send("", "q", "1:v")
		c := s.consume("q", 0)
		c.settle(Reject, c.expect("1")...)
		again := c.expect("1")
		s.send("", "q", "2:v")
		c.quiet()
		c.settle(Accept, again...)
		if n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "q", Key: "q", Most: 1}); n != 0 || err != nil {
			t.Errorf("%d moved, %v", n, err)
		}
		s.send("", "q", "3:v")
		c.expect("3")
		s.end()
	})
}

// TestRefusedIsNotSeen: what a publisher was told of it may publish again: an exchange that
// looks for duplicates does not remember it.
func TestRefusedIsNotSeen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("a", nil)
		s.declare("b", func(q *state.Settings) { q.MaxLength, q.Overflow = 1, state.RejectPublish })
		s.publish("b", "0")
		s.seen("x", 100, 0, "a", "b")
		w := Work{Publications: []Publication{{Exchange: "x", Properties: duplicable("v"), Body: []byte("1")}}}
		if outcomes, err := s.submit(w); err != nil || !errors.Is(outcomes[0], ErrOverflow) {
			t.Fatal(outcomes, err)
		}
		if _, err := s.Purge(t.Context(), DefaultVhost, "b", ""); err != nil {
			t.Fatal(err)
		}
		if outcomes, err := s.submit(w); err != nil || outcomes[0] != nil {
			t.Fatal(outcomes, err)
		}
		s.want("b", "1")
		s.end()
	})
}

// TestHeldFromTopic: what was read from a topic does not go to one when it was delayed
// meanwhile.
func TestHeldFromTopic(t *testing.T) {
	s, topics := serveTopics(t)
	s.declare("stream", isStream)
	s.declare("queue", nil)
	s.bind("amq.topic", "stream", "#")
	s.bind("amq.topic", "queue", "#")
	outcomes, err := s.submit(Work{
		Publications: []Publication{{Exchange: "amq.topic", Key: "k", Properties: withHeader(t, "x-delay", wire.Int32(1)), Body: []byte("1"), Delayed: true}},
		Positions:    []Position{{Reader: "r", Position: state.Position{Offset: 1}, After: 1}},
	})
	if err != nil || outcomes[0] != nil {
		t.Fatal(outcomes, err)
	}
	s.consume("queue", 0).expect("1")
	if len(topics.asked) > 0 {
		t.Errorf("it goes to a topic: %+v", (<-topics.asked).all)
	}
}

// TestGroupsTrim: a queue with groups that drops what is too much drops its oldest
// messages, those behind heads too.
func TestGroupsTrim(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", func(q *state.Settings) { withGroups(q); q.MaxLength = 3 })
		c := s.consume("q", 0)
		s.publishGrouped("q", "a-0")
		head := c.expect("a-0")
		for i := 1; i < 10; i++ {
			s.publishGrouped("q", fmt.Sprint("a-", i))
			synctest.Wait()
		}
		if i, err := s.Queue(DefaultVhost, "q", ""); err != nil || i.Ready != 3 || i.Unsettled != 1 {
			t.Errorf("%d ready, %d unsettled, %v", i.Ready, i.Unsettled, err)
		}
		for _, want := range []string{"a-7", "a-8", "a-9"} {
			c.settle(Accept, head...)
			head = c.expect(want)
			c.quiet()
		}
		s.end()
	})
}

// TestGroupsExpire: a message that waits behind a head expires, though its consumer had
// room when it arrived.
func TestGroupsExpire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", func(q *state.Settings) { withGroups(q); q.TTL = time.Second })
		c := s.consume("q", 0)
		s.publishGrouped("q", "a-1", "a-2", "a-3")
		head := c.expect("a-1")
		synctest.Wait()
		time.Sleep(time.Hour)
		s.publishGrouped("q", "a-4")
		c.settle(Accept, head...)
		c.expect("a-4")
		s.end()
	})
}

// TestGroupsMoveWhileServed: Move does not let a later message of a group pass.
func TestGroupsMoveWhileServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", withGroups)
		c := s.consume("q", 1)
		all := make([]string, 600)
		for i := range all {
			all[i] = fmt.Sprint("a-", i)
		}
		s.publishGrouped("q", all...)
		head := c.expect("a-0")
		moved := make(chan int, 1)
		go func() {
			n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "q", Exchange: "nobody-listens", Key: "k", Most: 1000})
			if n > 0 || err == nil {
				t.Errorf("%d moved to an exchange that is not there", n)
			}
			moved <- n
		}()
		c.settle(Accept, head...)
		<-moved
		var got []string
		for range 50 {
			d := c.next()
			got = append(got, string(d.Body))
			c.settle(Accept, d)
		}
		if !slices.Equal(got, all[1:51]) {
			t.Errorf("delivered %v", got)
		}
		s.end()
	})
}
