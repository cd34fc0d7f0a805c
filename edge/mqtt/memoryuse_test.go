package mqtt

import (
	"bytes"
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

func newTestLedger(o Options) *state {
	o.Backend, o.Store = newBackend(), new(memStore)
	if err := o.validate(); err != nil {
		panic(err)
	}
	return newState(&o, newMemoryUse(&o))
}

// balanced checks that what is counted is what is there, and that nothing is
// counted when all sessions have ended.
func balanced(t *testing.T, s *testServer) {
	t.Helper()
	var want int64
	for _, c := range s.committer.state.clients {
		n := sessionCost + int64(len(c.id)) + c.will.size() + int64(len(c.inbound))*c.inboundSize()
		for filter := range c.subs {
			n += subscriptionSize(c.id, filter)
		}
		if c.charged != n {
			t.Errorf("%s is charged %d bytes, not %d", c.id, c.charged, n)
		}
		want += n
	}
	for _, m := range s.committer.state.retained {
		want += retainedSize(m)
	}
	messages := make(map[*Message]bool)
	var waiting int64
	for _, q := range s.dispatcher.sessions {
		q.mu.Lock()
		var queued int64
		for _, d := range append(append([]delivery(nil), q.inflight...), q.waiting.items[q.waiting.head:]...) {
			if d.message == nil {
				continue
			}
			queued += d.cost() + int64(d.message.size())
			waiting += d.cost()
			if !messages[d.message] {
				messages[d.message] = true
				waiting += int64(d.message.size())
			}
		}
		if got := q.account.queued.Load(); got != queued {
			t.Errorf("%s has %d bytes queued, not %d", q.id, got, queued)
		}
		q.mu.Unlock()
	}
	for c := range s.conns {
		want += c.charged
	}
	if got := s.memory.waiting.Load(); got != waiting {
		t.Errorf("%d bytes wait, not %d", got, waiting)
	}
	if got := s.memory.used.Load(); got != want+waiting {
		t.Errorf("%d bytes are counted, not %d", got, want+waiting)
	}
}

// TestStateIsCounted: every byte that is added is taken off again, whatever
// way it goes.
func TestStateIsCounted(t *testing.T) {
	bubble(t, Options{MaxInflight: 1, MaxQueued: 3}, func(t *testing.T, s *testServer) {
		check := func() {
			t.Helper()
			synctest.Wait()
			balanced(t, s)
		}
		sub, _ := joinKept(t, s, "sub")
		sub.subscribe(filter("a/#", 2), filter("a/b", 1), filter("c", 1))
		sub.subscribe(filter("a/b", 2))
		sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3,
			Filters: packets.Subscriptions{filter("c", 0)}})
		sub.ackOf(packets.Unsuback, 3)
		check()
		pub, _ := logIn(t, s, withWillOf(connectPacket(5, "pub", true), 0))
		other := join(t, s, 4, "other", true)
		other.subscribe(filter("a/b", 1))
		alias := publishPacket("a/b", "x", 1, 1)
		alias.Properties.TopicAlias, alias.Properties.TopicAliasFlag = 3, true
		pub.send(alias)
		pub.ackOf(packets.Puback, 1)
		check()
		for i := range 8 {
			pub.send(publishPacket("a/b", fmt.Sprint(i), 2, uint16(i+2)))
			pub.ackOf(packets.Pubrec, uint16(i+2))
			check()
		}
		for i := range 4 {
			pub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pubrel, Qos: 1}, PacketID: uint16(i + 2)})
			pub.ackOf(packets.Pubcomp, uint16(i+2))
		}
		check()
		for _, load := range []string{"kept", "longer than before", ""} {
			pk := publishPacket("r/s/t", load, 1, 20)
			pk.FixedHeader.Retain = true
			pub.send(pk)
			pub.ackOf(packets.Puback, 20)
			check()
		}
		for range 3 {
			sub.settle(sub.expect(packets.Publish))
			check()
		}
		other.nc.Close()
		check()
		sub.disconnect()
		check()
		join(t, s, 4, "pub", true) // takes over: the will is published
		check()
		joinKept(t, s, "sub")
		check()
		join(t, s, 5, "sub", true).disconnect() // ends what was kept
		check()
		if len(s.dispatcher.sessions) != 1 || s.memory.waiting.Load() != 0 {
			t.Errorf("%d sessions, %d bytes wait", len(s.dispatcher.sessions), s.memory.waiting.Load())
		}
	})
}

// TestOldestGivesWay: a session without connection never keeps a client out:
// the one that has been away for longest ends, and its will is published.
func TestOldestGivesWay(t *testing.T) {
	bubble(t, Options{MaxSessions: 3}, func(t *testing.T, s *testServer) {
		keep := func(id string) (*testClient, packets.Packet) {
			pk := withWillOf(connectPacket(5, id, false), 1000)
			pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
			return logIn(t, s, pk)
		}
		for _, id := range []string{"a", "b", "c"} {
			c, _ := keep(id)
			c.nc.Close()
			synctest.Wait()
		}
		back, ack := keep("a") // it is no longer the oldest
		if !ack.SessionPresent {
			t.Fatal("a is gone")
		}
		if _, ack := keep("d"); ack.ReasonCode != 0 {
			t.Fatalf("CONNACK %#x", ack.ReasonCode)
		}
		synctest.Wait()
		if got := fmt.Sprint(s.backend.payloads()); got != "[gone]" {
			t.Fatalf("stored %s, not the will of b", got)
		}
		back.silent()
		balanced(t, s)
		// The store says the same.
		again := newTestLedger(Options{})
		if _, _, err := again.load(s.store.snapshot()); err != nil || again.clients["b"] != nil || len(again.clients) != 3 {
			t.Fatalf("%v, %v", again.clients, err)
		}
		if n := s.count.evicted.Get(); n != 1 {
			t.Errorf("%d are counted", n)
		}
	})
}

// TestFiltersAreBounded: filters beyond the client's bytes are refused one by
// one, with a code of their own; the connection stays, and others are not
// touched.
func TestFiltersAreBounded(t *testing.T) {
	for version, want := range map[byte]byte{4: 0x80, 5: 0x97} {
		bubble(t, Options{}, func(t *testing.T, s *testServer) {
			greedy := join(t, s, version, "greedy", false)
			refused := 0
			for i := range 60 {
				codes := greedy.subscribe(filter(fmt.Sprintf("%03d/%s", i, strings.Repeat("x", 60_000)), 1))
				if codes[0] == want {
					refused++
				} else if codes[0] != 1 {
					t.Fatalf("code %#x", codes[0])
				}
			}
			if refused < 40 || refused == 60 {
				t.Fatalf("%d of 60 are refused", refused)
			}
			if used := s.memory.used.Load(); used > 1<<20+4096 {
				t.Fatalf("%d bytes", used)
			}
			if codes := join(t, s, version, "other", false).subscribe(filter("a", 1)); codes[0] != 1 {
				t.Fatalf("another client gets code %#x", codes[0])
			}
			greedy.silent()
		})
	}
}

// TestSmallClientsFindRoom: when a few have filled all that they may, those
// that need little find room, and a client that needs much is refused.
func TestSmallClientsFindRoom(t *testing.T) {
	bubble(t, Options{MaxState: 1 << 20, MaxClientState: 512 << 10}, func(t *testing.T, s *testServer) {
		for i := range 4 {
			c := join(t, s, 5, fmt.Sprint("greedy", i), false)
			for j := range 10 {
				c.subscribe(filter(fmt.Sprintf("%d/%s", j, strings.Repeat("x", 30_000)), 1))
			}
		}
		if used := s.memory.used.Load(); used > 1<<20*5/8 || used < 1<<20/2 {
			t.Fatalf("%d bytes", used)
		}
		for i := range 20 {
			if codes := join(t, s, 5, fmt.Sprint("small", i), true).subscribe(filter("a/b/c", 1)); codes[0] != 1 {
				t.Fatalf("code %#x", codes[0])
			}
		}
		pk := connectPacket(5, "large", true)
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "w", make([]byte, 30_000)
		if _, ack := logIn(t, s, pk); ack.ReasonCode != 0x97 {
			t.Fatalf("CONNACK %#x", ack.ReasonCode)
		}
	})
}

// TestQueuesFindRoom: when sessions have taken all that they may, there is
// still room for messages that wait.
func TestQueuesFindRoom(t *testing.T) {
	bubble(t, Options{MaxState: 1 << 20, MaxClientState: 512 << 10}, func(t *testing.T, s *testServer) {
		sub := join(t, s, 5, "sub", true)
		sub.subscribe(filter("a", 1))
		for i := range 1000 {
			c, ack := joinKept(t, s, fmt.Sprint("kept", i))
			if ack.ReasonCode != 0 {
				t.Fatalf("CONNACK %#x", ack.ReasonCode)
			}
			c.disconnect()
		}
		pub := join(t, s, 4, "pub", true)
		for i := range 20 {
			pub.publish("a", strings.Repeat("x", 5000), 1, uint16(i+1))
		}
		synctest.Wait()
		if n := s.Stats(); n.Dropped != 0 || n.Sessions < 500 {
			t.Fatalf("%+v", n)
		}
		for range 20 {
			sub.settle(sub.expect(packets.Publish))
		}
	})
}

// TestAliasesAreCounted: topic aliases are a client's bytes as well.
func TestAliasesAreCounted(t *testing.T) {
	bubble(t, Options{MaxClientState: 64 << 10}, func(t *testing.T, s *testServer) {
		c := join(t, s, 5, "c", true)
		for i := range 3 {
			pk := publishPacket(strings.Repeat("x", 30_000), "", 0, 0)
			pk.Properties.TopicAlias, pk.Properties.TopicAliasFlag = uint16(i+1), true
			c.send(pk)
		}
		c.closed(0x97)
		c.nc.Close()
		synctest.Wait()
		balanced(t, s)
		if used := s.memory.used.Load(); used != 0 {
			t.Fatalf("%d bytes are left", used)
		}
	})
}

// TestQueuesAreBounded: what is in flight counts as well as what waits, and a
// message that many wait for counts once.
func TestQueuesAreBounded(t *testing.T) {
	bubble(t, Options{MaxState: 1 << 20, MaxQueuedTotal: 256 << 10}, func(t *testing.T, s *testServer) {
		var subs []*testClient
		for i := range 20 {
			c := join(t, s, 4, fmt.Sprint("sub", i), true)
			c.subscribe(filter("all", 1), filter(fmt.Sprint("own/", i), 1))
			subs = append(subs, c)
		}
		pub := join(t, s, 4, "pub", true)
		load := strings.Repeat("x", 50_000)
		pub.publish("all", load, 1, 1)
		for _, c := range subs {
			c.expect(packets.Publish) // and never acknowledges it
		}
		for i := range subs {
			pub.publish(fmt.Sprint("own/", i), load, 1, uint16(i+2))
		}
		synctest.Wait()
		balanced(t, s)
		if n := s.memory.waiting.Load(); n > 256<<10 || n < 200_000 {
			t.Fatalf("%d bytes wait", n)
		}
		if n := s.Stats().Dropped; n < 15 || n > 18 {
			t.Fatalf("%d are dropped", n)
		}
	})
}

// TestSessionExpirySetting: a session of any version ends after the server's
// limit, MQTT 5 clients are told.
func TestSessionExpirySetting(t *testing.T) {
	bubble(t, Options{MaxSessionExpiry: time.Hour}, func(t *testing.T, s *testServer) {
		join(t, s, 4, "old", false).disconnect()
		pk := connectPacket(5, "new", false)
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = never, true
		c, ack := logIn(t, s, pk)
		if ack.Properties.SessionExpiryInterval != 3600 {
			t.Errorf("told %d s", ack.Properties.SessionExpiryInterval)
		}
		c.disconnect()
		time.Sleep(time.Hour + time.Second)
		synctest.Wait()
		if n := s.Stats().Sessions; n != 0 {
			t.Fatalf("%d sessions", n)
		}
	})
}

// TestLoadTrims: the state of an earlier version, which knew no limit, is
// loaded within the limits, says so, and is written anew.
func TestLoadTrims(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	store := openStore(t, path)
	var events [][]byte
	add := func(e event) { events = append(events, e.encode()) }
	for i := range 30 {
		id := fmt.Sprintf("c%02d", i)
		add(event{kind: eventSession, client: id, expiry: never})
		for j := range 20 {
			add(event{kind: eventSubscribe, client: id, sub: subscription{filter: fmt.Sprintf("%d/%s", j, strings.Repeat("x", 10_000))}})
		}
		if i%2 == 0 {
			add(event{kind: eventEnd, client: id})
		}
	}
	if err := store.Load(func([]byte) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if err := appendTo(store, events); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	o := Options{Store: openStore(t, path), MaxState: 1 << 20, MaxClientState: 100 << 10, MaxSessions: 12, Log: slog.New(slog.NewTextHandler(&log, nil))}
	s := start(t, o)
	balanced(t, s)
	if used := s.memory.used.Load(); used > 1<<20 || used < 1<<19 {
		t.Errorf("%d bytes", used)
	}
	sessions := len(s.committer.state.clients)
	if s.committer.state.clients["c29"] == nil || s.committer.state.clients["c01"] != nil || sessions < 5 || sessions > 12 {
		t.Errorf("%d sessions are left", sessions)
	}
	s.Close()
	if got := log.String(); !strings.Contains(got, "exceeds the limits") {
		t.Errorf("log:\n%s", got)
	}
	log.Reset()
	o.Store = openStore(t, path)
	again := start(t, o)
	if len(again.committer.state.clients) != sessions || log.Len() > 0 {
		t.Errorf("the second start finds %d sessions\n%s", len(again.committer.state.clients), log.String())
	}
}
