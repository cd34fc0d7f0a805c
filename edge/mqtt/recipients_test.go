package mqtt

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestManyRecipients: a batch ends when its messages have maxRecipients, and what is left
// of it is stored and delivered with the next ones.
func TestManyRecipients(t *testing.T) {
	const clients, messages = maxRecipients/300 + 1, 999
	o := Options{ReceiveMaximum: messages + 1, MaxQueued: messages + 1, MaxState: 1 << 30}
	bubble(t, o, func(t *testing.T, s *testServer) {
		wait, most := make(chan struct{}), 0
		s.backend.before = func(batch []*Message) error {
			<-wait
			most = max(most, len(batch))
			return nil
		}
		for i := range clients {
			c, _ := joinKept(t, s, fmt.Sprint("kept", i))
			one := filter("a", 1)
			one.NoLocal = true // messages do not share a list of recipients
			c.subscribe(one)
			c.disconnect()
		}
		p := join(t, s, 4, "p", true)
		for i := range messages {
			p.send(publishPacket("a", fmt.Sprint(i), 1, uint16(i+1)))
			if i == 0 {
				synctest.Wait() // the first one is a batch, the others wait behind it
			}
		}
		synctest.Wait()
		close(wait)
		for i := range messages {
			p.ackOf(packets.Puback, uint16(i+1))
		}
		if most < maxRecipients/clients || most > maxRecipients/clients+1 {
			t.Errorf("a batch has %d messages for %d clients each", most, clients)
		}
		c, _ := joinKept(t, s, "kept7")
		for i := range messages {
			c.settle(c.message(fmt.Sprint(i)))
		}
	})
}

// TestRefusedWillIsNotShared: a will that is not stored does not count as under way to the
// member of a shared subscription that was chosen for it.
func TestRefusedWillIsNotShared(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		c := join(t, s, 4, "member", true)
		c.subscribe(filter("$share/g/a", 1))
		s.backend.refuse = func(*Message) error { return ErrFull }
		pk := connectPacket(4, "gone", true)
		pk.Connect.WillFlag, pk.Connect.WillTopic, pk.Connect.WillPayload = true, "a", []byte("x")
		lost, _ := logIn(t, s, pk)
		lost.nc.Close()
		synctest.Wait()
		if n := s.committer.state.clients["member"].account.shared.Load(); n != 0 {
			t.Errorf("%d messages are under way", n)
		}
	})
}

// TestSameRecipients: messages of one batch that find the same subscriptions have one list of
// recipients, until something changes between them.
func TestSameRecipients(t *testing.T) {
	d := newDisks(t)
	synctest.Test(t, func(t *testing.T) {
		s := d.run(t, Options{})
		kept, late, p := join(t, s, 4, "kept", false), join(t, s, 5, "late", true), join(t, s, 4, "p", true)
		kept.subscribe(filter("a/#", 2))
		release, first := make(chan struct{}), true
		var lists [][]recipient
		d.backend.before = func([]*Message) error {
			if first {
				first = false
				<-release
				return nil
			}
			for _, w := range s.committer.underWay[len(s.committer.underWay)-1].works {
				lists = append(lists, w.to)
			}
			return nil
		}
		send := func(c *testClient, pk packets.Packet) {
			c.send(pk)
			synctest.Wait()
		}
		change := func(kind byte, f packets.Subscription) packets.Packet {
			return packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: 9, Filters: packets.Subscriptions{f}}
		}
		send(p, publishPacket("x", "0", 1, 1)) // the next ones wait behind it
		send(p, publishPacket("a/1", "1", 1, 2))
		send(p, publishPacket("a/2", "2", 1, 3))
		send(p, publishPacket("a/1", "3", 0, 0)) // another QoS
		send(late, change(packets.Subscribe, filter("a/1", 1)))
		send(p, publishPacket("a/1", "4", 1, 5))
		send(p, publishPacket("a/2", "5", 1, 6)) // other subscriptions
		send(late, change(packets.Unsubscribe, filter("a/1", 1)))
		send(p, publishPacket("a/1", "6", 1, 7))
		kept.disconnect()
		synctest.Wait()
		send(p, publishPacket("a/1", "7", 1, 8))
		send(p, publishPacket("a/1", "8", 1, 9))
		close(release)
		for i := range 9 {
			if i != 3 {
				p.ackOf(packets.Puback, uint16(i+1))
			}
		}
		late.expect(packets.Suback)
		late.settle(late.message("4"))
		late.expect(packets.Unsuback)
		var same, away []bool
		for i, to := range lists {
			same = append(same, i > 0 && sameList(lists[i-1], to))
			away = append(away, to[0].away)
		}
		if want := []bool{false, true, false, false, false, false, false, true}; !slices.Equal(same, want) {
			t.Errorf("same lists: %v, want %v", same, want)
		}
		if want := []bool{false, false, false, false, false, false, true, true}; !slices.Equal(away, want) {
			t.Errorf("away: %v, want %v", away, want)
		}
		kept = join(t, s, 4, "kept", false)
		for _, m := range []string{"1", "2", "4", "5", "6", "7", "8"} {
			kept.settle(kept.message(m))
		}
		s.Close()
	})
}
