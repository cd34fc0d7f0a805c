package e2e

import (
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/edge"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// site is a gateway whose devices publish all the while.
type site struct {
	t       *testing.T
	c       *harness.Cluster
	auditor *audit.Auditor
	stats   device.Stats
	stop    func()
}

func newSite(t *testing.T) *site {
	s := &site{t: t, c: open(t, &harness.Cluster{}), auditor: audit.New()}
	fleet := s.c.Fleet(20, 50*time.Millisecond, 1)
	fleet.Event = s.auditor.Event
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { fleet.Run(ctx, &s.stats) })
	s.stop = func() { cancel(); running.Wait() }
	t.Cleanup(s.stop)
	return s
}

// restart kills the gateway and starts it again, after a change.
func (s *site) restart(change func()) {
	s.t.Helper()
	s.c.Edge.Kill()
	change()
	if err := s.c.StartEdge(); err != nil {
		s.t.Fatal(err)
	}
}

// await waits until the gateway says how it and its cloud get on; it must be
// ready for devices from the first answer on.
func (s *site) await(state, reason string) edge.Health {
	s.t.Helper()
	var h edge.Health
	within(s.t, 60*time.Second, "sync state "+state+" "+reason, func() bool {
		select {
		case <-s.c.Edge.Exited():
			s.t.Fatalf("the gateway ended with %d:\n%s", s.c.Edge.ExitCode(), s.c.Edge.Tail(5))
		default:
		}
		res, err := http.Get("http://" + s.c.Edge.Addr["http"] + "/readyz")
		if err != nil {
			s.t.Fatal(err)
		}
		defer res.Body.Close()
		h = edge.Health{}
		if err := json.NewDecoder(res.Body).Decode(&h); err != nil || res.StatusCode != http.StatusOK || !h.Accepting {
			s.t.Fatalf("readyz: %s %+v %v", res.Status, h, err)
		}
		return h.Sync == state && h.SyncReason == reason
	})
	return h
}

// takes waits until the gateway has acknowledged more readings.
func (s *site) takes(more int64) {
	s.t.Helper()
	before := s.stats.Acked.Load()
	within(s.t, 30*time.Second, "readings are acknowledged", func() bool { return s.stats.Acked.Load() >= before+more })
}

// logged says how many lines of the gateway's log contain what.
func (s *site) logged(what string) int {
	s.t.Helper()
	body, err := os.ReadFile(s.c.Edge.Log)
	if err != nil {
		s.t.Fatal(err)
	}
	return strings.Count(string(body), what)
}

// settle stops the devices: nothing was refused, and everything is delivered.
func (s *site) settle() {
	s.t.Helper()
	s.stop()
	if n := s.stats.Refused.Load(); n != 0 {
		s.t.Errorf("%d messages were refused", n)
	}
	if report := settle(s.t, s.c.Reader(""), s.auditor); report.Acked == 0 || report.Reported != 0 {
		s.t.Errorf("the test shows nothing: %+v", report)
	}
}

// TestForeignCloud: a gateway between two clouds, one of which it never joined,
// takes messages all the while and delivers each to its own.
func TestForeignCloud(t *testing.T) {
	s := newSite(t)
	c := s.c
	stranger, err := harness.Start(c.Dir, "stranger", "weir-cloud", "--data", filepath.Join(c.Dir, "stranger"),
		"--bucket", "file:"+filepath.Join(c.Dir, "stranger", "bucket"), "--sync", "127.0.0.1:0", "--kafka", "off", "--http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stranger.Kill)
	to := func(addr string) {
		t.Helper()
		if err := c.Link.Retarget(addr); err != nil {
			t.Fatal(err)
		}
	}
	own := c.Cloud.Addr["sync"]
	s.await(edge.SyncConnected, "")

	// The stranger alone answers at the cloud's address; later the cloud does.
	s.restart(func() { to(stranger.Addr["sync"]) })
	if h := s.await(edge.SyncRefused, "foreign"); h.ToDo == "" || h.LinkError == "" {
		t.Errorf("it does not say what to do: %+v", h)
	}
	s.takes(400)
	if n := s.logged("refuses this gateway"); n != 1 {
		t.Errorf("%d lines about one stranger:\n%s", n, c.Edge.Tail(10))
	}
	to(own)
	s.await(edge.SyncConnected, "")

	// The stranger is the first of two addresses, and the second one.
	s.restart(func() {
		to(stranger.Addr["sync"])
		c.EdgeArgs = []string{"--cloud", own}
	})
	s.await(edge.SyncConnected, "")
	s.takes(200)
	s.restart(func() {
		to(own)
		c.EdgeArgs = []string{"--cloud", stranger.Addr["sync"]}
	})
	s.await(edge.SyncConnected, "")
	s.takes(200)
	s.settle()
}

// TestGatewayOnItsOwn: a gateway that its cloud shuts out, that has lost what it
// is known by, or that never joined, takes messages all the while, and delivers
// them when it is let in again.
func TestGatewayOnItsOwn(t *testing.T) {
	s := newSite(t)
	c := s.c
	identity := filepath.Join(c.Dir, "edge", "identity.pem")
	gateways := func(act string) {
		t.Helper()
		if out, stderr, err := c.Weirctl("gateways", act, "gw-1"); err != nil {
			t.Fatalf("%v\n%s%s", err, out, stderr)
		}
	}
	s.await(edge.SyncConnected, "")
	gateways("revoke")
	s.await(edge.SyncRefused, "revoked")
	s.takes(200)
	gateways("reset") // and the token lets it in again, with the key that it has
	s.await(edge.SyncConnected, "")

	s.restart(func() {
		if err := os.WriteFile(identity, []byte("-----BEGIN"), 0o600); err != nil {
			t.Fatal(err)
		}
	})
	if h := s.await(edge.SyncRefused, "taken"); !strings.Contains(h.ToDo, "weirctl gateways reset gw-1") {
		t.Errorf("it does not say what to do: %+v", h)
	}
	s.takes(200)
	gateways("reset")
	s.await(edge.SyncConnected, "")

	// Its first start, without a token and without a cloud.
	lonely, err := harness.Start(c.Dir, "lonely", "weir-edge", "--data", filepath.Join(c.Dir, "lonely"), "--gateway-id", "lonely",
		"--cloud", "127.0.0.1:1", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lonely.Kill)
	var stats device.Stats
	fleet := c.Fleet(5, 0, 1)
	fleet.Brokers, fleet.Count = []string{lonely.Addr["mqtt"]}, 10
	fleet.Run(t.Context(), &stats)
	if acked, refused := stats.Acked.Load(), stats.Refused.Load(); acked != 50 || refused != 0 {
		t.Errorf("a gateway that never joined took %d and refused %d", acked, refused)
	}
	if err := lonely.Stop(); err != nil {
		t.Error(err)
	}
	s.settle()
}
