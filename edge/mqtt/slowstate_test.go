package mqtt

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

const slowState = 4 * time.Second // less than patience

// slow makes the state store slow from now on.
func (s *testServer) slow(d time.Duration) {
	s.store.mu.Lock()
	defer s.store.mu.Unlock()
	s.store.latency = d
}

// TestSlowState: while the state store takes its time, messages that have nothing to do with it
// are acknowledged, those of many batches; everything that one connection asks for is answered in
// order, and nothing that waits for the state store is answered early.
func TestSlowState(t *testing.T) {
	d := newDisks(t)
	synctest.Test(t, func(t *testing.T) {
		s := d.run(t, Options{})
		s.store = d.store
		kept := join(t, s, 4, "kept", false)
		kept.subscribe(filter("owed/#", 1))
		kept.disconnect()
		busy, device := join(t, s, 4, "busy", false), join(t, s, 4, "device", true)
		device.publish("owed/0", "first", 1, 1) // the first file of the log is in the state now
		time.Sleep(2 * saveInterval)
		s.slow(slowState)
		begin := time.Now()
		busy.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{filter("x", 1)}})
		synctest.Wait()
		busy.send(publishPacket("plain", "from busy", 1, 8))
		synctest.Wait()
		for i := range 100 {
			device.publish("plain", fmt.Sprint(i), 1, uint16(i+2))
		}
		if d := time.Since(begin); d > slowState/2 {
			t.Errorf("devices waited %v", d)
		}
		if got := len(s.backend.payloads()); got != 102 {
			t.Errorf("%d messages are stored", got)
		}
		busy.silent()
		if ack := busy.expect(packets.Suback); ack.PacketID != 7 || time.Since(begin) < slowState {
			t.Errorf("SUBACK %d after %v", ack.PacketID, time.Since(begin))
		}
		busy.ackOf(packets.Puback, 8)
		s.slow(0)
		s.Close()
	})
}

// TestSlowStateOwed: messages for sessions that are owed them are written and synced while the
// state store takes its time, several batches of them; they are acknowledged, in order, when what
// was before them in the state is durable.
func TestSlowStateOwed(t *testing.T) {
	d := newDisks(t)
	synctest.Test(t, func(t *testing.T) {
		s := d.run(t, Options{})
		s.store = d.store
		kept := join(t, s, 4, "kept", false)
		kept.subscribe(filter("owed/#", 1))
		kept.disconnect()
		busy, device, plain := join(t, s, 4, "busy", false), join(t, s, 4, "device", true), join(t, s, 4, "plain", true)
		device.publish("owed/0", "first", 1, 1)
		time.Sleep(2 * saveInterval)
		s.slow(slowState)
		busy.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{filter("x", 1)}})
		synctest.Wait()
		for i := range 10 {
			device.send(publishPacket("owed/0", fmt.Sprint(i), 1, uint16(i+2)))
			synctest.Wait()
			plain.publish("plain", "x", 1, uint16(i+1))
		}
		if got := s.o.Owed.last(); got != 13 { // two are for subscriptions
			t.Errorf("the log of what is owed has %d records", got)
		}
		device.silent()
		busy.expect(packets.Suback)
		for i := range 10 {
			device.ackOf(packets.Puback, uint16(i+2))
		}
		s.slow(0)
		kept = join(t, s, 4, "kept", false)
		for _, p := range append([]string{"first"}, "0", "1", "2", "3", "4", "5", "6", "7", "8", "9") {
			kept.settle(kept.message(p))
		}
		s.Close()
	})
}

// TestSlowStateTakeover: a new connection of a client is welcomed when what the one before it
// asked for is durable, and Close waits for what is being written.
func TestSlowStateTakeover(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		c := join(t, s, 4, "c", false)
		s.slow(slowState)
		begin := time.Now()
		c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{filter("x", 1)}})
		synctest.Wait()
		again := dial(t, s)
		again.version = 4
		again.send(connectPacket(4, "c", false))
		synctest.Wait()
		c.expect(packets.Suback)
		if ack := again.expect(packets.Connack); !ack.SessionPresent || time.Since(begin) < slowState {
			t.Errorf("session present %v, after %v", ack.SessionPresent, time.Since(begin))
		}
		again.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 8, Filters: packets.Subscriptions{filter("y", 1)}})
		synctest.Wait()
		begin = time.Now()
		s.Close()
		if d := time.Since(begin); d < slowState/2 {
			t.Errorf("Close waited %v", d)
		}
		l := newState(&s.o, newMemoryUse(&s.o))
		if _, _, err := l.load(s.store); err != nil || len(l.clients["c"].subs) != 2 {
			t.Errorf("%v, %v", l.clients["c"], err)
		}
	})
}

// TestSlowStateFails: when the state store fails, everything with state that was under way is
// refused, a release that it may not have too. Messages that have nothing to do with it stay.
func TestSlowStateFails(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		c, other, device := join(t, s, 4, "c", false), join(t, s, 4, "other", false), join(t, s, 4, "device", true)
		c.publish("a", "x", 2, 1) // PUBREC came, PUBREL was sent, PUBCOMP came
		s.slow(slowState)
		var fail atomic.Bool
		fail.Store(true)
		s.store.mu.Lock()
		s.store.fail = func() error {
			if fail.Load() {
				return errDisk
			}
			return nil
		}
		s.store.mu.Unlock()
		other.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 7, Filters: packets.Subscriptions{filter("x", 1)}})
		synctest.Wait()
		c.send(ackPacket(packets.Pubrel, 1)) // is not known: no event
		synctest.Wait()
		device.publish("plain", "y", 1, 1)
		other.closed(0)
		c.closed(0)
		s.slow(0)
		fail.Store(false)
		time.Sleep(2 * time.Second)
		device.publish("plain", "z", 1, 2)
		if got := s.backend.payloads(); !slices.Equal(got, []string{"x", "y", "z"}) {
			t.Errorf("stored %q", got)
		}
		c = join(t, s, 4, "c", false)
		c.send(ackPacket(packets.Pubrel, 1))
		c.ackOf(packets.Pubcomp, 1)
	})
}

// TestStoreSeveral: several calls of Append are under way at once. They are answered and lie in
// the file in order; Close waits for them; after a failure all fail.
func TestStoreSeveral(t *testing.T) {
	path := t.TempDir() + "/state"
	s, _ := loadAll(t, path)
	events := sampleEvents(100)
	answers := make(chan int, len(events))
	for i := range events {
		s.Append(events[i:i+1], func(err error) {
			if err != nil {
				t.Error(err)
			}
			answers <- i
		})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	for i := range events {
		if got := <-answers; got != i {
			t.Fatalf("answer %d is that of %d", i, got)
		}
	}
	s, got := loadAll(t, path)
	if !slices.Equal(got, stringsOf(events)) {
		t.Fatalf("the file has %d events", len(got))
	}
	s.file.Close() // a disk that fails
	errs := make(chan error, len(events))
	for i := range events {
		s.Append(events[i:i+1], func(err error) { errs <- err })
	}
	first := <-errs
	if first == nil || errors.Is(first, ErrPoisoned) {
		t.Fatalf("got %v", first)
	}
	for range len(events) - 1 {
		if err := <-errs; err == nil {
			t.Fatal("an event was written after a failure")
		}
	}
	if err := appendTo(s, events[:1]); !errors.Is(err, ErrPoisoned) {
		t.Fatalf("got %v", err)
	}
}

// TestOwedSeveralBatches: batches that follow each other closely number their records one
// after the other.
func TestOwedSeveralBatches(t *testing.T) {
	d := newDisks(t)
	synctest.Test(t, func(t *testing.T) {
		owed, err := OpenOwed(d.dir, 64<<20, quiet())
		if err != nil {
			t.Fatal(err)
		}
		s := start(t, Options{Backend: &memLog{memBackend: d.backend}, Store: d.store, Owed: owed,
			Listeners: []net.Listener{newPipes()}, BatchMessages: 1})
		kept := join(t, s, 4, "kept", false)
		kept.subscribe(filter("a", 1))
		kept.disconnect()
		device := join(t, s, 4, "device", true)
		const n = 50
		for i := range n {
			device.send(publishPacket("a", fmt.Sprint(i), 1, uint16(i+1)))
		}
		for i := range n {
			device.ackOf(packets.Puback, uint16(i+1))
		}
		kept = join(t, s, 4, "kept", false)
		for i := range n {
			kept.settle(kept.message(fmt.Sprint(i)))
		}
		s.Close()
	})
}

// TestOwedFileUnderWay: a file of the log is not removed while a batch whose records it has is
// under way.
func TestOwedFileUnderWay(t *testing.T) {
	d := newDisks(t)
	synctest.Test(t, func(t *testing.T) {
		owed, err := OpenOwed(d.dir, 1<<20, quiet())
		if err != nil {
			t.Fatal(err)
		}
		owed.size = 1 // each file has the records of one batch
		s := start(t, Options{Backend: &memLog{memBackend: d.backend}, Store: d.store, Owed: owed,
			Listeners: []net.Listener{newPipes()}})
		kept := join(t, s, 4, "kept", false)
		kept.subscribe(filter("a", 1))
		kept.disconnect()
		device, other := join(t, s, 4, "device", true), join(t, s, 4, "other", true)
		time.Sleep(2 * saveInterval)
		d.backend.before = func([]*Message) error {
			time.Sleep(2 * saveInterval)
			return nil
		}
		device.send(publishPacket("a", "x", 1, 1))
		time.Sleep(saveInterval + saveInterval/2)
		other.send(publishPacket("b", "y", 1, 1))
		device.ackOf(packets.Puback, 1)
		other.ackOf(packets.Puback, 1)
		kept = join(t, s, 4, "kept", false)
		kept.settle(kept.message("x"))
		s.Close()
	})
}

// TestSlowStateBounded: the work that waits for the state store is limited; then the queue fills.
func TestSlowStateBounded(t *testing.T) {
	bubble(t, Options{BatchMessages: 4}, func(t *testing.T, s *testServer) {
		c := join(t, s, 4, "c", false)
		s.slow(slowState)
		const n = 40
		go func() {
			for i := range n {
				c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: uint16(i + 1),
					Filters: packets.Subscriptions{filter(fmt.Sprint(i), 1)}})
			}
		}()
		synctest.Wait()
		waiting, _ := s.queue.depth()
		if held := s.committer.held; held > 8 || waiting == 0 {
			t.Errorf("%d works are held, %d wait in the queue", held, waiting)
		}
		s.slow(0)
		for i := range n {
			if ack := c.expect(packets.Suback); int(ack.PacketID) != i+1 {
				t.Fatalf("SUBACK %d is for %d", i+1, ack.PacketID)
			}
		}
	})
}

// TestStoreBuffers appends events of many sizes while others are written, and now and then
// waits until nothing is: each event is in the file as it was given.
func TestStoreBuffers(t *testing.T) {
	path := t.TempDir() + "/state"
	s, _ := loadAll(t, path)
	var want []string
	room := make(chan struct{}, 3)
	for i := range 3000 {
		event := fmt.Appendf(sampleEvents(1)[0], "%d %s", i, strings.Repeat("x", i*i%50_000))
		want = append(want, string(event))
		room <- struct{}{}
		s.Append([][]byte{event}, func(err error) {
			if err != nil {
				t.Error(err)
			}
			<-room
		})
		if i%7 == 0 {
			for range cap(room) {
				room <- struct{}{}
			}
			for range cap(room) {
				<-room
			}
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, got := loadAll(t, path); !slices.Equal(got, want) {
		t.Errorf("%d events are in the file, %d were appended", len(got), len(want))
	}
}
