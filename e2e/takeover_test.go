package e2e

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// standby starts a second weir-cloud on the cluster's bucket.
func standby(t *testing.T, c *harness.Cluster, name string) *harness.Process {
	t.Helper()
	p, err := harness.Start(c.Dir, name, "weir-cloud", "--data", filepath.Join(c.Dir, name), "--bucket", c.Bucket,
		"--sync", "127.0.0.1:0", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--peer", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		select {
		case <-p.Exited():
		default:
			if err := p.Stop(); err != nil {
				t.Errorf("stop %s: %v\n%s", name, err, p.Tail(10))
			}
		}
	})
	return p
}

// topics asks a node for them, with its own credential: a standby asks the owner.
func topics(c *harness.Cluster, p *harness.Process) string {
	out, _, err := harness.Run("weirctl", "topics", "--cloud", "http://"+p.Addr["http"], "--data", filepath.Join(c.Dir, p.Name))
	if err != nil {
		return ""
	}
	return out
}

// TestTakeover: a second node on the same bucket stands by and redirects; when
// the owner is frozen it takes over, and the old one, woken up, stops with a
// clear error. Readings go on all the time, and none is lost or doubled.
func TestTakeover(t *testing.T) {
	for _, c := range []struct {
		name  string
		leave syscall.Signal
	}{{"killed", syscall.SIGKILL}, {"frozen", syscall.SIGSTOP}} {
		t.Run(c.name, func(t *testing.T) { takeover(t, c.leave) })
	}
}

func takeover(t *testing.T, leave syscall.Signal) {
	c := open(t, &harness.Cluster{})
	second := standby(t, c, "second")
	if role := second.Addr["role"]; role != "standby" {
		t.Fatalf("the second node is %s", role)
	}
	// The gateway knows the standby too, and reaches both without the relay.
	if err := c.Edge.Stop(); err != nil {
		t.Fatal(err)
	}
	c.EdgeArgs = []string{"--cloud", c.Cloud.Addr["sync"], "--cloud", second.Addr["sync"]}
	if err := c.StartEdge(); err != nil {
		t.Fatal(err)
	}

	auditor := audit.New()
	fleet := c.Fleet(20, 20*time.Millisecond, 1, 2)
	fleet.Event = auditor.Event
	ctx, cancel := context.WithCancel(t.Context())
	var stats device.Stats
	var running sync.WaitGroup
	running.Go(func() { fleet.Run(ctx, &stats) })
	defer running.Wait()
	defer cancel()
	within(t, 20*time.Second, "readings in the log", func() bool { return strings.Contains(topics(c, second), "sensors") })

	c.Cloud.Signal(leave)
	left := time.Now()
	within(t, 15*time.Second, "the standby leads", func() bool {
		body, err := os.ReadFile(second.Log)
		return err == nil && strings.Contains(string(body), "msg=leading")
	})
	t.Logf("took over after %v", time.Since(left).Round(time.Millisecond))

	if leave == syscall.SIGSTOP {
		c.Cloud.Signal(syscall.SIGCONT)
		select {
		case <-c.Cloud.Exited():
		case <-time.After(20 * time.Second):
			t.Fatal("the fenced node goes on")
		}
		if code, tail := c.Cloud.ExitCode(), c.Cloud.Tail(5); code != 1 || !strings.Contains(tail, "lost the shard") {
			t.Errorf("the fenced node ended with code %d and said\n%s", code, tail)
		}
	}
	cancel()
	running.Wait()
	reader := audit.Reader{Brokers: []string{second.Addr["kafka"]}, Topic: "sensors"}
	if report := settle(t, reader, auditor); report.Acked == 0 || report.Reported != 0 {
		t.Errorf("%d acked, %d reported as lost", report.Acked, report.Reported)
	}
}
