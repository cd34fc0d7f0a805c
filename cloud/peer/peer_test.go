package peer

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/sync/join"
)

func newCA(t *testing.T) *join.CA {
	t.Helper()
	ca, err := join.NewCA(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func identity(t *testing.T, ca *join.CA, name string) *join.NodeIdentity {
	t.Helper()
	id, err := join.NewNodeIdentity(ca, name, nil)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// port is a peer port under test.
type port struct {
	addr string
	gate *budget.Gate
	*Server

	mu    sync.Mutex
	heard []string
	races int
}

// start serves as node name, until the test ends.
func start(t *testing.T, ca *join.CA, name string, limits budget.GateOptions) *port {
	t.Helper()
	return startWith(t, ca, name, limits, func(*Options) {})
}

// startWith is start with further options.
func startWith(t *testing.T, ca *join.CA, name string, limits budget.GateOptions, with func(*Options)) *port {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	p := &port{addr: ln.Addr().String(), gate: budget.NewConns(budget.ConnsOptions{Log: log}).Gate(limits)}
	o := Options{Listener: ln, Identity: identity(t, ca, name), Gate: p.gate, Log: log,
		Self: func() Answer { return Answer{Node: name, Boot: "boot-1", Role: "owner", Epoch: 7, Slot: 9} },
		Heard: func(node string) {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.heard = append(p.heard, node)
		},
		Race: func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.races++
		}}
	with(&o)
	s := New(o)
	p.Server = s
	done := make(chan error, 1)
	go func() { done <- s.Serve() }()
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return p
}

func client(t *testing.T, id *join.NodeIdentity) *Client {
	c := NewClient(id)
	t.Cleanup(func() { c.Close() })
	return c
}

// TestPing: a node asks another one, over a connection that it keeps, and is known by name.
func TestPing(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "a", budget.GateOptions{})
	b := client(t, identity(t, ca, "node b/ü"))
	for range 3 {
		got, err := b.Ping(t.Context(), "a", p.addr)
		if want := (Answer{"a", "boot-1", "owner", 7, 9}); err != nil || got != want {
			t.Fatalf("%+v, %v; want %+v", got, err, want)
		}
	}
	if all, _ := p.gate.Open(); all > 2 { // net/http may dial once more before it has the first one back
		t.Errorf("%d connections for three questions", all)
	}
	if c := p.Counts(); len(c) != 1 || c[0].Open < 1 || c[0].Requests != 3 || c[0].Errors != 0 || c[0].Received < 100 || c[0].Sent < 100 {
		t.Errorf("%+v", c)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if strings.Join(p.heard, ",") != "node b/ü,node b/ü,node b/ü" {
		t.Errorf("asked by %q", p.heard)
	}
}

// TestWhoIsTurnedAway: neither end talks to anybody but a node of the cluster
// with a certificate for this port, and the right one.
func TestWhoIsTurnedAway(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "a", budget.GateOptions{})
	if _, err := client(t, identity(t, ca, "b")).Ping(t.Context(), "c", p.addr); !errors.Is(err, join.ErrNode) {
		t.Errorf("one node passes for another: %v", err)
	}
	if _, err := client(t, identity(t, newCA(t), "b")).Ping(t.Context(), "a", p.addr); err == nil {
		t.Error("a foreign node is let in, or lets itself be told")
	}
	anybody := func(tls.ConnectionState) error { return nil }
	gateway := gatewayTLS(t, ca)
	gateway.NextProtos, gateway.VerifyConnection = []string{join.ALPNPeer}, anybody
	for name, config := range map[string]*tls.Config{
		"gateway":        gateway,
		"no certificate": {InsecureSkipVerify: true, NextProtos: []string{join.ALPNPeer}, VerifyConnection: anybody},
	} {
		l := newLink(p.addr, config)
		defer l.close()
		if _, err := l.ask(t.Context(), http.MethodGet, pingPath, nil, maxAnswer); err == nil {
			t.Errorf("%s: it is let in", name)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.heard) > 0 {
		t.Errorf("asked by %q", p.heard)
	}
}

// gatewayTLS is what a gateway of the cluster shows.
func gatewayTLS(t *testing.T, ca *join.CA) *tls.Config {
	t.Helper()
	key, err := join.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	csr, err := join.NewCSR(key, "gw")
	if err != nil {
		t.Fatal(err)
	}
	der, err := ca.SignGateway(csr, "gw", time.Now(), 0)
	if err != nil {
		t.Fatal(err)
	}
	id, err := join.NewIdentity(key, der, ca.Certificate().Raw)
	if err != nil {
		t.Fatal(err)
	}
	return id.TLS(nil)
}

// TestStrangers: silent strangers that take all of their seats keep no node out.
func TestStrangers(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "a", budget.GateOptions{Max: 8, Strangers: 4, PerAddress: 8})
	for range 20 {
		c, err := net.Dial("tcp", p.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if _, err := client(t, identity(t, ca, "b")).Ping(t.Context(), "a", p.addr); err != nil {
		t.Error(err)
	}
}

// TestUnknownVerb: a node of an earlier version says so, and stays connected.
func TestUnknownVerb(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "a", budget.GateOptions{})
	b := client(t, identity(t, ca, "b"))
	for range 2 {
		if _, err := b.get(t.Context(), "a", p.addr, "/peer/v1/later", 100); !errors.Is(err, ErrUnknownVerb) {
			t.Errorf("got %v", err)
		}
	}
	if all, _ := p.gate.Open(); all > 2 { // as in TestPing
		t.Errorf("%d connections", all)
	}
	if _, err := b.get(t.Context(), "a", p.addr, pingPath, 5); !errors.Is(err, errAnswer) {
		t.Errorf("an answer that is too long: %v", err)
	}
}

// TestSilence: a question to a port that accepts and says nothing ends with its
// context, and the next one is asked over a new connection.
func TestSilence(t *testing.T) {
	ca := newCA(t)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	accepted := make(chan net.Conn, 10)
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	b := client(t, identity(t, ca, "b"))
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if _, err := b.Ping(ctx, "a", ln.Addr().String()); !errors.Is(err, context.DeadlineExceeded) || Refused(err) {
			t.Errorf("got %v", err)
		}
		cancel()
		c := <-accepted
		c.SetReadDeadline(time.Now().Add(20 * time.Second))
		for err == nil {
			_, err = c.Read(make([]byte, 4096))
		}
		var late net.Error
		if errors.As(err, &late) && late.Timeout() {
			t.Error("the connection that gave no answer stays open")
		}
		err = nil
		c.Close()
	}
	ln.Close()
	if _, err := b.Ping(t.Context(), "a", ln.Addr().String()); !Refused(err) {
		t.Errorf("where nobody listens: %v", err)
	}
}

// TestOnlyHTTP2: a node's certificate does not open another protocol.
func TestOnlyHTTP2(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "a", budget.GateOptions{})
	c, err := tls.Dial("tcp", p.addr, identity(t, ca, "b").ClientTLS("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	req, err := http.NewRequest(http.MethodGet, "http://a"+pingPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(20 * time.Second))
	if n, err := c.Read(make([]byte, 100)); n > 0 || err == nil {
		t.Errorf("HTTP/1.1 is answered: %d bytes, %v", n, err)
	}
}

func FuzzAnswer(f *testing.F) {
	body, err := json.Marshal(Answer{"a", "boot", "owner", 1, 2})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"node":"a","role":"standby","later":[1]}`))
	f.Fuzz(func(t *testing.T, p []byte) {
		a, err := decodeAnswer(p)
		if err != nil {
			return
		}
		again, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if b, err := decodeAnswer(again); err != nil || b != a {
			t.Fatalf("%+v became %+v, %v", a, b, err)
		}
	})
}
