package mqtt

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// TestWillsOutlive: a will whose client was connected when the process died is
// published after the restart, one that waits for its delay in time or not at
// all, and one that a client took back never.
func TestWillsOutlive(t *testing.T) {
	for _, crash := range []bool{true, false} {
		bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
			time.Sleep(time.Until(clockWorks.AddDate(1, 0, 0)))
			login := func(id string, kept bool, delay uint32) *testClient {
				pk := withWillOf(connectPacket(5, id, !kept), delay)
				if kept {
					pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
				}
				pk.Connect.WillPayload = []byte(id)
				c, _ := logIn(t, s, pk)
				return c
			}
			login("clean", false, 0)
			login("back", true, 100)
			login("away", true, 100)
			login("left", true, 0).disconnect()
			login("left too", false, 0).disconnect()
			login("earlier", true, 60).nc.Close()
			time.Sleep(30 * time.Second)
			if crash {
				d, s = d.crash(t, s, Options{})
			} else {
				d, s = d.stop(t, s, Options{})
			}
			settled()
			if got := fmt.Sprint(d.backend.payloads()); got != "[clean]" {
				t.Fatalf("first %s", got)
			}
			joinKept(t, s, "back")
			time.Sleep(25 * time.Second)
			if got := fmt.Sprint(d.backend.payloads()); got != "[clean]" {
				t.Fatalf("too early: %s", got)
			}
			time.Sleep(5 * time.Second)
			if got := fmt.Sprint(d.backend.payloads()); got != "[clean earlier]" {
				t.Fatalf("after its delay: %s", got)
			}
			time.Sleep(100 * time.Second)
			if got := fmt.Sprint(d.backend.payloads()); got != "[clean earlier away]" {
				t.Fatalf("at the end: %s", got)
			}
			// And each once: they do not come again after another restart.
			d, _ = d.crash(t, s, Options{})
			time.Sleep(200 * time.Second)
			if got := fmt.Sprint(d.backend.payloads()); got != "[clean earlier away]" {
				t.Fatalf("again: %s", got)
			}
		})
	}
}

// TestExpiryGoesOn: a restart does not begin the time of a session anew, unless
// one of the clocks is not set.
func TestExpiryGoesOn(t *testing.T) {
	bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
		time.Sleep(time.Until(clockWorks.AddDate(1, 0, 0)))
		c, _ := joinKept(t, s, "c") // for an hour
		c.disconnect()
		time.Sleep(40 * time.Minute)
		d, s = d.crash(t, s, Options{})
		time.Sleep(19 * time.Minute)
		if n := s.Stats().Sessions; n != 1 {
			t.Fatal("it went early")
		}
		_, s = d.stop(t, s, Options{})
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := s.Stats().Sessions; n != 0 {
			t.Fatal("it is still there")
		}
	})
	bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
		c, _ := joinKept(t, s, "c") // in the year 2000, as the clock says
		c.disconnect()
		synctest.Wait()
		s.Close()
		time.Sleep(time.Until(clockWorks.AddDate(1, 0, 0)))
		s = d.run(t, Options{})
		synctest.Wait()
		if n := s.Stats().Sessions; n != 1 {
			t.Fatal("a session ended because a clock was set")
		}
	})
}

// TestSharedMoves: when a member of a shared subscription has gone, the messages that it did
// not acknowledge go to another member, and stay with it if there is none.
func TestSharedMoves(t *testing.T) {
	for _, kept := range []bool{false, true} {
		bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
			var members []*testClient
			for _, id := range []string{"a", "b"} {
				c := join(t, s, 4, id, !kept)
				c.subscribe(filter("$share/g/t", 1))
				members = append(members, c)
			}
			pub := join(t, s, 4, "pub", true)
			for i := range 10 {
				pub.publish("t", fmt.Sprint(i), 1, 1)
			}
			seen := make(map[string]bool)
			for range 5 { // five each
				members[0].expect(packets.Publish)
				pk := members[1].expect(packets.Publish)
				members[1].settle(pk)
				seen[string(pk.Payload)] = true
			}
			members[0].nc.Close()
			for range 5 {
				pk := members[1].expect(packets.Publish)
				seen[string(pk.Payload)] = true
				if pk.FixedHeader.Dup {
					t.Fatal("DUP on a first delivery to this client")
				}
				members[1].settle(pk)
			}
			if len(seen) != 10 {
				t.Fatalf("seen %v", seen)
			}
			members[1].silent()
			if !kept {
				return
			}
			back := join(t, s, 4, "a", false)
			back.silent()
			members[1].disconnect()
			pub.publish("t", "alone", 1, 1)
			back.expect(packets.Publish)
			back.nc.Close()
			synctest.Wait()
			join(t, s, 4, "a", false).message("alone")
			synctest.Wait()
			balanced(t, s)
		})
	}
}

// TestEarlierStateFile: a file of version 1 is read, its sessions are owed
// messages from now on, and it is of version 2 afterwards.
func TestEarlierStateFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state")
	p := []byte(storeMagic + "\x01")
	sub := subscription{filter: "a", qos: 1}
	for _, e := range []event{{kind: eventSession, client: "c", expiry: never}, {kind: eventSubscribe, client: "c", sub: sub}} {
		p = appendFrame(p, e.encode())
	}
	if err := os.WriteFile(path, p, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	run := func() *testServer {
		owed, err := OpenOwed(dir, 64<<20, quiet())
		if err != nil {
			t.Fatal(err)
		}
		return start(t, Options{Store: openStore(t, path), Owed: owed})
	}
	s := run()
	join(t, s, 4, "pub", true).publish("a", "x", 1, 1)
	s.Close()
	s = run()
	join(t, s, 4, "c", false).message("x")
	s.Close()
	if p, err := os.ReadFile(path); err != nil || p[len(storeMagic)] != 2 {
		t.Fatalf("version %d, %v", p[len(storeMagic)], err)
	}
}

// TestLeavingIsCheap: however many sessions are left behind, that is written once, and
// soon.
func TestLeavingIsCheap(t *testing.T) {
	bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
		var clients []*testClient
		for i := range 20 {
			c, _ := joinKept(t, s, fmt.Sprint("c", i))
			clients = append(clients, c)
		}
		time.Sleep(2 * saveInterval)
		writes := 0
		d.store.mu.Lock()
		d.store.fail = func() error { writes++; return nil }
		d.store.mu.Unlock()
		for _, c := range clients {
			c.disconnect()
			synctest.Wait()
		}
		time.Sleep(2 * saveInterval)
		synctest.Wait()
		d.store.mu.Lock()
		defer d.store.mu.Unlock()
		if writes < 1 || writes > 2 {
			t.Errorf("20 clients that left cost %d writes", writes)
		}
	})
}
