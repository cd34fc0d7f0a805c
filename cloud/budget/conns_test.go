package budget

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func host(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("192.0.2.%d", n)) }

// guest is a connection of a test.
type guest struct {
	*Seat
	gone bool
}

func enter(t *testing.T, g *Gate, from netip.Addr) *guest {
	t.Helper()
	v := new(guest)
	s, err := g.Enter(from, func() { v.gone = true })
	if err != nil {
		t.Fatalf("%v: %v", from, err)
	}
	v.Seat = s
	return v
}

func refused(t *testing.T, g *Gate, from netip.Addr, why string) {
	t.Helper()
	if _, err := g.Enter(from, func() { t.Error("who is not there gives way") }); !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), why) {
		t.Errorf("%v: %v, not %q", from, err, why)
	}
}

func conns(o ConnsOptions) *Conns {
	o.Log = slog.New(slog.DiscardHandler)
	return NewConns(o)
}

func TestConnsHaveLimits(t *testing.T) {
	c := conns(ConnsOptions{Total: 8, Reserve: 2})
	one := c.Gate(GateOptions{Name: "one", Max: 5, PerAddress: 2, Strangers: 5})
	two := c.Gate(GateOptions{Name: "two", Max: 5, PerAddress: 5, Strangers: 5})
	first := enter(t, one, host(1))
	first.Known()
	enter(t, one, host(1)).Known()
	refused(t, one, host(1), "from this address")
	for n := 2; n < 5; n++ {
		enter(t, one, host(n)).Known()
	}
	refused(t, one, host(9), "at this listener")
	enter(t, two, host(1)).Known()
	refused(t, two, host(1), "at all listeners")
	enter(t, two, netip.MustParseAddr("::1")).Known()
	nodes := c.Gate(GateOptions{Name: "nodes", Max: 5, Reserved: true})
	enter(t, nodes, host(200)).Known()
	refused(t, two, netip.MustParseAddr("127.0.0.1"), "at all listeners")
	first.Leave()
	first.Leave() // counts once
	first.Known() // too late to matter
	enter(t, one, netip.MustParseAddr("127.0.0.1"))
	if all, strangers := one.Open(); all != 5 || strangers != 1 {
		t.Errorf("%d open, %d strangers", all, strangers)
	}
}

// Strangers have a small share of their own, in which the silent give way first.
func TestStrangersGiveWay(t *testing.T) {
	g := conns(ConnsOptions{}).Gate(GateOptions{Max: 100, Strangers: 3})
	for range 20 {
		enter(t, g, host(1)).Known() // a peer that has logged in takes no seat of the strangers
	}
	a, b, c := enter(t, g, host(1)), enter(t, g, host(1)), enter(t, g, host(1))
	a.Heard()
	enter(t, g, host(2))
	if a.gone || !b.gone || c.gone {
		t.Errorf("gone: %v %v %v, not the oldest that was silent", a.gone, b.gone, c.gone)
	}
	c.Heard()
	enter(t, g, host(3)) // all of host 1 were heard, and it has more than the newcomer
	if !a.gone || c.gone {
		t.Errorf("gone: %v %v, not the oldest of the busiest address", a.gone, c.gone)
	}
	a.Leave() // it has no seat any more
	if all, strangers := g.Open(); all != 23 || strangers != 3 {
		t.Errorf("%d open, %d strangers", all, strangers)
	}
	if got, want := g.Counts(), (GateCounts{Open: 23, Accepted: 25, GaveWay: 2}); got != want {
		t.Errorf("counted %+v, want %+v", got, want)
	}
}

// One address cannot drive out the others, however often it comes.
func TestStrangersAreSharedFairly(t *testing.T) {
	g := conns(ConnsOptions{}).Gate(GateOptions{Max: 100, Strangers: 8})
	honest := enter(t, g, host(1))
	honest.Heard()
	for range 1_000 {
		enter(t, g, host(2)).Heard()
	}
	if honest.gone {
		t.Error("the one connection of an address has given way to a busy one")
	}
	for n := 3; n < 9; n++ {
		enter(t, g, host(n)).Heard()
	}
	for n := 1; n < 9; n++ { // each address has one, and what it opens more costs itself
		enter(t, g, host(n)).Heard()
	}
	if !honest.gone {
		t.Error("an address has more than the others")
	}
}

// A listener whose seats are all taken by peers that have logged in has none for
// another.
func TestKnownStay(t *testing.T) {
	g := conns(ConnsOptions{}).Gate(GateOptions{Max: 4, PerAddress: 4})
	for range 3 {
		enter(t, g, host(1)).Known()
	}
	silent := enter(t, g, host(2))
	last := enter(t, g, host(3)) // takes the place of the stranger
	if !silent.gone {
		t.Error("a silent stranger stays in a full listener")
	}
	last.Known()
	refused(t, g, host(4), "at this listener")
}

func TestAddress(t *testing.T) {
	for in, want := range map[string]string{
		"192.0.2.7:1":                  "192.0.2.7",
		"[::ffff:192.0.2.7]:1":         "192.0.2.7",
		"[2001:db8:1:2:3:4:5:6]:1":     "2001:db8:1:2::",
		"[2001:db8:1:2:ffff:ffff::]:9": "2001:db8:1:2::",
		"[::1]:1":                      "::1",
		"[fe80::1%" + "eth0" + "]:1":   "fe80::",
	} {
		if got := Address(net.TCPAddrFromAddrPort(netip.MustParseAddrPort(in))); got.String() != want {
			t.Errorf("%s: %v", in, got)
		}
		if got := Address(net.UDPAddrFromAddrPort(netip.MustParseAddrPort(in))); got.String() != want {
			t.Errorf("%s: %v", in, got)
		}
	}
	here, _ := net.Pipe()
	if got := Address(here.LocalAddr()); got.IsValid() {
		t.Errorf("a pipe: %v", got)
	}
}

// However many are refused or give way: a line when it begins, and one at the end.
func TestConnsLogEpisodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		c := NewConns(ConnsOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
		g := c.Gate(GateOptions{Name: "out", Max: 20, PerAddress: 12, Strangers: 4})
		for range 5 {
			enter(t, g, host(1)).Known()
		}
		for range 300 {
			enter(t, g, host(1))
			time.Sleep(time.Millisecond)
		}
		for range 4 {
			enter(t, g, host(1)).Known()
		}
		for range 300 {
			refused(t, g, host(1), "address")
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		if got := log.String(); strings.Count(got, "\n") != 4 || strings.Count(got, "listener=out") != 4 || !strings.Contains(got, "count=300") {
			t.Errorf("log:\n%s", got)
		}
	})
}
