package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// network is two hosts, gateway and cloud, with a cable between them, in
// network namespaces of their own.
type network struct{ gateway, cloud string }

// networks counts them, for their names.
var networks atomic.Int64

const (
	gatewayIP = "10.231.7.2"
	cloudIP   = "10.231.7.1"
)

func newNetwork(t *testing.T) network {
	t.Helper()
	ip := need(t, "ip", "iproute2")
	id := fmt.Sprintf("%d-%d", os.Getpid(), networks.Add(1))
	n := network{"weir-gw-" + id, "weir-cl-" + id}
	if out, err := exec.Command(ip, "netns", "add", n.gateway).CombinedOutput(); err != nil {
		if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
			t.Fatalf("create a network namespace: %v\n%s", err, out)
		}
		t.Skipf("SKIPPED: network namespaces cannot be made here (root is needed): %s", out)
	}
	t.Cleanup(func() { n.ip(t, "netns", "del", n.gateway) })
	n.ip(t, "netns", "add", n.cloud)
	t.Cleanup(func() { n.ip(t, "netns", "del", n.cloud) })
	n.ip(t, "-n", n.cloud, "link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns", n.gateway)
	for ns, addr := range map[string]string{n.gateway: gatewayIP, n.cloud: cloudIP} {
		n.ip(t, "-n", ns, "addr", "add", addr+"/24", "dev", "cable")
		n.ip(t, "-n", ns, "link", "set", "cable", "up")
		n.ip(t, "-n", ns, "link", "set", "lo", "up")
	}
	return n
}

func (n network) ip(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Fatalf("ip %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// TestInterfaceDown: the gateway's network interface goes down and comes back,
// twice, and its address changes in between, while readings come in.
func TestInterfaceDown(t *testing.T) {
	t.Parallel() // it mostly waits
	n := newNetwork(t)
	dir := t.TempDir()
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, dir)
		}
	})
	bucket := "file:" + filepath.Join(dir, "bucket")
	cloud, err := harness.StartIn(n.cloud, dir, "cloud", "weir-cloud", "--data", filepath.Join(dir, "cloud"), "--bucket", bucket,
		"--sync", cloudIP+":7400", "--kafka", "127.0.0.1:9092", "--http", "127.0.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Kill)
	token, err := os.ReadFile(filepath.Join(dir, "cloud", "join-token"))
	if err != nil {
		t.Fatal(err)
	}
	edge, err := harness.StartIn(n.gateway, dir, "edge", "weir-edge", "--data", filepath.Join(dir, "edge"), "--cloud", cloudIP+":7400",
		"--join", strings.TrimSpace(string(token)), "--gateway-id", "gw-1", "--source-header")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(edge.Kill)

	sent := filepath.Join(dir, "sent")
	finished := make(chan error, 1)
	go func() {
		_, stderr, err := harness.RunIn(n.gateway, "firmware-sim", "--devices", "20", "--interval", "50ms", "--count", "200", "--sent", sent, "--quiet")
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, stderr)
		}
		finished <- err
	}()
	connected := func() bool {
		out, _, err := harness.RunIn(n.cloud, "weirctl", "gateways", "--data", filepath.Join(dir, "cloud"))
		return err == nil && strings.Contains(out, "connected")
	}
	within(t, 20*time.Second, "the gateway connects", connected)
	for round := range 2 {
		n.ip(t, "-n", n.gateway, "link", "set", "cable", "down")
		within(t, 30*time.Second, "the cloud notices", func() bool { return !connected() })
		if round == 1 {
			n.ip(t, "-n", n.gateway, "addr", "flush", "dev", "cable")
			n.ip(t, "-n", n.gateway, "addr", "add", "10.231.7.77/24", "dev", "cable")
		}
		n.ip(t, "-n", n.gateway, "link", "set", "cable", "up")
		back := time.Now()
		within(t, 30*time.Second, "the gateway comes back", connected)
		t.Logf("connected again %v after the interface came up", time.Since(back).Round(10*time.Millisecond))
	}
	if err := <-finished; err != nil {
		t.Fatal(err)
	}
	out, stderr, err := harness.RunIn(n.cloud, "firmware-sim", "verify", "--sent", sent)
	if err != nil {
		t.Errorf("verify: %v\n%s%s", err, out, stderr)
	}
	t.Log(out[strings.LastIndex(strings.TrimSpace(out), "\n")+1:])
	for _, p := range []*harness.Process{edge, cloud} {
		if err := p.Stop(); err != nil {
			t.Errorf("stop %s: %v", p.Name, err)
		}
	}
	checkBucket(t, bucket)
}
