package login

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/listener"
)

// in logs ann in by a password.
func in(t *testing.T, l *Logins, as string) (*Login, *Proved) {
	t.Helper()
	g, err := l.Begin(Plain, home)
	if err != nil {
		t.Fatal(err)
	}
	_, done, err := g.Step(t.Context(), []byte("\x00"+as+"\x00"+as+"'s secret"))
	if err != nil || done == nil {
		t.Fatal(err)
	}
	return g, done
}

// TestSession: a client is known once it has logged in, keeps its name, and must log in
// again when the listener says so.
func TestSession(t *testing.T) {
	known := users(t, "ann", "bob")
	logins, sessions := New(Options{Users: func() *auth.Auth { return known }}), NewSessions()
	now := time.Unix(1_700_000_000, 0)
	l := &listener.Listener{SASL: Mechanisms(), Reauth: time.Minute}
	x := sessions.Open(l, func() time.Time { return now }, func(error) {})
	defer x.Close()
	if err := x.Greet(t.Context(), nil, time.Second); err != nil || x.Known() || x.Principal() != Anonymous {
		t.Errorf("greeted: %v, known %v, %s", err, x.Known(), x.Principal())
	}
	life, first, err := x.Welcome(in(t, logins, "ann"))
	if err != nil || !first || life != time.Minute || !x.Known() || !x.Expires() || x.Expired() || x.Principal() != "User:ann" {
		t.Errorf("%v, first %v, for %v, %s", err, first, life, x.Principal())
	}
	if now = now.Add(time.Minute); !x.Expired() {
		t.Error("a login that is too old counts")
	}
	if _, _, err := x.Welcome(in(t, logins, "bob")); !errors.Is(err, ErrIdentity) || x.Principal() != "User:ann" {
		t.Errorf("another user on the same connection: %v", err)
	}
	if _, first, err := x.Welcome(in(t, logins, "ann")); err != nil || first || x.Expired() {
		t.Errorf("again: %v, first %v", err, first)
	}
	g, done := in(t, logins, "ann")
	password(t, known, "ann", "another")
	if _, _, err := x.Welcome(g, done); !errors.Is(err, ErrChanged) {
		t.Errorf("a password that was replaced meanwhile: %v", err)
	}
	open := sessions.Open(&listener.Listener{}, time.Now, func(error) {})
	defer open.Close()
	if err := open.Greet(t.Context(), nil, time.Second); err != nil || !open.Known() || open.Expires() {
		t.Errorf("a listener that asks nobody: %v", err)
	}
	if of := Of("User:eve"); of.Principal() != "User:eve" || !of.Known() || of.Expired() {
		t.Error("a client of another node is not known")
	}
}

// TestDrop: the sessions of a user end whose credential is gone, and no others.
func TestDrop(t *testing.T) {
	known := users(t, "ann", "bob")
	logins, sessions := New(Options{Users: func() *auth.Auth { return known }}), NewSessions()
	ended := make(map[string]error)
	for _, user := range []string{"ann", "bob"} {
		x := sessions.Open(&listener.Listener{SASL: Mechanisms()}, time.Now, func(err error) { ended[user] = err })
		defer x.Close()
		if _, _, err := x.Welcome(in(t, logins, user)); err != nil {
			t.Fatal(err)
		}
	}
	closed := sessions.Open(&listener.Listener{SASL: Mechanisms()}, time.Now, func(error) { t.Error("a closed session was ended") })
	if _, _, err := closed.Welcome(in(t, logins, "ann")); err != nil {
		t.Fatal(err)
	}
	closed.Close()
	if sessions.Drop("ann"); !errors.Is(ended["ann"], ErrDropped) || len(ended) != 1 {
		t.Errorf("ended: %v", ended)
	}
}

// TestHurry: a client that does not log in has to go.
func TestHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, l := range []*listener.Listener{{SASL: Mechanisms()}, {}} {
			ctx, cancel := context.WithCancelCause(t.Context())
			x := NewSessions().Open(l, time.Now, cancel)
			if err := x.Greet(ctx, nil, time.Second); err != nil {
				t.Fatal(err)
			}
			stop := x.Hurry(time.Second)
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if gone := ctx.Err() != nil; gone == x.Known() {
				t.Errorf("known %v, ended %v", x.Known(), context.Cause(ctx))
			}
			stop()
			cancel(nil)
			x.Close()
		}
	})
}
