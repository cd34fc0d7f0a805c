package mqtt

import (
	"fmt"
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
			c := join(t, s, 4, fmt.Sprint("kept", i), false)
			c.subscribe(filter("a", 1))
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
		c := join(t, s, 4, "kept7", false)
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
		if n := s.committer.ledger.clients["member"].account.shared.Load(); n != 0 {
			t.Errorf("%d messages are under way", n)
		}
	})
}
