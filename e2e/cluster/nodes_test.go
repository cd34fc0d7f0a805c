package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// nodes are the weir-cloud processes of a cluster. Each is kept running, as systemd
// does, unless a fault keeps it down.
type nodes struct {
	t       *testing.T
	lab     *lab
	dir     string
	bucket  string
	shards  int // of data; 1: one shard has everything
	created int // how many there were at first
	flags   []string
	all     []*node
}

type node struct {
	name string
	host host

	mu      sync.Mutex       // guards the fields below
	process *harness.Process // the newest life; nil before the first
	down    bool             // it is not started again
	wake    chan struct{}    // a token: look at down
}

// startNodes starts a node on the first count hosts of the lab, one after the other.
// They are stopped at the end of the test.
func startNodes(t *testing.T, l *lab, bucket string, shards, count int, flags ...string) *nodes {
	t.Helper()
	dir := os.Getenv("WEIR_LOGS") // keeps what the processes leave behind
	if dir == "" {
		dir = t.TempDir()
	}
	n := &nodes{t: t, lab: l, dir: dir, bucket: bucket, shards: shards, created: shards, flags: flags}
	t.Cleanup(func() {
		if t.Failed() {
			n.printLogs()
		}
	})
	for range count {
		n.add()
	}
	return n
}

// add starts a node on the next host that has none.
func (n *nodes) add() *node {
	n.t.Helper()
	i := len(n.all)
	x := &node{name: fmt.Sprintf("n%d", i+1), host: n.lab.hosts[i], wake: make(chan struct{}, 1)}
	n.all = append(n.all, x)
	first, err := n.start(x)
	if err != nil {
		n.t.Fatal(err)
	}
	x.process = first
	ctx, cancel := context.WithCancel(context.Background())
	var kept sync.WaitGroup
	kept.Go(func() { n.keep(ctx, x) })
	n.t.Cleanup(func() { cancel(); kept.Wait() })
	return x
}

func (n *nodes) start(x *node) (*harness.Process, error) {
	args := append([]string{"--data", filepath.Join(n.dir, x.name), "--node-id", x.name, "--bucket", n.bucket, "--takeover", "2s",
		"--peer", x.host.ip + ":7401", "--sync", x.host.ip + ":7400", "--kafka", x.host.ip + ":9092", "--kafka-anonymous",
		"--amqp", x.host.ip + ":5672", "--amqp-anonymous", "--http", "127.0.0.1:8080"}, n.flags...)
	if n.created > 1 {
		args = append(args, "--shards", strconv.Itoa(n.created))
	}
	return harness.StartIn(x.host.namespace, n.dir, x.name, "weir-cloud", args...)
}

// keep starts a node again a second after it ended, until ctx ends. Then it stops the
// node.
func (n *nodes) keep(ctx context.Context, x *node) {
	for {
		p := x.life()
		select {
		case <-ctx.Done():
			p.Signal(syscall.SIGCONT)
			if err := p.Stop(); err != nil {
				n.t.Errorf("stop %s: %v\n%s", x.name, err, p.Tail(10))
			}
			return
		case <-p.Exited():
		}
		for ctx.Err() == nil && p == x.life() {
			pause(ctx, time.Second)
			if x.isDown() {
				select {
				case <-x.wake:
				case <-ctx.Done():
				}
				continue
			}
			next, err := n.start(x)
			if err != nil {
				continue // the bucket may be away: once more, as systemd does
			}
			x.mu.Lock()
			x.process = next
			x.mu.Unlock()
		}
		if ctx.Err() != nil && p == x.life() {
			return
		}
	}
}

func (x *node) life() *harness.Process {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.process
}

func (x *node) isDown() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.down
}

// stayDown keeps a node from being started again, or lets it be.
func (x *node) stayDown(down bool) {
	x.mu.Lock()
	x.down = down
	x.mu.Unlock()
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// kafka returns the addresses of the Kafka doors.
func (n *nodes) kafka() []string { return n.addresses(9092) }

// sync returns the addresses for gateways.
func (n *nodes) sync() []string { return n.addresses(7400) }

func (n *nodes) addresses(port int) []string {
	var all []string
	for _, x := range n.all {
		all = append(all, x.host.ip+":"+strconv.Itoa(port))
	}
	return all
}

// token returns a join token of the cluster.
func (n *nodes) token() (string, error) {
	var errs []error
	for _, x := range n.all {
		token, err := os.ReadFile(filepath.Join(n.dir, x.name, "join-token"))
		if err == nil {
			return string(token), nil
		}
		errs = append(errs, err)
	}
	return "", errors.Join(errs...)
}

// printLogs prints the end of every log.
func (n *nodes) printLogs() {
	logs, err := filepath.Glob(filepath.Join(n.dir, "*.log"))
	if err != nil {
		n.t.Log(err)
	}
	for _, path := range logs {
		body, err := os.ReadFile(path)
		if err != nil {
			n.t.Log(err)
			continue
		}
		n.t.Logf("---- %s\n%s", filepath.Base(path), body[max(0, len(body)-16<<10):])
	}
}

// pause returns after d, or when ctx ends.
func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
