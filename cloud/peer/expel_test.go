package peer

import (
	"context"
	"crypto/x509"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

var errBarred = errors.New("barred")

// TestExpel: a node that is not admitted reaches nobody and is reached by nobody, and
// connections to it that are open end.
func TestExpel(t *testing.T) {
	ca := newCA(t)
	var barred atomic.Value
	var old atomic.Pointer[x509.Certificate]
	barred.Store("")
	admit := func(node string, cert *x509.Certificate) error {
		if node == barred.Load() || cert.Equal(old.Load()) {
			return errBarred
		}
		return nil
	}
	own := identity(t, ca, "a")
	own.Admit = admit
	follow := func(ctx context.Context, _ uint32, tell func([]byte) error) error {
		err := tell([]byte("it grows"))
		<-ctx.Done()
		return errors.Join(err, ctx.Err())
	}
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Identity, o.FollowRecords = own, follow
		o.Catalogue = func(context.Context, CatalogueQuestion) (*Catalogue, error) { return new(Catalogue), nil }
	})
	third := identity(t, ca, "c")
	b, other := client(t, identity(t, ca, "b")), client(t, third)
	hold := startWith(t, ca, "d", budget.GateOptions{}, func(o *Options) { o.FollowRecords = follow })
	follows := func(c *Client, node, address string) (ended chan error) {
		told, ended := make(chan struct{}, 1), make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			err := c.FollowRecords(ctx, node, address, 0, func([]byte) error { told <- struct{}{}; return nil })
			ended <- errors.Join(err, ctx.Err())
		}()
		<-told
		return ended
	}
	endsNow := func(what string, ended chan error) {
		t.Helper()
		if err := <-ended; err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("the stream %s: %v", what, err)
		}
	}
	for _, c := range []*Client{b, other} {
		if _, err := c.Ping(t.Context(), "a", p.addr); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Catalogue(t.Context(), "a", p.addr, CatalogueQuestion{}); err != nil {
			t.Fatal(err)
		}
	}

	// Nodes that come.
	followed := follows(b, "a", p.addr)
	barred.Store("b")
	if _, err := b.Ping(t.Context(), "a", p.addr); err == nil {
		t.Error("a node that was revoked is answered on the connection that it has")
	}
	if _, err := b.Catalogue(t.Context(), "a", p.addr, CatalogueQuestion{}); err != nil {
		t.Errorf("a node that was revoked does not get the catalogue, which says so: %v", err)
	}
	p.Expel()
	endsNow("of a node that is not admitted any more", followed)
	if _, err := b.Ping(t.Context(), "a", p.addr); err == nil {
		t.Error("a node that is not admitted any more is answered")
	}
	if _, err := client(t, identity(t, ca, "b")).Ping(t.Context(), "a", p.addr); err == nil {
		t.Error("a node that is not admitted is answered on a new connection")
	}
	if _, err := other.Ping(t.Context(), "a", p.addr); err != nil {
		t.Errorf("another node: %v", err)
	}
	shown, err := third.ClientTLS("a").GetClientCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	old.Store(shown.Leaf)
	if _, err := other.Ping(t.Context(), "a", p.addr); err == nil {
		t.Error("a node whose certificate was replaced is answered on the connection that it has")
	}
	p.Expel()
	if _, err := other.Ping(t.Context(), "a", p.addr); err == nil {
		t.Error("a node whose certificate was replaced is answered on a new connection")
	}
	if _, err := client(t, identity(t, ca, "c")).Ping(t.Context(), "a", p.addr); err != nil {
		t.Errorf("with the new certificate: %v", err)
	}

	// Nodes that are asked.
	asker := NewClient(own)
	defer asker.Close()
	followed = follows(asker, "d", hold.addr)
	barred.Store("d")
	asker.Expel()
	endsNow("to a node that is not admitted any more", followed)
	if _, err := asker.Ping(t.Context(), "d", hold.addr); !errors.Is(err, errBarred) {
		t.Errorf("a node that is not admitted is asked: %v", err)
	}
}

// TestReady: a node that is not ready answers what nodes need to find each other, and
// nothing else.
func TestReady(t *testing.T) {
	ca := newCA(t)
	var ready atomic.Bool
	p := startWith(t, ca, "a", budget.GateOptions{}, func(o *Options) {
		o.Ready = func() error {
			if ready.Load() {
				return nil
			}
			return errors.New("it knows nothing")
		}
		o.Sessions = func() ([]byte, error) { return []byte("[]"), nil }
		o.Report = func(string, []byte) ([]byte, error) { return []byte("{}"), nil }
	})
	b := client(t, identity(t, ca, "b"))
	for range 2 {
		_, ping := b.Ping(t.Context(), "a", p.addr)
		_, report := b.Report(t.Context(), "a", p.addr, []byte("{}"))
		_, sessions := b.Sessions(t.Context(), "a", p.addr)
		if ping != nil || report != nil || (sessions == nil) != ready.Load() {
			t.Errorf("ready is %v: ping %v, report %v, sessions %v", ready.Load(), ping, report, sessions)
		}
		ready.Store(true)
	}
}
