package queue

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
)

// seen declares an exchange that looks for duplicates, and binds it to queues.
func (s *served) seen(name string, size, ttl int64, queues ...string) {
	s.t.Helper()
	x := routing.Exchange{Name: name, Type: routing.Deduplication, CacheSize: size, CacheTTL: ttl, Durable: true}
	if err := s.DeclareExchange(s.t.Context(), DefaultVhost, x); err != nil {
		s.t.Fatal(err)
	}
	for _, q := range queues {
		if err := s.Bind(s.t.Context(), DefaultVhost, routing.Binding{Source: name, Destination: q}); err != nil {
			s.t.Fatal(err)
		}
	}
}

// send publishes messages at once: each is a body, and its value after a colon.
func (s *served) send(exchange, key string, all ...string) {
	s.t.Helper()
	var w Work
	for _, m := range all {
		body, value, _ := strings.Cut(m, ":")
		p := Publication{Exchange: exchange, Key: key, Body: []byte(body)}
		if value != "" {
			p.Properties = duplicable(value)
		}
		w.Publications = append(w.Publications, p)
	}
	outcomes, err := s.submit(w)
	if err = errors.Join(append(outcomes, err)...); err != nil {
		s.t.Fatal(err)
	}
}

// waiting returns the bodies of what waits in a queue.
func (s *served) waiting(queue string) string {
	s.t.Helper()
	all, err := s.Peek(s.t.Context(), DefaultVhost, queue, "", 0, 100)
	if err != nil {
		s.t.Fatal(err)
	}
	var bodies []string
	for _, d := range all {
		bodies = append(bodies, string(d.Body))
	}
	return strings.Join(bodies, " ")
}

func (s *served) want(queue, bodies string) {
	s.t.Helper()
	if got := s.waiting(queue); got != bodies {
		s.t.Errorf("queue %s has %q, want %q", queue, got, bodies)
	}
}

// TestDuplicates: an exchange passes on each value once, in its window of size and time,
// also after a takeover; what has no value it passes on always.
func TestDuplicates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		s := serve(t, bucket)
		for _, q := range []string{"a", "b", "c"} {
			s.declare(q, nil)
		}
		s.seen("x", 3, 1000, "a", "b")
		s.send("x", "", "1:v", "2:v", "3:", "4:w", "5:")
		s.send("x", "", "6:v")
		s.want("a", "1 3 4 5")
		s.want("b", "1 3 4 5")
		s.end()
		s = serve(t, bucket)
		s.send("x", "", "7:w")
		s.send("x", "", "8:p", "9:q") // v is forgotten
		s.send("x", "", "10:v")
		s.want("a", "1 3 4 5 8 9 10")
		time.Sleep(time.Second)
		s.send("x", "", "11:q", "12:q")
		s.want("a", "1 3 4 5 8 9 10 11")
		// A queue that another way leads to gets the message, and the exchange notes that.
		for _, b := range []routing.Binding{{Source: "amq.fanout", Destination: "x", ToExchange: true}, {Source: "amq.fanout", Destination: "a"}, {Source: "amq.fanout", Destination: "c"}} {
			if err := s.Bind(t.Context(), DefaultVhost, b); err != nil {
				t.Fatal(err)
			}
		}
		s.send("amq.fanout", "", "13:q", "14:z", "15:z")
		s.want("a", "1 3 4 5 8 9 10 11 13 14 15")
		s.want("b", "1 3 4 5 8 9 10 11 14")
		s.want("c", "13 14 15")
		// One that is deleted forgets.
		if err := s.DeleteExchange(t.Context(), DefaultVhost, "x", false); err != nil {
			t.Fatal(err)
		}
		s.seen("x", 3, 0, "b")
		s.send("x", "", "16:z", "17:z")
		s.want("b", "1 3 4 5 8 9 10 11 14 16")
		s.end()
	})
}

// TestDuplicatesTime: the header x-cache-ttl of a message says how long it is remembered.
func TestDuplicatesTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		s.seen("x", 10, 0, "q")
		var b wire.Builder
		b.Add("x-deduplication-header", wire.Int32(7))
		b.Add("x-cache-ttl", wire.Int32(500))
		headers, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := (&wire.Properties{Flags: wire.HasHeaders, Headers: headers}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i, pause := range []time.Duration{0, 400, 200, 0} {
			time.Sleep(pause * time.Millisecond)
			if _, err := s.submit(Work{Publications: []Publication{{Exchange: "x", Properties: raw, Body: fmt.Append(nil, i)}}}); err != nil {
				t.Fatal(err)
			}
		}
		s.want("q", "0 2")
		s.end()
	})
}

// TestDuplicatesInQueue: a queue does not take what has the value of a message that waits
// in it or is leased; when that is gone it does.
func TestDuplicatesInQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		s := serve(t, bucket)
		s.declare("q", func(q *state.Settings) { q.Deduplicate = true })
		s.declare("all", nil)
		for _, q := range []string{"q", "all"} {
			if err := s.Bind(t.Context(), DefaultVhost, routing.Binding{Source: "amq.fanout", Destination: q}); err != nil {
				t.Fatal(err)
			}
		}
		s.send("amq.fanout", "", "1:v", "2:v", "3:w", "4:", "5:")
		s.send("amq.fanout", "", "6:v")
		s.send("", "q", "7:v")
		s.want("q", "1 3 4 5")
		s.want("all", "1 2 3 4 5 6")
		s.end()
		s = serve(t, bucket)
		c := s.consume("q", 1)
		d := c.next()
		s.send("", "q", "8:v")
		c.settle(Accept, d)
		c.Close(t.Context())
		s.send("", "q", "9:v", "10:w")
		s.want("q", "3 4 5 9")
		if i, err := s.Queue(DefaultVhost, "q", ""); err != nil || i.Bytes != 4 || i.Ready != 4 {
			t.Errorf("%+v, %v", i, err)
		}
		s.end()
	})
}

// TestDuplicatesLater: what an exchange delays behind one that looks for duplicates is
// looked at when it is due.
func TestDuplicatesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		s.seen("x", 10, 0)
		later := routing.Exchange{Name: "later", Type: routing.DelayedMessage, DelayedType: routing.Fanout, Durable: true}
		if err := s.DeclareExchange(t.Context(), DefaultVhost, later); err != nil {
			t.Fatal(err)
		}
		for _, b := range []routing.Binding{{Source: "x", Destination: "later", ToExchange: true}, {Source: "later", Destination: "q"}} {
			if err := s.Bind(t.Context(), DefaultVhost, b); err != nil {
				t.Fatal(err)
			}
		}
		var b wire.Builder
		b.Add("x-deduplication-header", wire.Text("v"))
		b.Add("x-delay", wire.Int32(500))
		headers, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		raw, err := (&wire.Properties{Flags: wire.HasHeaders, Headers: headers}).Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			if outcomes, err := s.submit(Work{Publications: []Publication{{Exchange: "x", Properties: raw, Body: fmt.Append(nil, i)}}}); errors.Join(append(outcomes, err)...) != nil {
				t.Fatal(outcomes, err)
			}
		}
		s.want("q", "")
		time.Sleep(time.Second)
		synctest.Wait()
		s.want("q", "0")
		s.end()
	})
}

// TestDuplicatesAgain: a dead letter, and one that is moved back, passes an exchange that has
// seen the message: it is the message itself.
func TestDuplicatesAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", deadTo("dead"))
		s.declare("dead", func(q *state.Settings) { q.DeadLetter = &state.DeadLetter{Exchange: "x"} })
		s.seen("x", 10, 0, "q")
		s.send("x", "", "1:v")
		c := s.consume("q", 0)
		c.settle(Reject, c.next())
		s.want("dead", "1")
		if n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "dead", Most: 5, Back: true}); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		c.settle(Reject, c.next())
		dead := s.consume("dead", 0)
		dead.settle(Reject, dead.next())
		if d := c.next(); string(d.Body) != "1" {
			t.Errorf("%s", d.Body)
		}
		s.send("x", "", "2:v")
		s.want("q", "1") // leased, and no other one
		s.end()
	})
}

// TestHash: values are duplicates of each other as in RabbitMQ's plugin.
func TestHash(t *testing.T) {
	of := func(v wire.Value) string {
		h, ok := hashOf(v)
		if !ok {
			return ""
		}
		return string(h[:])
	}
	for _, x := range []struct {
		a, b  wire.Value
		equal bool
	}{
		{wire.Int32(5), wire.Int64(5), true}, {wire.Int32(5), wire.Timestamp(5), true}, {wire.Text("5"), wire.Bytes([]byte("5")), true},
		{wire.Int32(5), wire.Text("5"), false}, {wire.Int32(5), wire.Double(5), false}, {wire.Bool(true), wire.Text("true"), false},
		{wire.Text(""), wire.Text("a"), false},
	} {
		if got := of(x.a) == of(x.b); got != x.equal || of(x.a) == "" || of(x.b) == "" {
			t.Errorf("%v %v and %v %v: %v", x.a.Kind(), x.a, x.b.Kind(), x.b, got)
		}
	}
	for _, v := range []wire.Value{wire.Void(), wire.List(wire.Text("a")), wire.Nested(wire.Table{})} {
		if of(v) != "" {
			t.Errorf("%v has a hash", v.Kind())
		}
	}
}
