package listener

import (
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"
)

func TestSettings(t *testing.T) {
	for want, s := range map[string]Settings{
		"needs an address":  {},
		"set together":      {Listen: "127.0.0.1:0", TLSCert: "x"},
		"client-ca needs":   {Listen: "127.0.0.1:0", ClientCA: "x"},
		"is negative":       {Listen: "127.0.0.1:0", Reauth: -time.Second},
		"no such file":      {Listen: "127.0.0.1:0", TLSCert: "nowhere", TLSKey: "nowhere"},
		"listener in: list": {Name: "in", Listen: "127.0.0.1:x"},
	} {
		l, err := s.Open(slog.New(slog.NewTextHandler(io.Discard, nil)), nil)
		if err == nil || !strings.Contains(err.Error(), want) || l.Listener != nil {
			t.Errorf("%+v: %v, want %q", s, err, want)
		}
	}
	s := Settings{Name: "in", Listen: "127.0.0.1:0", SASL: []string{"PLAIN"}, Reauth: time.Hour}
	l, err := s.Open(slog.New(slog.DiscardHandler), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if l.Name != "in" || l.TLS != nil || len(l.SASL) != 1 || l.Reauth != time.Hour || !s.Authenticated() || (Settings{}).Authenticated() {
		t.Errorf("%+v", l)
	}
}

func TestAddress(t *testing.T) {
	at := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 7}
	for advertise, want := range map[string]string{
		"": "usual:1", "a": "a:7", "a:2": "a:2", "2001:db8::1": "[2001:db8::1]:7", "[2001:db8::1]": "[2001:db8::1]:7", "[2001:db8::1]:3": "[2001:db8::1]:3",
	} {
		if got := (Settings{Advertise: advertise}).Address(at, "usual:1"); got != want {
			t.Errorf("%q: %s, want %s", advertise, got, want)
		}
	}
}

// A listener accepts a crowd at once, and a flood at its rate.
func TestPacer(t *testing.T) {
	var p pacer
	now := time.Unix(1_700_000_000, 0)
	began := now
	for range acceptBurst {
		if d := p.next(now); d != 0 {
			t.Fatalf("one of a crowd waits for %v", d)
		}
	}
	for range acceptRate {
		now = now.Add(p.next(now))
	}
	if d := now.Sub(began).Round(10 * time.Millisecond); d != time.Second {
		t.Errorf("a flood of %d took %v", acceptRate, d)
	}
	if d := p.next(now.Add(time.Minute)); d != 0 {
		t.Errorf("a minute later: %v", d)
	}
}
