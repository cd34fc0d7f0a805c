package mqtt

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// collect returns the retained messages of a new subscription, by topic. It is for a
// bubble: nothing comes for a second when all have come.
func collect(t *testing.T, c *testClient, f string) map[string]string {
	t.Helper()
	c.subscribe(filter(f, 0))
	got := make(map[string]string)
	for {
		pk, err := c.next(time.Second)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return got
		}
		if err != nil {
			t.Fatal(err)
		}
		got[pk.TopicName] = string(pk.Payload)
	}
}

// TestSystemTopics: a new subscriber gets what the broker says of itself, and then what
// changes. Nothing of it is stored or counted as a client's.
func TestSystemTopics(t *testing.T) {
	o := Options{SystemInterval: 10 * time.Second, Software: "weir 1"}
	bubble(t, o, func(t *testing.T, s *testServer) {
		c := join(t, s, 4, "c", true)
		c.publish("a", "x", 1, 1)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		got := collect(t, c, "$SYS/#")
		for topic, want := range map[string]string{
			"version": "weir 1", "uptime": "10 seconds", "clients/connected": "1", "clients/total": "1", "clients/maximum": "1",
			"publish/messages/received": "1", "subscriptions/count": "0", "retained messages/count": "0", "messages/received": "2",
		} {
			if v := got["$SYS/broker/"+topic]; v != want {
				t.Errorf("%s is %q, want %q", topic, v, want)
			}
		}
		for _, topic := range []string{"messages/sent", "bytes/received", "bytes/sent"} {
			if n, err := strconv.Atoi(got["$SYS/broker/"+topic]); err != nil || n == 0 {
				t.Errorf("%s is %q", topic, got["$SYS/broker/"+topic])
			}
		}
		time.Sleep(10 * time.Second)
		c.nc.SetReadDeadline(time.Now().Add(patience))
		if pk := c.expect(packets.Publish); pk.FixedHeader.Retain {
			t.Error("what changes comes with the retain flag")
		}
		if n := len(s.backend.payloads()); n != 1 {
			t.Errorf("%d messages stored", n)
		}
		if n := s.Stats().Retained; n != 0 {
			t.Errorf("%d retained messages of clients", n)
		}
		if n := len(s.store.snapshot().events); n != 0 {
			t.Errorf("%d events", n)
		}
	})
}

// TestSystemTopicsAreReadByThoseAllowed asks the permissions, as for any topic.
func TestSystemTopicsAreReadByThoseAllowed(t *testing.T) {
	s := start(t, Options{SystemInterval: time.Hour, May: Permissions{Subscribe: func(_, _, filter string) bool { return filter != "$SYS/#" }}})
	c := join(t, s, 4, "c", true)
	if codes := c.subscribe(filter("$SYS/#", 0)); codes[0] != 0x80 {
		t.Errorf("SUBACK %#x", codes[0])
	}
}
