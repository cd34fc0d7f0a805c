package sender_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/sender"
	"github.com/weirmq/weir/sync/wire"
	"github.com/weirmq/weir/sync/wire/wiretest"
)

// lines is a log that a test reads.
type lines struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// with returns the lines that contain what.
func (l *lines) with(what string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []string
	for line := range strings.Lines(l.b.String()) {
		if strings.Contains(line, what) {
			found = append(found, line)
		}
	}
	return found
}

// A gateway that is refused goes on trying, rarely, and says so once.
func TestRefusedGoesOn(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var log lines
		dials := 0
		r.opts.Gateway, r.opts.Logger = "somebody-else", log.logger()
		r.opts.Dial = func(ctx context.Context, addr string) (sender.Session, error) {
			dials++
			return r.dial(ctx, addr)
		}
		r.start()
		synctest.Wait()
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		st := r.send.State()
		if word, do := sender.Refusal(st.Refused); !errors.Is(st.Refused, sender.ErrIdentity) || word != "identity" || do == "" {
			t.Errorf("refused: %v", st.Refused)
		}
		if dials < 20 || dials > 70 {
			t.Errorf("%d attempts in two hours", dials)
		}
		if got := log.with("refuses this gateway"); len(got) != 1 {
			t.Errorf("%d lines:\n%s", len(got), strings.Join(got, ""))
		}
	})
}

// A stranger at one of the addresses does not keep a gateway from its cloud at
// another, whichever comes first.
func TestQUICForeignAmongAddresses(t *testing.T) {
	right, foreign := newCloud(t), newCloud(t)
	for name, addrs := range map[string][]string{
		"first":  {foreign.addr, right.addr},
		"last":   {right.addr, foreign.addr},
		"around": {foreign.addr, foreign.addr, right.addr, foreign.addr},
	} {
		var log lines
		disk := newFakeBuffers()
		disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
		id := identity(t, right.ca, "gw-"+name, time.Now(), time.Hour)
		s, err := sender.New(sender.Options{Buffers: disk, Addrs: addrs, Identity: id, Logger: log.logger()})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(s)
		await(t, name+": delivery", func() bool { n, _ := disk.left(); return n == 0 })
		if st := s.State(); st.Refused != nil || st.Addr != right.addr {
			t.Errorf("%s: %+v", name, st)
		}
		if n := len(log.with("refuses this gateway")); n > 1 || name != "last" && n != 1 {
			t.Errorf("%s: %d lines about one address", name, n)
		}
		stop()
	}
	if got := len(foreign.log.records()); got != 0 {
		t.Errorf("the stranger got %d records", got)
	}
}

// A gateway that met only a stranger delivers when its cloud is back at the
// address.
func TestQUICForeignAlone(t *testing.T) {
	right, foreign := newCloud(t), newCloud(t)
	disk := newFakeBuffers()
	disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
	addr := foreign.addr
	id := identity(t, right.ca, "gw-1", time.Now(), time.Hour)
	var mu sync.Mutex
	dial := func(ctx context.Context, _ string) (sender.Session, error) {
		mu.Lock()
		to := addr
		mu.Unlock()
		return sender.DialTLS(id.TLS(nil))(ctx, to)
	}
	s, err := sender.New(sender.Options{Buffers: disk, Addrs: []string{"cloud"}, Gateway: "gw-1", Dial: dial})
	if err != nil {
		t.Fatal(err)
	}
	defer run(s)()
	await(t, "refusal", func() bool { return errors.Is(s.State().Refused, sender.ErrForeign) })
	mu.Lock()
	addr = right.addr
	mu.Unlock()
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
	if st := s.State(); st.Refused != nil || !st.Connected {
		t.Errorf("state %+v", st)
	}
}

// What a certificate is worth is a matter of the cloud's clock: one of the
// gateway that is ahead of it, or behind, changes nothing but a line.
func TestQUICWrongClock(t *testing.T) {
	c := newCloud(t)
	const year = 365 * 24 * time.Hour
	for _, x := range []struct {
		name    string
		clock   time.Duration // against the cloud's
		made    time.Duration // when the certificate was made, against the cloud's clock
		renewed int
		says    string
	}{
		{"right", 0, -time.Hour, 0, ""},
		{"past the certificate's end", 2 * year, -time.Hour, 0, "730 days ahead of the cloud's"},
		{"past its renewal", 5 * year, -time.Hour, 0, "1825 days ahead of the cloud's"},
		{"past the end of one that has expired", 2 * year, -2*year + 30*24*time.Hour, 1, "730 days ahead of the cloud's"},
		{"behind", -40 * year, -time.Hour, 0, "14600 days behind the cloud's"},
		{"behind, with one that has expired", -40 * year, -2*year + 30*24*time.Hour, 1, "14600 days behind the cloud's"},
	} {
		var log lines
		c.mu.Lock()
		c.renewed = 0
		c.mu.Unlock()
		disk := newFakeBuffers()
		disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
		id := identity(t, c.ca, "gw-1", time.Now().Add(x.made), year)
		s, err := sender.New(sender.Options{Buffers: disk, Addrs: []string{c.addr}, Identity: id, Logger: log.logger(),
			Now: func() time.Time { return time.Now().Add(x.clock) }})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(s)
		await(t, x.name+": delivery", func() bool { n, _ := disk.left(); return n == 0 })
		c.mu.Lock()
		renewed := c.renewed
		c.mu.Unlock()
		if renewed != x.renewed {
			t.Errorf("%s: renewed %d times", x.name, renewed)
		}
		want := 0
		if x.says != "" {
			want = 1
		}
		if got := log.with("this gateway's clock is"); len(got) != want || want > 0 && !strings.Contains(got[0], x.says) {
			t.Errorf("%s: %q", x.name, got)
		}
		if ahead := s.State().ClockAhead; (ahead - x.clock).Abs() > time.Minute {
			t.Errorf("%s: %v ahead", x.name, ahead)
		}
		stop()
	}
}

// A node that calls each certificate expired that it has just renewed is not
// asked for one after the other.
func TestExpiredForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, err := join.NewCA(time.Now().Add(-24 * time.Hour))
		if err != nil {
			t.Fatal(err)
		}
		id := identity(t, ca, gateway, time.Now(), time.Hour)
		old := identity(t, ca, gateway, time.Now().Add(-time.Hour), time.Minute).Leaf()
		renewals, dials := 0, 0
		l := newFakeLog()
		recv, err := receiver.New(receiver.Options{Attach: l.attach(), Resolve: l.Resolve, Renew: func(_ context.Context, gateway string, csr []byte) ([]byte, error) {
			renewals++
			return ca.SignGateway(csr, gateway, time.Now(), time.Hour)
		}})
		if err != nil {
			t.Fatal(err)
		}
		var log lines
		var served sync.WaitGroup
		s, err := sender.New(sender.Options{Buffers: newFakeBuffers(), Addrs: []string{"node"}, Identity: id, Plain: true, Logger: log.logger(),
			Dial: func(context.Context, string) (sender.Session, error) {
				dials++
				link := wiretest.New(wiretest.Options{Peer: wire.Peer{Gateway: gateway, Certificate: old}})
				served.Go(func() { recv.Handle(sessionOf(link.Node)) })
				return dialled(link), nil
			}})
		if err != nil {
			t.Fatal(err)
		}
		stop := run(s)
		time.Sleep(59 * time.Minute)
		stop()
		recv.Close()
		served.Wait()
		if renewals != 1 || dials > 80 {
			t.Errorf("%d renewals and %d connections in an hour", renewals, dials)
		}
		if len(log.with("clocks of its nodes differ")) != 1 {
			t.Errorf("log:\n%s", log.b.String())
		}
	})
}

// Two nodes that each call the other one the owner do not make a gateway dial
// without a pause, not even when each lets it in first.
func TestRedirectsInACircle(t *testing.T) {
	bubble(t, func(t *testing.T, r *rig) {
		var dials atomic.Int64
		r.opts.Dial = func(ctx context.Context, addr string) (sender.Session, error) {
			dials.Add(1)
			s, err := r.dial(ctx, addr)
			r.served.Go(func() {
				time.Sleep(time.Millisecond) // the Welcome comes before
				r.recv.Handover("node-2")
			})
			return s, err
		}
		r.start()
		time.Sleep(10 * time.Minute)
		if n := dials.Load(); n < 100 || n > 1000 {
			t.Errorf("%d connections in ten minutes", n)
		}
		r.stop()
	})
}

// A gateway that was reset in the cloud gets a new identity, when it is given a
// token, and delivers what it kept.
func TestQUICRejoins(t *testing.T) {
	c := newCloud(t)
	var log lines
	old := identity(t, c.ca, "gw-1", time.Now(), time.Hour)
	c.mu.Lock()
	c.admits = func(_ string, cert *x509.Certificate) error {
		if old.Leaf().Equal(cert) {
			return join.ErrRevoked
		}
		return nil
	}
	c.mu.Unlock()
	disk := newFakeBuffers()
	disk.put(weir.Live, "sensors", record.Record{Key: []byte("k"), Value: []byte("v")})
	var asked atomic.Int64
	s, err := sender.New(sender.Options{Buffers: disk, Addrs: []string{c.addr}, Identity: old, Logger: log.logger(),
		Rejoin: func(ctx context.Context, refused error) *join.Identity {
			if n := asked.Add(1); !errors.Is(refused, sender.ErrRevoked) || n == 1 {
				return nil // no token yet
			}
			id, err := sender.Join(ctx, c.addr, c.token, "gw-1", old.Key(), nil)
			if err != nil {
				t.Error(err)
			}
			return id
		}})
	if err != nil {
		t.Fatal(err)
	}
	defer run(s)()
	await(t, "delivery", func() bool { n, _ := disk.left(); return n == 0 })
	if n := asked.Load(); n != 2 || s.State().Refused != nil {
		t.Errorf("asked %d times, %+v", n, s.State())
	}
}
