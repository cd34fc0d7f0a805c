package queue

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
)

// withHeader returns the properties of a message that has one header.
func withHeader(t *testing.T, name string, v wire.Value) []byte {
	t.Helper()
	var b wire.Builder
	b.Add(name, v)
	headers, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := (&wire.Properties{Flags: wire.HasHeaders, Headers: headers}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// grouped makes publications to a queue: each is its body, which begins with its group and a
// "-", or with neither.
func grouped(t *testing.T, queue string, bodies ...string) (w Work) {
	t.Helper()
	for _, body := range bodies {
		p := Publication{Key: queue, Body: []byte(body)}
		if group, _, found := strings.Cut(body, "-"); found {
			p.Properties = withHeader(t, headerGroup, wire.Text(group))
		}
		w.Publications = append(w.Publications, p)
	}
	return w
}

func (s *served) publishGrouped(queue string, bodies ...string) {
	s.t.Helper()
	if _, err := s.submit(grouped(s.t, queue, bodies...)); err != nil {
		s.t.Fatal(err)
	}
}

func withGroups(q *state.Settings) { q.Groups = true }

// quiet fails if a consumer gets something.
func (c *client) quiet() {
	c.s.t.Helper()
	synctest.Wait()
	if got := c.Take(nil, 1); len(got) > 0 {
		c.s.t.Fatalf("delivered %q too early", got[0].Body)
	}
}

// TestGroups: the first message of each group is delivered, the next one when that is
// settled; one that goes back comes first again.
func TestGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bucket := mem.New()
		s := serve(t, bucket)
		s.declare("q", withGroups)
		c, other := s.consume("q", 0), s.consume("q", 1)
		s.publishGrouped("q", "a-1", "a-2", "b-1", "free", "a-3", "b-2")
		first := c.expect("a-1")
		second := other.expect("b-1")
		free := c.expect("free")
		c.quiet()
		if d, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", ""); ok || err != nil {
			t.Fatalf("got %q, %v", d.Body, err)
		}
		if i, err := s.Queue(DefaultVhost, "q", ""); err != nil || i.Ready != 3 || i.Unsettled != 3 {
			t.Errorf("%d ready, %d unsettled, %v", i.Ready, i.Unsettled, err)
		}
		c.settle(Release, first...)
		first = c.expect("a-1")
		c.quiet()
		c.settle(Accept, first...)
		c.expect("a-2")
		c.settle(Accept, free...)
		other.settle(Reject, second...)
		if d, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", ""); ok && string(d.Body) != "b-2" || err != nil {
			t.Fatalf("got %q, %v", d.Body, err)
		}
		s.end()

		next := serve(t, bucket)
		c = next.consume("q", 0)
		again := c.expect("a-2", "b-2")
		if !again[0].Redelivered() {
			t.Error("a-2 is not redelivered")
		}
		c.quiet()
		c.settle(Accept, again...)
		c.settle(Accept, c.expect("a-3")...)
		if n := next.left("q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
		next.end()
	})
}

// TestGroupsOfTopics: what was published to amq.topic is in the group of its record's key,
// else of its routing key.
func TestGroupsOfTopics(t *testing.T) {
	keyed := withHeader(t, headerRecordKey, wire.Text("pump"))
	for _, c := range []struct {
		m     message
		group string
		has   bool
	}{
		{message{exchange: "amq.topic", key: "sensors.1"}, "sensors.1", true},
		{message{exchange: "amq.topic", key: "sensors.1", properties: keyed}, "pump", true},
		{message{exchange: "", key: "q", properties: keyed}, "pump", true},
		{message{exchange: "", key: "q"}, "", false},
		{message{exchange: "orders", key: "q"}, "", false},
	} {
		if group, has := c.m.group(); has != c.has || has && group != c.group {
			t.Errorf("%+v: %q, %v", c.m, group, has)
		}
	}
}

// TestGroupsPurged: a purge takes what waits behind heads, too, and the groups go on.
func TestGroupsPurged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", withGroups)
		c := s.consume("q", 0)
		s.publishGrouped("q", "a-1", "a-2", "a-3")
		first := c.expect("a-1")
		c.quiet()
		if n, err := s.Purge(t.Context(), DefaultVhost, "q", ""); n != 2 || err != nil {
			t.Errorf("%d messages were purged, %v", n, err)
		}
		s.publishGrouped("q", "a-4")
		c.quiet()
		c.settle(Accept, first...)
		c.settle(Accept, c.expect("a-4")...)
		s.end()
	})
}

// TestGroupsMoved: Move takes what waits behind heads, in order, and leaves the heads.
func TestGroupsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", withGroups)
		s.declare("to", nil)
		c := s.consume("q", 0)
		s.publishGrouped("q", "a-1", "a-2", "b-1", "a-3", "b-2")
		heads := c.expect("a-1", "b-1")
		c.quiet()
		if n, err := s.Move(t.Context(), Movement{Vhost: DefaultVhost, Queue: "q", Key: "to", Most: 10}); n != 3 || err != nil {
			t.Errorf("%d messages were moved, %v", n, err)
		}
		s.consume("to", 0).expect("a-2", "a-3", "b-2")
		c.settle(Accept, heads...)
		if n := s.left("q"); n != 0 {
			t.Errorf("%d messages are left", n)
		}
		s.end()
	})
}

// TestGroupsLong: of a group that nobody works on, only so much is kept in memory.
func TestGroupsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := serve(t, mem.New())
		s.declare("q", withGroups)
		c := s.consume("q", 0)
		all := make([]string, mostBehind+1000)
		// Room is filled a burst at a time, so the other group may come that much later.
		const enough = 1000 + burst
		for i := range all {
			all[i] = fmt.Sprint("a-", i)
		}
		s.publishGrouped("q", all...)
		s.publishGrouped("q", "b-0")
		head := c.expect("a-0")
		c.quiet()
		l := s.host(s.state.Vhost(DefaultVhost)).live(s.state.Vhost(DefaultVhost).Queue("q"))
		if n := len(l.groups.waits); n < mostBehind || n > mostBehind+burst {
			t.Errorf("%d wait behind the head", n)
		}
		others := 0
		for i := 1; i < enough; i++ {
			c.settle(Accept, head...)
			d := c.next()
			if string(d.Body) == "b-0" {
				others++
				d = c.next()
			}
			if string(d.Body) != all[i] {
				t.Fatalf("delivered %q, want %q", d.Body, all[i])
			}
			head = []Delivery{d}
		}
		if others != 1 {
			t.Errorf("the other group came %d times when there was room", others)
		}
		s.end()
	})
}

// TestGroupsAtRandom: whatever clients and owners do, a message is delivered only when no
// earlier one of its group is there or on its way.
func TestGroupsAtRandom(t *testing.T) {
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { groupsAtRandom(t, rand.New(rand.NewPCG(seed, 0))) })
		})
	}
}

func groupsAtRandom(t *testing.T, r *rand.Rand) {
	bucket := mem.New()
	s := serve(t, bucket)
	s.declare("dead", nil)
	s.declare("q", func(q *state.Settings) {
		withGroups(q)
		deadTo("dead")(q)
		q.DeliveryLimit = 2 + r.IntN(2)
	})
	consume := func() []*client { return []*client{s.consume("q", 0), s.consume("q", 2), s.consume("q", 5)} }
	clients := consume()
	type held struct {
		Delivery
		c *client // nil: got
	}
	left := make(map[string][]string) // by group, in order
	open := make(map[string]held)
	delivered := func(d Delivery, c *client) {
		body := string(d.Body)
		group, _, _ := strings.Cut(body, "-")
		if _, is := open[group]; is || len(left[group]) == 0 || left[group][0] != body {
			t.Fatalf("%s is delivered; in its group wait %v, delivered is %q", body, left[group], open[group].Body)
		}
		open[group] = held{d, c}
	}
	collect := func() {
		synctest.Wait()
		for _, c := range clients {
			for _, d := range c.Take(nil, 100) {
				delivered(d, c)
			}
		}
	}
	settle := func(group string, v Verdict) {
		h := open[group]
		delete(open, group)
		if v != Release || h.Count+1 > s.state.Vhost(DefaultVhost).Queue("q").Settings.DeliveryLimit {
			left[group] = left[group][1:]
		}
		if _, err := s.submit(Work{Settlements: []Settlement{{Queue: h.Queue, IDs: []int64{h.ID}, Verdict: v}}}); err != nil {
			t.Fatal(err)
		}
		if h.c != nil {
			h.c.window.Release(1)
		}
	}
	number := 0
	for range 300 {
		switch n := r.IntN(100); {
		case n < 25:
			var bodies []string
			for range 1 + r.IntN(20) {
				group := fmt.Sprint("g", r.IntN(6))
				body := fmt.Sprint(group, "-", number)
				number++
				bodies, left[group] = append(bodies, body), append(left[group], body)
			}
			s.publishGrouped("q", bodies...)
		case n < 80 && len(open) > 0:
			for group := range open {
				settle(group, []Verdict{Accept, Accept, Release, Reject}[r.IntN(4)])
				break
			}
		case n < 90:
			if d, _, ok, err := s.Get(t.Context(), DefaultVhost, "q", ""); err != nil {
				t.Fatal(err)
			} else if ok {
				delivered(d, nil)
			}
		case n < 92:
			s.end()
			s = serve(t, bucket)
			clear(open)
			clients = consume()
			// What was delivered too often when the owner died is a dead letter now.
			synctest.Wait()
			time.Sleep(time.Second)
		}
		collect()
	}
	for len(open) > 0 {
		for group := range open {
			settle(group, Accept)
		}
		collect()
	}
	for group, all := range left {
		if len(all) > 0 {
			t.Errorf("%v of group %s were never delivered", all, group)
		}
	}
	s.end()
}
