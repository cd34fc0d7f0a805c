package login

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

func users(t *testing.T, names ...string) *auth.Auth {
	t.Helper()
	a := auth.New(auth.Options{})
	a.Serve(machinetest.New(a))
	for _, name := range names {
		password(t, a, name, name+"'s secret")
	}
	return a
}

func password(t *testing.T, a *auth.Auth, user, password string) {
	t.Helper()
	c, err := auth.NewCredential(auth.SCRAMSHA256, password)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.SetCredentials(t.Context(), user, c); err != nil {
		t.Fatal(err)
	}
}

var (
	home = netip.MustParseAddr("192.0.2.1")
	away = netip.MustParseAddr("192.0.2.2")
)

// try is a login by PLAIN.
func try(ctx context.Context, l *Logins, from netip.Addr, user, password string) error {
	g, err := l.Begin(Plain, from)
	if err != nil {
		return err
	}
	_, done, err := g.Step(ctx, []byte("\x00"+user+"\x00"+password))
	if err != nil {
		return err
	}
	if done.User != user {
		return fmt.Errorf("%s is %s", user, done.User)
	}
	return done.Still()
}

// took is how long a login waited, which it must not fail of, or must.
func took(t *testing.T, l *Logins, from netip.Addr, user, password string, want error) time.Duration {
	t.Helper()
	began := time.Now()
	if err := try(t.Context(), l, from, user, password); !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s from %v: %v, want %v", user, from, err, want)
	}
	return time.Since(began)
}

func TestWrongPasswordsPause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := users(t, "ann", "bob")
		l := New(Options{Users: func() *auth.Auth { return a }})
		took(t, l, home, "ann", "ann's secret", nil)
		for _, want := range []time.Duration{0, 1, 2, 4, 8, 8} {
			if d := took(t, l, home, "eve", "guess", auth.ErrCredentials); d.Round(time.Second) != want*time.Second {
				t.Errorf("a try after %v, want %v s", d, want)
			}
		}
		if d := took(t, l, away, "bob", "bob's secret", nil); d != 0 {
			t.Errorf("another address waits for %v", d)
		}
		if d := took(t, l, home, "ann", "ann's secret", nil); d != 0 {
			t.Errorf("who has logged in from there before waits for %v", d)
		}
		if d := took(t, l, home, "bob", "bob's secret", nil); d == 0 {
			t.Error("who has not does not wait")
		}
		// A success gives no guess away for nothing.
		if d := took(t, l, home, "eve", "guess", auth.ErrCredentials); d != 0 {
			t.Errorf("%v", d) // the pause was over
		}
		if d := took(t, l, home, "eve", "guess", auth.ErrCredentials); d < 7*time.Second {
			t.Errorf("a success ends the pauses: %v", d)
		}
	})
}

// A crowd that guesses is checked one at a time, and the one that is known does not
// stand in its line.
func TestCrowdStandsInLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := users(t, "ann")
		l := New(Options{Users: func() *auth.Auth { return a }})
		took(t, l, home, "ann", "ann's secret", nil)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var mu sync.Mutex
		checked := 0
		var wg sync.WaitGroup
		for range 50 {
			wg.Go(func() {
				if err := try(ctx, l, home, "ann", "guess"); errors.Is(err, auth.ErrCredentials) {
					mu.Lock()
					checked++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		if checked != 5 { // after 0, 1, 3, 7 and 15 s
			t.Errorf("%d guesses in 20 s", checked)
		}
		if len(l.lines.of) != 0 {
			t.Errorf("%d lines stay", len(l.lines.of))
		}
	})
}

// After a few wrong passwords for a user from the user's own address, logins from
// there wait like any other.
func TestKnownIsNoOracle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := users(t, "ann")
		l := New(Options{Users: func() *auth.Auth { return a }})
		took(t, l, home, "ann", "ann's secret", nil)
		took(t, l, home, "eve", "guess", auth.ErrCredentials)
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // it does not wait for the answer
		for range maxMisses {
			_ = try(ctx, l, home, "ann", "guess")
		}
		if d := took(t, l, home, "ann", "ann's secret", nil); d == 0 {
			t.Error("as many guesses as one likes")
		}
		time.Sleep(2 * maxMisses * missLife)
		if d := took(t, l, home, "ann", "ann's secret", nil); d != 0 {
			t.Errorf("it is not forgotten: %v", d)
		}
	})
}

// A password that was changed is not known any more.
func TestChangedPassword(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := users(t, "ann")
		l := New(Options{Users: func() *auth.Auth { return a }})
		took(t, l, home, "ann", "ann's secret", nil)
		g, err := l.Begin(Plain, home)
		if err != nil {
			t.Fatal(err)
		}
		password(t, a, "ann", "another")
		_, done, err := g.Step(t.Context(), []byte("\x00ann\x00another"))
		if err != nil || !errors.Is(done.Still(), ErrChanged) {
			t.Errorf("it changes during the login: %v", err)
		}
		took(t, l, home, "ann", "ann's secret", auth.ErrCredentials)
		took(t, l, home, "ann", "another", nil)
		if err := a.RemoveUser(t.Context(), "ann"); err != nil {
			t.Fatal(err)
		}
		took(t, l, home, "ann", "another", auth.ErrCredentials)
	})
}

func TestWhatIsKnownIsBounded(t *testing.T) {
	k := newKnown()
	for i := range maxPairs + 100 {
		k.add(&Login{from: home, user: fmt.Sprint(i)}, "x")
	}
	if len(k.pairs) > maxPairs {
		t.Errorf("%d pairs", len(k.pairs))
	}
}

func TestMessages(t *testing.T) {
	a := users(t, "ann")
	l := New(Options{Users: func() *auth.Auth { return a }, Penalties: budget.NewPenalties(budget.PenaltiesOptions{First: 1, Longest: 1})})
	for mechanism, messages := range map[string][]string{
		Plain:       {"", "ann", "\x00ann", "bob\x00ann\x00ann's secret", "\x00ann\x00x\x00"},
		ScramSHA256: {"", "n,,n=ann", "p=x,,n=ann,r=y"},
		OAuthBearer: {"", "n,,", "n,,\x01auth=basic x\x01\x01", "auth=bearer x"},
	} {
		for _, message := range messages {
			g, err := l.Begin(mechanism, home)
			if err != nil {
				t.Fatal(err)
			}
			var refused *Refused
			if _, done, err := g.Step(t.Context(), []byte(message)); done != nil || !errors.As(err, &refused) {
				t.Errorf("%s %q: %v", mechanism, message, err)
			}
		}
	}
	none := New(Options{Users: func() *auth.Auth { return nil }})
	if _, err := none.Begin(Plain, home); !errors.Is(err, ErrNoUsers) {
		t.Error(err)
	}
}
