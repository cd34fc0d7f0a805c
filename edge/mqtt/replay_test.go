package mqtt

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// retain publishes a retained message.
func (c *testClient) retain(topic, payload string) {
	c.t.Helper()
	pk := publishPacket(topic, payload, 1, 9)
	pk.FixedHeader.Retain = true
	c.send(pk)
	c.ackOf(packets.Puback, 9)
}

// TestLargeMessages: a message of any size within the packet limit reaches its
// subscribers, as it comes, retained and queued, whatever the buffers' bounds.
func TestLargeMessages(t *testing.T) {
	for _, qos := range []byte{0, 1, 2} {
		bubble(t, Options{MaxState: 256 << 10, MaxRetainedBytes: 2 << 20}, func(t *testing.T, s *testServer) {
			s.memory.limit = 8 << 20 // for the retained message; the queues have 128 KiB
			load := strings.Repeat("x", 950_000)
			pub := join(t, s, 4, "pub", true)
			kept := join(t, s, 4, "kept", false)
			kept.subscribe(filter("large", qos))
			pub.publish("large", load+"live", 2, 1)
			kept.message(load + "live")
			kept.disconnect()
			synctest.Wait()
			if qos > 0 {
				pub.publish("large", load+"queued", 2, 2)
				synctest.Wait()
				kept = join(t, s, 4, "kept", false)
				kept.message(load + "queued")
			}
			pub.retain("retained", load)
			sub := join(t, s, 4, "sub", true)
			sub.subscribe(filter("retained", qos), filter("small", 0))
			sub.message(load)
			pub.publish("small", "after it", 0, 0)
			sub.message("after it")
		})
	}
}

// TestBurst: a subscriber that reads gets all of a burst, at every quality of
// service, and one that does not read loses what is above its bound, which is
// counted.
func TestBurst(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		bubble(t, Options{}, func(t *testing.T, s *testServer) {
			prompt, stuck := join(t, s, 4, "prompt", true), join(t, s, 4, "stuck", true)
			prompt.subscribe(filter("a", qos))
			stuck.subscribe(filter("b", qos))
			pub := join(t, s, 4, "pub", true)
			load := strings.Repeat("x", 10_000)
			const n = 200
			read := make(chan string)
			go func() {
				defer close(read)
				for range n {
					pk, err := prompt.next(time.Minute)
					if err != nil {
						t.Error(err)
						return
					}
					prompt.settle(pk)
					read <- strings.TrimPrefix(string(pk.Payload), load)
				}
			}()
			for i := range n {
				pub.send(publishPacket("a", load+fmt.Sprint(i), qos, uint16(i+1)))
				if qos > 0 {
					pub.ackOf(packets.Puback, uint16(i+1))
				}
			}
			i := 0
			for got := range read {
				if got != fmt.Sprint(i) {
					t.Fatalf("message %d is %s", i, got)
				}
				i++
			}
			if got := s.Stats().Dropped; i != n || got != 0 {
				t.Fatalf("%d of %d arrived, %d were dropped", i, n, got)
			}
			for i := range 2 * n {
				pub.publish("b", load, qos, uint16(i+1))
			}
			settled()
			balanced(t, s)
			if got := s.Stats().Dropped; got < n/2 || s.memory.waiting.Load() > 5<<20 {
				t.Fatalf("%d were dropped, %d bytes wait", got, s.memory.waiting.Load())
			}
		})
	}
}

// TestReplayAll: a new subscriber gets every retained message, at QoS 0 and 1,
// however many there are, and they take no room in its queue meanwhile.
func TestReplayAll(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		bubble(t, Options{MaxQueued: 10, MaxQueuedBytes: 4 << 10}, func(t *testing.T, s *testServer) {
			pub := join(t, s, 4, "pub", true)
			const n = 5000
			for i := range n {
				pk := publishPacket(fmt.Sprintf("homeassistant/sensor/%d/config", i), strings.Repeat("{}", 50), 1, 1)
				pk.FixedHeader.Retain = true
				pub.send(pk)
				pub.ackOf(packets.Puback, 1)
			}
			sub := join(t, s, 4, "sub", true)
			sub.subscribe(filter("homeassistant/#", qos))
			synctest.Wait()
			balanced(t, s)
			if waiting := s.memory.waiting.Load(); waiting > 16<<10 {
				t.Fatalf("%d bytes wait", waiting)
			}
			seen := make(map[string]bool)
			for range n {
				pk := sub.expect(packets.Publish)
				sub.settle(pk)
				seen[pk.TopicName] = true
			}
			if len(seen) != n {
				t.Fatalf("%d of %d", len(seen), n)
			}
			sub.silent()
		})
	}
}

// TestReplayOrder: what is published while retained messages are on their way
// comes after the retained one of its topic, and once.
func TestReplayOrder(t *testing.T) {
	for _, qos := range []byte{0, 1} {
		bubble(t, Options{WriteBuffer: 1024}, func(t *testing.T, s *testServer) {
			pub := join(t, s, 4, "pub", true)
			const n = 600
			for i := range n {
				pub.retain(fmt.Sprintf("t/%03d", i), "old")
			}
			sub := join(t, s, 4, "sub", true)
			sub.subscribe(filter("t/#", qos)) // and it reads no further
			for i := range n {
				topic := fmt.Sprintf("t/%03d", i)
				switch i % 3 {
				case 0:
					pub.publish(topic, "plain", 1, 1)
				case 1:
					pub.retain(topic, "new")
				case 2:
					pub.retain(topic, "")
				}
			}
			pub.publish("t/end", "end", 1, 1)
			got := make(map[string][]string)
			for len(got["t/end"]) == 0 {
				pk := sub.expect(packets.Publish)
				sub.settle(pk)
				got[pk.TopicName] = append(got[pk.TopicName], string(pk.Payload))
			}
			passed := 0 // topics that were on their way before they changed
			for i := range n {
				seen := got[fmt.Sprintf("t/%03d", i)]
				now := []string{"plain", "new", ""}[i%3]
				if slices.Equal(seen, []string{"old", now}) {
					passed++
				} else if i%3 == 0 || !slices.Equal(seen, []string{now}) {
					t.Fatalf("topic %d: %q", i, seen)
				}
			}
			if passed > n/2 {
				t.Fatalf("%d old messages: the replay was over before it began", passed)
			}
		})
	}
}

// TestReplayBounds: a client that subscribes and unsubscribes without reading
// leaves nothing in its queue.
func TestReplayBounds(t *testing.T) {
	bubble(t, Options{MaxInflight: 1}, func(t *testing.T, s *testServer) {
		pub := join(t, s, 4, "pub", true)
		for i := range 10 {
			pub.retain(fmt.Sprint("t/", i), "x")
		}
		sub := join(t, s, 4, "sub", true)
		sub.subscribe(filter("t/#", 1))
		first := sub.expect(packets.Publish)
		for i := range 100 {
			sub.subscribe(filter("t/#", 1), filter(fmt.Sprint("t/", i%10), 1), filter("t/+", 1))
			sub.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Unsubscribe}, PacketID: 3,
				Filters: packets.Subscriptions{filter(fmt.Sprint("t/", i%10), 0), filter("t/+", 0)}})
			sub.ackOf(packets.Unsuback, 3)
		}
		synctest.Wait()
		q := s.dispatcher.sessions["sub"]
		q.mu.Lock()
		waiting, replays := q.waiting.len(), len(q.replays)
		q.mu.Unlock()
		if waiting != 2 || replays != 2 {
			t.Fatalf("%d wait, %d replays", waiting, replays)
		}
		sub.settle(first)
		for range 9 + 10 {
			sub.settle(sub.expect(packets.Publish))
		}
		sub.silent()
	})
}

// TestReplayWhileChanging: a replay brings every message that was there all
// the time once, whatever is set and removed around it.
func TestReplayWhileChanging(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 300 {
		var tree retainedTree
		topic := func() string {
			levels := []string{"t"}
			for range r.IntN(4) {
				levels = append(levels, string(rune('a'+r.IntN(4))))
			}
			return strings.Join(levels, "/")
		}
		stable := make(map[string]bool)
		for range 20 {
			stable[topic()] = true
		}
		for name := range stable {
			tree.set(&Message{Topic: name, Payload: []byte("x")})
		}
		p := replay{filter: "t/#", until: tree.now()}
		seen := make(map[string]int)
		for m := p.take(&tree); m != nil; m = p.take(&tree) {
			seen[m.Topic]++
			p.next = nil
			for range r.IntN(3) {
				if name := topic(); !stable[name] {
					tree.set(&Message{Topic: name, Payload: []byte("y")[:r.IntN(2)]})
				}
			}
		}
		for name := range stable {
			if seen[name] != 1 {
				t.Fatalf("seed %d: %s came %d times", seed, name, seen[name])
			}
		}
		if len(seen) != len(stable) {
			t.Fatalf("seed %d: %v, not %v", seed, seen, stable)
		}
	}
}

// TestOutboundAliases: a client that takes topic aliases gets them, no more
// than it takes, and each is set before it is used, on each connection anew.
func TestOutboundAliases(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		pk := connectPacket(5, "sub", false)
		pk.Properties.TopicAliasMaximum = 2
		pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 60, true
		sub, _ := logIn(t, s, pk)
		sub.subscribe(filter("#", 1))
		pub := join(t, s, 5, "pub", true)
		topics := []string{"sensors/one", "sensors/two", "sensors/three"}
		names := make(map[uint16]string)
		expect := func(topic string, set, used bool) {
			t.Helper()
			pk := sub.expect(packets.Publish)
			sub.settle(pk)
			alias := pk.Properties.TopicAlias
			if alias > 2 || (pk.TopicName == "") != used || (alias > 0 && pk.TopicName != "") != set {
				t.Fatalf("%+v", pk)
			}
			if set {
				names[alias] = pk.TopicName
			}
			if used && names[alias] != topic || !used && pk.TopicName != topic {
				t.Fatalf("%s is alias %d, %q", topic, alias, names[alias])
			}
		}
		for round := range 3 {
			for i, topic := range topics {
				pub.publish(topic, "x", 1, 1)
				expect(topic, i < 2 && round == 0, i < 2 && round > 0)
			}
		}
		sub.disconnect()
		synctest.Wait()
		for _, topic := range topics {
			pub.publish(topic, "x", 1, 1)
		}
		clear(names)
		sub, _ = logIn(t, s, pk)
		for i, topic := range topics {
			expect(topic, i < 2, false)
		}
		none := join(t, s, 5, "none", true)
		none.subscribe(filter("#", 1))
		for range 2 {
			pub.publish("sensors/one", "x", 1, 1)
			if pk := none.message("x"); pk.TopicName != "sensors/one" || pk.Properties.TopicAlias != 0 {
				t.Fatalf("%+v", pk)
			}
		}
	})
}
