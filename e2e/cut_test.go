package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// hosts is two machines with a cable between them, in network namespaces, and a
// folder that both reach: a bucket whose network is not the nodes'.
type hosts struct {
	network
	dir string
}

// address is where a node of that name lives: a in the one namespace, b in the
// other.
func (h hosts) address(name string) string {
	if name == "a" {
		return cloudIP
	}
	return gatewayIP
}

func (h hosts) namespace(name string) string {
	if name == "a" {
		return h.cloud
	}
	return h.gateway
}

// keep keeps a node running as systemd does, from a second after it ended on,
// until the test ends. The first life is ready on return.
func (h hosts) keep(t *testing.T, name string, flags ...string) *kept {
	t.Helper()
	k := &kept{}
	ctx, cancel := context.WithCancel(context.Background())
	start := func() (*harness.Process, error) {
		at := h.address(name)
		args := append([]string{"--data", filepath.Join(h.dir, name), "--node-id", name, "--bucket", "file:" + filepath.Join(h.dir, "bucket"),
			"--peer", at + ":7401", "--sync", at + ":7400", "--kafka", "127.0.0.1:9092", "--http", "127.0.0.1:8080"}, flags...)
		return harness.StartIn(h.namespace(name), h.dir, name, "weir-cloud", args...)
	}
	first, err := start()
	if err != nil {
		t.Fatal(err)
	}
	k.set(first)
	var running sync.WaitGroup
	running.Go(func() {
		for p := first; ; {
			select {
			case <-ctx.Done():
				p.Kill()
				return
			case <-p.Exited():
			}
			for ctx.Err() == nil {
				pause(ctx, time.Second)
				if next, err := start(); err == nil { // else it may next time
					p = next
					k.set(p)
					break
				}
			}
		}
	})
	t.Cleanup(func() { cancel(); running.Wait() })
	return k
}

// kept is a node that is kept running.
type kept struct {
	mu sync.Mutex
	p  *harness.Process
}

func (k *kept) set(p *harness.Process) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.p = p
}

func (k *kept) process() *harness.Process {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.p
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// epochs counts the claims in the bucket.
func (h hosts) epochs(t *testing.T) int {
	t.Helper()
	claims, err := filepath.Glob(filepath.Join(h.dir, "bucket", "0000", "epoch", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(claims)
}

// log is what a node has said.
func (h hosts) log(t *testing.T, name string) string {
	t.Helper()
	body, err := os.ReadFile(filepath.Join(h.dir, name+".log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func newHosts(t *testing.T) hosts {
	t.Helper()
	h := hosts{newNetwork(t), t.TempDir()}
	t.Cleanup(func() {
		if t.Failed() {
			keepLogs(t, h.dir)
		}
	})
	return h
}

// TestCutBetweenNodes: two nodes reach the bucket and not each other. The owner
// stays, whether it has something to write or not.
func TestCutBetweenNodes(t *testing.T) {
	length := 20 * time.Second
	if os.Getenv("WEIR_SOAK") != "" {
		length = 10 * time.Minute
	}
	for _, load := range []bool{false, true} {
		t.Run(map[bool]string{false: "idle", true: "under load"}[load], func(t *testing.T) {
			t.Parallel()
			need(t, "kcat", "kcat")
			h := newHosts(t)
			h.keep(t, "a")
			h.keep(t, "b")
			before := h.epochs(t)
			finished := make(chan error, 1)
			if load {
				go func() { finished <- h.produce(length) }()
			} else {
				finished <- nil
			}
			h.ip(t, "-n", h.gateway, "link", "set", "cable", "down")
			pause(t.Context(), length)
			cut := h.epochs(t) - before
			h.ip(t, "-n", h.gateway, "link", "set", "cable", "up")
			t.Logf("%d takeovers in a cut of %v", cut, length)
			if cut > 0 { // the issue allows one for each node
				t.Errorf("%d takeovers in a cut of %v\n%s", cut, length, h.log(t, "b"))
			}
			if n := strings.Count(h.log(t, "b"), "does not take over for now"); n != 1 {
				t.Errorf("the takeover that was withheld is in %d lines", n)
			}
			if n := strings.Count(h.log(t, "a"), "asks through the bucket"); !load && n != 1 {
				t.Errorf("the question to the idle owner is in %d lines", n)
			}
			if err := <-finished; err != nil {
				t.Error(err)
			}
			within(t, 30*time.Second, "the standby watches the owner as before", func() bool {
				return strings.Contains(h.log(t, "b"), "the owner answers this node again")
			})
			if left, err := filepath.Glob(filepath.Join(h.dir, "bucket", "0000", "ask", "*")); err != nil || len(left) > 2 {
				t.Errorf("questions that are left: %v, %v", left, err)
			}
			metrics, err := in(h.gateway, "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/8080; printf 'GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n' >&3; cat <&3`)
			if err != nil || !regexp.MustCompile(`weir_takeover_withheld_total\{reason="alive"\} [1-9]`).MatchString(metrics) {
				t.Errorf("the metrics of the standby tell of no withheld takeover: %v", err)
			}
		})
	}
}

// produce writes to the owner's Kafka door, twice a second, for so long.
func (h hosts) produce(length time.Duration) error {
	out, err := in(h.cloud, "sh", "-c",
		fmt.Sprintf(`for i in $(seq %d); do echo "reading $i"; sleep 0.5; done | kcat -P -b 127.0.0.1:9092 -t load -X linger.ms=1 -q`, int(length/(500*time.Millisecond))))
	if err != nil {
		return fmt.Errorf("produce: %w\n%s", err, out)
	}
	return nil
}

// in runs a program in a network namespace.
func in(namespace string, args ...string) (string, error) {
	out, err := exec.Command("ip", append([]string{"netns", "exec", namespace}, args...)...).CombinedOutput()
	return string(out), err
}

// TestDoorsHang: the owner's interface loses its address. Its bucket answers, but
// nobody reaches its doors, it itself no more than others: it stops leading, and
// the standby takes over within three times the takeover time.
func TestDoorsHang(t *testing.T) {
	// Longer than by default, so that what a busy machine adds is a small part of it.
	const takeover = 6 * time.Second
	h := newHosts(t)
	a := h.keep(t, "a", "--takeover", takeover.String())
	h.keep(t, "b", "--takeover", takeover.String())
	before := h.epochs(t)
	first := a.process()
	pause(t.Context(), 2*time.Second) // the standby asks
	h.ip(t, "-n", h.cloud, "addr", "flush", "dev", "cable")
	began := time.Now()
	within(t, 60*time.Second, "the standby leads", func() bool { return strings.Contains(h.log(t, "b"), "msg=leading") })
	took := time.Since(began)
	t.Logf("replaced after %v", took.Round(10*time.Millisecond))
	if took > 3*takeover {
		t.Errorf("replaced after %v, want %v at most", took, 3*takeover)
	}
	select {
	case <-first.Exited():
	default:
		t.Error("the owner whose doors hang goes on")
	}
	if said := h.log(t, "a"); !strings.Contains(said, "stopped leading") || !strings.Contains(said, "own listeners do not answer") {
		t.Errorf("the owner does not say why it stopped:\n%s", said)
	}
	h.ip(t, "-n", h.cloud, "addr", "add", cloudIP+"/24", "dev", "cable")
	within(t, 60*time.Second, "the first node stands by", func() bool { return strings.Contains(h.log(t, "a"), `msg="standing by" owner=b`) })
	pause(t.Context(), 2*takeover)
	if n := h.epochs(t) - before; n != 1 {
		t.Errorf("%d claims, want 1", n)
	}
}
