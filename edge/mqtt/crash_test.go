package mqtt

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestCrashes lets one QoS 2 client publish numbered messages through a server
// whose disks fail, not at all, before or after they did their work, and
// which is killed at random. The client keeps its state, as the standard
// asks. In the end every message was stored once, and in order.
func TestCrashes(t *testing.T) {
	for range 60 {
		seed := rand.Uint64()
		synctest.Test(t, func(t *testing.T) { crashes(t, seed) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func crashes(t *testing.T, seed uint64) {
	r, faults := rand.New(rand.NewPCG(seed, 1)), rand.New(rand.NewPCG(seed, 2))
	b, disk := newBackend(), new(memStore)
	var dead atomic.Bool // the process has died: nothing else is stored
	b.before = func([]*Message) error {
		if dead.Load() || faults.IntN(6) == 0 {
			return errDisk
		}
		return nil
	}
	b.keep = func([]*Message, error) bool { return !dead.Load() && faults.IntN(2) == 0 }
	run := func() *testServer {
		disk.fail = func() error {
			if faults.IntN(8) == 0 {
				return errDisk
			}
			return nil
		}
		return start(t, Options{Backend: b, Store: disk, Listeners: []net.Listener{newPipes()}})
	}
	s := run()
	const n = 30
	next, released := 0, false // message next is under way; its PUBREC came
	for next < n {
		if r.IntN(10) == 0 {
			// The process dies: what the disks hold now is all there is.
			dead.Store(true)
			image := disk.snapshot()
			s.Close()
			disk = image
			dead.Store(false)
			s = run()
		}
		c := dial(t, s)
		c.version = 4
		c.send(connectPacket(4, "c", false))
		if ack, err := c.next(patience); err == nil && ack.ReasonCode == 0 {
			next, released = exchange(c, r, next, released, n)
		}
		c.nc.Close()
		synctest.Wait()
	}
	for i, p := range b.payloads() {
		if p != fmt.Sprint(i) {
			t.Errorf("message %d is %s: %v", i, p, b.payloads())
			return
		}
	}
	if len(b.payloads()) != n {
		t.Errorf("%d messages", len(b.payloads()))
	}
	s.Close()
}

// exchange publishes until the connection breaks, one message after the other.
func exchange(c *testClient, r *rand.Rand, next int, released bool, n int) (int, bool) {
	for next < n {
		id := uint16(next%3 + 1)
		if !released {
			pk := publishPacket("a", fmt.Sprint(next), 2, id)
			if _, err := c.nc.Write(encode(pk)); err != nil || r.IntN(12) == 0 {
				return next, released
			}
			if ack, err := c.next(patience); err != nil || ack.FixedHeader.Type != packets.Pubrec {
				return next, released
			}
			released = true
		}
		if _, err := c.nc.Write(encode(ackPacket(packets.Pubrel, id))); err != nil || r.IntN(12) == 0 {
			return next, released
		}
		if ack, err := c.next(patience); err != nil || ack.FixedHeader.Type != packets.Pubcomp {
			return next, released
		}
		next, released = next+1, false
	}
	return next, released
}

// TestStateFaults gives the state store the third kind of failure: an error,
// though the events are there. What the client was not told may be so or not,
// and a restart is never refused.
func TestStateFaults(t *testing.T) {
	b, disk := newBackend(), &appliedStore{}
	s := start(t, Options{Backend: b, Store: disk})
	c, _ := joinKept(t, s, "c")
	disk.mu.Lock()
	disk.lie = true
	disk.mu.Unlock()
	c.send(publishPacket("a", "x", 2, 7))
	c.closed(0x83) // the event is there, the message is not
	again := start(t, Options{Backend: b, Store: disk.snapshot()})
	c, _ = joinKept(t, again, "c")
	resume(c, b)
	if got := b.payloads(); !slices.Equal(got, []string{"x"}) {
		t.Fatalf("stored %v", got)
	}
}

// appliedStore can fail after it has done its work.
type appliedStore struct {
	memStore
	lie bool
}

func (s *appliedStore) Append(events [][]byte, done func(error)) {
	s.later(done, func() error { return s.append(events) })
}

func (s *appliedStore) append(events [][]byte) error {
	err := s.memStore.append(events)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lie && err == nil {
		s.broken = true
		return errors.New("error, though it was done")
	}
	return err
}
