package queue

import (
	"bytes"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// publishLarge publishes n messages of a size to a queue, each with a work of its own.
func (s *served) publishLarge(queue string, n, size int) {
	s.t.Helper()
	for i := range n {
		w := Work{Publications: []Publication{{Key: queue, Body: bytes.Repeat([]byte{byte(i)}, size)}}}
		if outcomes, err := s.submit(w); err != nil || outcomes[0] != nil {
			s.t.Fatal(outcomes, err)
		}
	}
}

// TestLargeMessages: a consumer gets all messages though it can hold only some of them at
// a time, and does not hold many more than that.
func TestLargeMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		s.publishLarge("q", 12, 600<<10)
		c := s.consume("q", 0)
		for i := range 12 {
			synctest.Wait()
			c.mu.Lock()
			if n := len(c.held); n > 4 {
				t.Errorf("%d messages of 600 KB are held", n)
			}
			c.mu.Unlock()
			if d := c.next(); d.Body[0] != byte(i) {
				t.Errorf("message %d, want %d", d.Body[0], i)
			}
		}
		s.end()
	})
}

// TestLargeProperties: what a consumer holds is bounded as well if the messages are all
// properties.
func TestLargeProperties(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		var headers wire.Builder
		headers.Add("large", wire.Text(string(bytes.Repeat([]byte{'x'}, 600<<10))))
		table, err := headers.Table()
		if err != nil {
			t.Fatal(err)
		}
		p := wire.Properties{Flags: wire.HasHeaders, Headers: table}
		raw, err := p.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		const messages = 12
		for range messages {
			if outcomes, err := s.submit(Work{Publications: []Publication{{Key: "q", Properties: raw}}}); err != nil || outcomes[0] != nil {
				t.Fatal(outcomes, err)
			}
		}
		c := s.consume("q", 0)
		for range messages {
			synctest.Wait()
			c.mu.Lock()
			if n := len(c.held); n > 4 {
				t.Errorf("%d messages of 600 KB are held", n)
			}
			c.mu.Unlock()
			c.next()
		}
		c.mu.Lock()
		if c.size != 0 {
			t.Errorf("%d bytes of no messages are held", c.size)
		}
		c.mu.Unlock()
		s.end()
	})
}

// TestMostLeased: a consumer without a window goes on when it settles, after it had as
// many messages as one can have.
func TestMostLeased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		const extra = 10
		for range 10 {
			w := Work{Publications: make([]Publication, (mostLeased+extra)/10)}
			for i := range w.Publications {
				w.Publications[i].Key = "q"
			}
			if _, err := s.submit(w); err != nil {
				t.Fatal(err)
			}
		}
		c := s.consume("q", 0)
		take := func() (all []Delivery) {
			for {
				synctest.Wait()
				n := len(all)
				if all = c.Take(all, 1000); len(all) == n {
					return all
				}
			}
		}
		all := take()
		if len(all) != mostLeased {
			t.Errorf("%d messages are leased, want %d", len(all), mostLeased)
		}
		c.settle(Accept, all[:100]...)
		if more := take(); len(more) != extra {
			t.Errorf("%d more messages, want %d", len(more), extra)
		}
		s.end()
	})
}

// TestRejectAgain: a read that fails between dead letters does not repeat the ones before.
func TestRejectAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := storagetest.NewFaults(mem.New(), 1)
		s := serve(t, bucket, func(o *commitlog.Options) { o.TailBytes = 1 })
		s.declare("q", deadTo("dead"))
		s.declare("dead", nil)
		s.publishLarge("q", 3, 3<<20)
		c := s.consume("q", 0)
		all := []Delivery{c.next(), c.next(), c.next()}
		var gets atomic.Int64
		bucket.Plan(func(call storagetest.Call) storagetest.Outcome {
			if call.Verb == storagetest.Get && gets.Add(1) == 2 {
				return storagetest.Outcome{Fate: storagetest.Fail}
			}
			return storagetest.Outcome{}
		})
		c.settle(Reject, all...)
		if gets.Load() < 3 {
			t.Fatalf("%d reads: none has failed", gets.Load())
		}
		// The answer came when all dead letters were durable.
		if s.left("dead") != 3 || s.left("q") != 0 {
			t.Errorf("%d dead letters, want 3; %d messages are left", s.left("dead"), s.left("q"))
		}
		s.end()
	})
}

// TestMoveWhole: a message that one of its new queues rejects is moved to none.
func TestMoveWhole(t *testing.T) {
	s := serve(t, mem.New())
	limit := func(n int64) func(*state.Settings) {
		return func(q *state.Settings) { q.MaxLength, q.Overflow = n, state.RejectPublish }
	}
	s.declare("from", nil)
	s.declare("a", limit(1))
	s.declare("b", limit(0))
	for _, name := range []string{"a", "b"} {
		if err := s.Bind(t.Context(), DefaultVhost, routing.Binding{Source: "amq.fanout", Destination: name}); err != nil {
			t.Fatal(err)
		}
	}
	s.publish("from", "x")
	for range 2 {
		n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "from", Most: 10, Exchange: "amq.fanout"})
		if n != 0 || !errors.Is(err, ErrOverflow) {
			t.Errorf("moved %d, %v", n, err)
		}
	}
	if s.left("from") != 1 || s.left("a") != 0 {
		t.Errorf("%d and %d messages, want 1 and 0", s.left("from"), s.left("a"))
	}
	s.publish("a", "y") // there is room for it
}

// TestMoveLarge: more than what fits into a slot is moved in several.
func TestMoveLarge(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("from", nil)
	s.declare("to", nil)
	s.publishLarge("from", 12, 2<<20)
	n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "from", Most: 100, Key: "to"})
	if err != nil || n != 12 || s.left("to") != 12 || s.left("from") != 0 {
		t.Errorf("moved %d, %v", n, err)
	}
}

// TestDelayLarge: more delayed messages become due at once than fit into a slot.
func TestDelayLarge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		x := routing.Exchange{Name: "late", Type: routing.DelayedMessage, DelayedType: routing.Fanout, Durable: true}
		if err := s.DeclareExchange(t.Context(), DefaultVhost, x); err != nil {
			t.Fatal(err)
		}
		if err := s.Bind(t.Context(), DefaultVhost, routing.Binding{Source: "late", Destination: "q"}); err != nil {
			t.Fatal(err)
		}
		var b wire.Builder
		b.Add("x-delay", wire.Int64(1000))
		table, err := b.Table()
		if err != nil {
			t.Fatal(err)
		}
		p := wire.Properties{Flags: wire.HasHeaders, Headers: table}
		raw, err := p.Append(nil)
		if err != nil {
			t.Fatal(err)
		}
		for range 10 {
			w := Work{Publications: []Publication{{Exchange: "late", Properties: raw, Body: make([]byte, 3<<20)}}}
			if _, err := s.submit(w); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(3 * time.Second)
		synctest.Wait()
		if n := s.left("q"); n != 10 {
			t.Errorf("%d messages, want 10", n)
		}
		s.end()
	})
}

// TestGetAtOnce: a message that is durable can be got, though the queue looks when it
// expires.
func TestGetAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := storagetest.NewFaults(mem.New(), 1)
		s := serve(t, bucket, func(o *commitlog.Options) { o.TailBytes = 1 })
		s.declare("q", func(q *state.Settings) { q.TTL = time.Hour })
		bucket.Plan(func(call storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: time.Second}
		})
		s.publish("q", "x")
		synctest.Wait() // a read is on its way
		d, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", "")
		if err != nil || !ok || string(d.Body) != "x" {
			t.Errorf("got %q, %v, %v", d.Body, ok, err)
		}
		s.end()
	})
}

// TestPurgeFirst: what a purge on its way will remove is not handed out.
func TestPurgeFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := storagetest.NewFaults(mem.New(), 1)
		s := serve(t, bucket)
		s.declare("q", nil)
		s.publish("q", "a", "b")
		bucket.Plan(func(storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: time.Second}
		})
		purged := make(chan error, 1)
		go func() {
			_, err := s.Purge(t.Context(), DefaultVhost, "q", "")
			purged <- err
		}()
		synctest.Wait()
		if _, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", ""); ok || err != nil {
			t.Errorf("got a message that is being purged: %v", err)
		}
		if err := <-purged; err != nil {
			t.Error(err)
		}
		s.publish("q", "c")
		s.consume("q", 0).expect("c")
		s.end()
	})
}

// TestVhostAgain: a vhost that is created while one of its name is being deleted works.
func TestVhostAgain(t *testing.T) {
	s := serve(t, mem.New())
	for i := range 100 {
		if err := s.CreateVhost(t.Context(), "v"); err != nil {
			t.Fatal(err)
		}
		deleted := make(chan error, 1)
		go func() { deleted <- s.DeleteVhost(t.Context(), "v") }()
		for {
			there, err := s.HasVhost(t.Context(), "v")
			if err != nil {
				t.Fatal(err)
			}
			if !there {
				break
			}
		}
		if err := s.CreateVhost(t.Context(), "v"); err != nil {
			t.Fatal(err)
		}
		if err := <-deleted; err != nil {
			t.Fatal(err)
		}
		if _, err := s.DeclareQueue(t.Context(), "v", "q", plain()); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		s.Submit("v", Work{Publications: []Publication{{Key: "q"}}}, func(_ []error, err error) { done <- err })
		if err := <-done; err != nil {
			t.Fatalf("try %d: %v", i, err)
		}
		if err := s.DeleteVhost(t.Context(), "v"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPagesAreDropped: a vhost that nobody uses keeps no messages in memory.
func TestPagesAreDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", nil)
		s.publish("q", "x")
		s.consume("q", 0).expect("x")
		s.Engine.mu.Lock()
		h := s.host(s.state.Vhost(DefaultVhost))
		s.Engine.mu.Unlock()
		kept := func() int {
			h.pages.mu.Lock()
			defer h.pages.mu.Unlock()
			return h.pages.bytes + len(h.pages.all)
		}
		if kept() == 0 {
			t.Error("nothing was read")
		}
		time.Sleep(2 * freeAfter)
		synctest.Wait()
		if n := kept(); n != 0 {
			t.Errorf("%d bytes are kept", n)
		}
		s.end()
	})
}

// TestPublishToDeleted: a publication to a vhost that is deleted meanwhile gets the right
// error, and the engine goes on.
func TestPublishToDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := storagetest.NewFaults(mem.New(), 1)
		s := serve(t, bucket)
		if err := s.CreateVhost(t.Context(), "v"); err != nil {
			t.Fatal(err)
		}
		if _, err := s.DeclareQueue(t.Context(), "v", "q", plain()); err != nil {
			t.Fatal(err)
		}
		bucket.Plan(func(storagetest.Call) storagetest.Outcome {
			return storagetest.Outcome{Before: 10 * time.Millisecond}
		})
		deleted := make(chan error, 1)
		go func() { deleted <- s.DeleteVhost(t.Context(), "v") }()
		var err error
		for i := 0; err == nil && i < 1000; i++ {
			done := make(chan error, 1)
			s.Submit("v", Work{Publications: []Publication{{Key: "q"}}}, func(_ []error, err error) { done <- err })
			err = <-done
		}
		if !errors.Is(err, ErrNoVhost) {
			t.Errorf("publish: %v", err)
		}
		if err := <-deleted; err != nil {
			t.Error(err)
		}
		s.declare("q", nil)
		s.publish("q", "x")
		s.end()
	})
}

// TestTrimBytes: a queue that is limited in bytes loses many messages in a slot.
func TestTrimBytes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := storagetest.NewFaults(mem.New(), 1)
		s := serve(t, bucket)
		s.declare("q", func(q *state.Settings) { q.MaxBytes = 95 })
		before := bucket.Calls()
		all := make([]string, 1000)
		for i := range all {
			all[i] = fmt.Sprintf("%010d", i)
		}
		s.publish("q", all...)
		synctest.Wait()
		if n := s.left("q"); n != 9 {
			t.Errorf("%d messages are left, want 9", n)
		}
		if n := bucket.Calls() - before; n > 20 {
			t.Errorf("%d calls of the bucket", n)
		}
		s.consume("q", 0).expect(all[991:]...)
		s.end()
	})
}

// TestTurns: consumers get messages in turn; one that begins waits for its turn, and when
// one ends it is still the turn of the same one.
func TestTurns(t *testing.T) {
	s := serve(t, mem.New())
	s.declare("q", nil)
	all := map[string]*client{}
	turns := func(names ...string) {
		t.Helper()
		for _, name := range names {
			s.publish("q", name)
			all[name].expect(name)
		}
	}
	begin := func(name string) { all[name] = s.consume("q", 0) }
	end := func(name string) {
		t.Helper()
		if err := all[name].Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	begin("a")
	begin("b")
	turns("a", "b", "a")
	begin("c")
	turns("b", "a", "c", "b")
	end("b")
	turns("a", "c", "a")
	begin("d")
	begin("e")
	turns("c", "a", "d", "e", "c")
	end("a")
	turns("d", "e", "c", "d")
}
