package e2e

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// broker is Debian's mosquitto with a bridge to a gateway.
type broker struct {
	t      *testing.T
	config string
	port   int
	cmd    *exec.Cmd
	log    bytes.Buffer
}

// newBroker writes the configuration of a mosquitto whose bridge carries every topic both
// ways. All else is as it is by default, but for the time between two tries to connect,
// which is up to half a minute.
func newBroker(t *testing.T, gateway string, qos int) *broker {
	t.Helper()
	b := &broker{t: t, config: filepath.Join(t.TempDir(), "mosquitto.conf"), port: freePort(t)}
	config := fmt.Sprintf(`listener %d 127.0.0.1
allow_anonymous true
connection site
address %s
topic # both %d
restart_timeout 1
`, b.port, gateway, qos)
	if err := os.WriteFile(b.config, []byte(config), 0o644); err != nil {
		t.Fatal(err)
	}
	b.start()
	t.Cleanup(b.stop)
	return b
}

func (b *broker) start() {
	b.t.Helper()
	b.cmd = exec.Command(need(b.t, "mosquitto", "mosquitto"), "-c", b.config)
	b.cmd.Stdout, b.cmd.Stderr = &b.log, &b.log
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := b.cmd.Start(); err != nil {
		b.t.Fatal(err)
	}
	within(b.t, 10*time.Second, "mosquitto listens", func() bool {
		nc, err := net.Dial("tcp", b.addr())
		if err == nil {
			nc.Close()
		}
		return err == nil
	})
}

// stop ends mosquitto, which keeps nothing over a restart by default.
func (b *broker) stop() {
	if b.cmd == nil {
		return
	}
	b.cmd.Process.Signal(syscall.SIGTERM)
	b.cmd.Wait()
	b.cmd = nil
	if b.t.Failed() {
		b.t.Logf("---- mosquitto\n%s", b.log.String())
	}
}

func (b *broker) addr() string { return fmt.Sprintf("127.0.0.1:%d", b.port) }

// listener is a mosquitto_sub that runs.
type listener struct {
	mu  sync.Mutex
	out strings.Builder
}

func (l *listener) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.out.Write(p)
}

// got counts the messages, by payload.
func (l *listener) got() map[string]int {
	l.mu.Lock()
	defer l.mu.Unlock()
	counts := make(map[string]int)
	for line := range strings.Lines(l.out.String()) {
		counts[strings.TrimSpace(line)]++
	}
	return counts
}

// listen subscribes at a broker with QoS 2 and a session of its own.
func listen(t *testing.T, addr, id string) *listener {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	l := new(listener)
	cmd := exec.Command(need(t, "mosquitto_sub", "mosquitto-clients"), "-h", host, "-p", port, "-i", id, "-c", "-q", "2", "-t", "data/#", "-F", "%p")
	cmd.Stdout = l
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	within(t, 10*time.Second, "the subscription", func() bool {
		publish(t, addr, "probe-"+id, 1, 1)
		return l.got()["probe-"+id+"-1"] > 0
	})
	return l
}

// publish sends messages PREFIX-1 to PREFIX-n, at one QoS.
func publish(t *testing.T, addr, prefix string, n, qos int, more ...string) {
	t.Helper()
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	var lines strings.Builder
	for i := range n {
		fmt.Fprintf(&lines, "%s-%d\n", prefix, i+1)
	}
	args := append([]string{"-h", host, "-p", port, "-q", fmt.Sprint(qos), "-t", "data/" + prefix, "-l"}, more...)
	cmd := exec.Command(need(t, "mosquitto_pub", "mosquitto-clients"), args...)
	cmd.Stdin = strings.NewReader(lines.String())
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("mosquitto_pub: %v\n%s", err, out)
	}
}

// expect waits until all of PREFIX-1 to PREFIX-n have arrived, and checks that each came
// once.
func (l *listener) expect(t *testing.T, side, prefix string, n int) {
	t.Helper()
	within(t, 30*time.Second, fmt.Sprintf("%d of %s at %s", n, prefix, side), func() bool {
		got := l.got()
		for i := range n {
			if got[fmt.Sprintf("%s-%d", prefix, i+1)] == 0 {
				return false
			}
		}
		return true
	})
	for i := range n {
		if name := fmt.Sprintf("%s-%d", prefix, i+1); l.got()[name] != 1 {
			t.Errorf("%s came to %s %d times", name, side, l.got()[name])
		}
	}
}

// TestMosquittoBridge: a mosquitto with a bridge of stock settings, both ways: each message
// once on each side, at every QoS, also after either of the two was away.
func TestMosquittoBridge(t *testing.T) {
	need(t, "mosquitto", "mosquitto")
	for qos := range 3 {
		t.Run(fmt.Sprint("QoS ", qos), func(t *testing.T) {
			t.Parallel()
			c := open(t, &harness.Cluster{})
			b := newBroker(t, c.MQTT(), qos)
			here, there := listen(t, c.MQTT(), "here"), listen(t, b.addr(), "there")
			within(t, 20*time.Second, "the bridge", func() bool {
				publish(t, c.MQTT(), "hello", 1, 1)
				return there.got()["hello-1"] > 0
			})
			const n = 100
			publish(t, c.MQTT(), "down", n, qos)
			publish(t, b.addr(), "up", n, qos)
			for side, l := range map[string]*listener{"the gateway": here, "mosquitto": there} {
				l.expect(t, side, "down", n)
				l.expect(t, side, "up", n)
			}
			if qos > 0 {
				bridgeRestarts(t, c, b, here, qos)
			}
			for side, l := range map[string]*listener{"the gateway": here, "mosquitto": there} {
				for name, times := range l.got() {
					if times > 1 && (strings.HasPrefix(name, "down-") || strings.HasPrefix(name, "up-")) {
						t.Errorf("%s came to %s %d times", name, side, times)
					}
				}
			}
		})
	}
}

// bridgeRestarts takes the gateway away while messages come to mosquitto, and then
// mosquitto while messages come to the gateway.
func bridgeRestarts(t *testing.T, c *harness.Cluster, b *broker, here *listener, qos int) {
	const n = 50
	if err := c.Edge.Stop(); err != nil {
		t.Fatal(err)
	}
	publish(t, b.addr(), "later", n, qos)
	if err := c.StartEdge(); err != nil {
		t.Fatal(err)
	}
	here.expect(t, "the gateway", "later", n)

	b.stop()
	for i := range n {
		publish(t, c.MQTT(), fmt.Sprint("kept-", i), 1, qos, "-r")
	}
	b.start()
	there := listen(t, b.addr(), "again")
	// The bridge's session has them, and its new subscription asks for the retained
	// messages as well: what listens meanwhile hears both.
	within(t, 30*time.Second, "what was kept for mosquitto", func() bool {
		got := there.got()
		for i := range n {
			if got[fmt.Sprintf("kept-%d-1", i)] == 0 {
				return false
			}
		}
		return true
	})
}
