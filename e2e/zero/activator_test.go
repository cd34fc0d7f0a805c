package zero

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// patience bounds everything that a test waits for.
const patience = time.Minute

// exitIdle is the exit code of a node that nobody uses.
const exitIdle = 79

// activator holds the sockets of a node and starts it when something arrives there, as
// systemd does.
type activator struct {
	t    testing.TB
	dir  string
	args []string

	kafka, sync string     // addresses
	sockets     []*os.File // of the listeners, in the order of their names
	stop        chan struct{}
	ended       sync.WaitGroup
	started     chan struct{} // a token for each start of the node
	exits       chan int      // exit codes of the node, -1 if it was killed

	mu      sync.Mutex
	process *os.Process // that runs; nil: none
}

// newActivator opens sockets for a node with the given flags. The node is stopped at the
// end of the test.
func newActivator(t testing.TB, args ...string) *activator {
	t.Helper()
	a := &activator{t: t, dir: t.TempDir(), stop: make(chan struct{}), started: make(chan struct{}, 1000), exits: make(chan int, 1000)}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	udp, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer udp.Close()
	stream, err := tcp.(*net.TCPListener).File()
	if err != nil {
		t.Fatal(err)
	}
	packets, err := udp.(*net.UDPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	a.kafka, a.sync, a.sockets = tcp.Addr().String(), udp.LocalAddr().String(), []*os.File{stream, packets}
	a.args = append([]string{"--data", a.data(), "--node-id", "n", "--kafka", a.kafka, "--sync", a.sync, "--http", "off", "--peer", "127.0.0.1:0",
		"--partitions", "1", "--idle-exit", "1s"}, args...)
	binary, err := harness.Binary("weir-cloud")
	if err != nil {
		t.Fatal(err)
	}
	a.ended.Go(func() { a.keep(binary) })
	t.Cleanup(a.close)
	return a
}

func (a *activator) data() string { return filepath.Join(a.dir, "cloud") }

func (a *activator) log() string { return filepath.Join(a.dir, "cloud.log") }

func (a *activator) close() {
	close(a.stop)
	a.signal(syscall.SIGTERM)
	a.ended.Wait()
	for _, s := range a.sockets {
		s.Close()
	}
	if a.t.Failed() {
		log, err := os.ReadFile(a.log())
		a.t.Logf("the node's log: %s %v", log, err)
	}
}

// signal sends a signal to the node, if it runs.
func (a *activator) signal(sig os.Signal) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.process != nil {
		_ = a.process.Signal(sig) // it may just have ended
	}
}

// keep starts the node whenever something has arrived while it does not run.
func (a *activator) keep(binary string) {
	for a.arrived() {
		code, err := a.run(binary)
		if err != nil {
			a.t.Error(err)
			return
		}
		a.exits <- code
	}
}

// arrived returns true when something waits at a socket, false when the test ends.
func (a *activator) arrived() bool {
	for {
		select {
		case <-a.stop:
			return false
		default:
		}
		var set syscall.FdSet
		highest := 0
		for _, s := range a.sockets {
			fd := int(s.Fd())
			set.Bits[fd/64] |= 1 << (fd % 64)
			highest = max(highest, fd)
		}
		n, err := syscall.Select(highest+1, &set, nil, nil, &syscall.Timeval{Usec: 20_000})
		if err != nil && !errors.Is(err, syscall.EINTR) {
			a.t.Errorf("wait for the sockets: %v", err)
			return false
		}
		if err == nil && n > 0 {
			return true
		}
	}
}

// run runs the node until it ends.
func (a *activator) run(binary string) (code int, err error) {
	log, err := os.OpenFile(a.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	// The process must know that the sockets are for it: it has the shell's number.
	cmd := exec.Command("sh", append([]string{"-c", `LISTEN_PID=$$ exec "$0" "$@"`, binary}, a.args...)...)
	cmd.Env = append(os.Environ(), "LISTEN_FDS="+strconv.Itoa(len(a.sockets)), "LISTEN_FDNAMES=kafka:sync")
	cmd.ExtraFiles = a.sockets
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	a.mu.Lock()
	err = cmd.Start()
	a.process = cmd.Process
	a.mu.Unlock()
	if err != nil {
		return 0, fmt.Errorf("start the node: %w", err)
	}
	a.started <- struct{}{}
	_ = cmd.Wait() // its exit code says how it ended
	a.mu.Lock()
	a.process = nil
	a.mu.Unlock()
	return cmd.ProcessState.ExitCode(), nil
}

// sleeps waits until the node has ended because nobody uses it.
func (a *activator) sleeps() {
	a.t.Helper()
	if code := a.exited(); code != exitIdle {
		a.t.Fatalf("the node ended with exit code %d, want %d", code, exitIdle)
	}
}

// exited waits until the node has ended, and returns its exit code.
func (a *activator) exited() int {
	a.t.Helper()
	select {
	case code := <-a.exits:
		return code
	case <-time.After(patience):
		a.t.Fatal("the node has not ended")
		return 0
	}
}

// wakes waits until the node is started once more.
func (a *activator) wakes() {
	a.t.Helper()
	select {
	case <-a.started:
	case <-time.After(patience):
		a.t.Fatal("nothing has started the node")
	}
}

// wake connects to a socket and leaves.
func wake(t testing.TB, address string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// says fails the test unless the node has said this.
func (a *activator) says(want string) {
	a.t.Helper()
	log, err := os.ReadFile(a.log())
	if err != nil || !strings.Contains(string(log), want) {
		a.t.Errorf("the node does not say %q: %s %v", want, log, err)
	}
}
