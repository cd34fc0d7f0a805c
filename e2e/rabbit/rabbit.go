// Package rabbit starts a real RabbitMQ node for the tests that compare with it.
package rabbit

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// Node is a RabbitMQ node on loopback that lives as long as the test that started it.
type Node struct {
	URL string // amqp://guest:guest@127.0.0.1:port/

	address string
	dir     string // where it works, too: a node that dies writes MnesiaCore files there
	env     []string
	running []*program      // epmd, then the server
	log     strings.Builder // of what has been stopped
}

// program ends when its standard input does, even if this process is killed.
type program struct {
	cmd   *exec.Cmd
	stdin io.Closer
	log   bytes.Buffer // to be read after its end
}

// RabbitMQ's own scripts: those on the PATH insist on the user rabbitmq.
const (
	server  = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	control = "/usr/lib/rabbitmq/bin/rabbitmqctl"
)

// Start starts a node with an empty data folder and an epmd of its own. When RabbitMQ is
// not installed the test is skipped, or fails if WEIR_REQUIRE_SERVICES is 1.
func Start(t testing.TB) *Node {
	t.Helper()
	if _, err := os.Stat(server); err != nil {
		text := fmt.Sprintf("NO RABBITMQ TEST: no RabbitMQ (%v). Install it:\n    apt-get install rabbitmq-server", err)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	epmd, err := exec.LookPath("epmd")
	if err != nil {
		t.Fatal(err)
	}
	n := &Node{dir: t.TempDir()}
	t.Cleanup(func() {
		n.stop()
		if t.Failed() {
			t.Logf("RabbitMQ at %s:\n%s", n.address, n.log.String())
		}
	})
	if err := n.start(t.Context(), epmd); err != nil {
		t.Fatalf("start RabbitMQ: %v", err)
	}
	return n
}

// start runs epmd and the server, and waits until the server answers.
func (n *Node) start(ctx context.Context, epmd string) error {
	var ports [3]string // of AMQP, of Erlang's distribution and of epmd
	for i := range ports {
		port, err := harness.FreePort()
		if err != nil {
			return err
		}
		ports[i] = strconv.Itoa(port)
	}
	if err := os.WriteFile(filepath.Join(n.dir, "plugins"), []byte("[rabbitmq_consistent_hash_exchange].\n"), 0o600); err != nil {
		return err
	}
	n.address = "127.0.0.1:" + ports[0]
	n.URL = "amqp://guest:guest@" + n.address + "/"
	n.env = append(os.Environ(), "HOME="+n.dir,
		"RABBITMQ_NODENAME=weir-"+ports[0]+"@localhost", "RABBITMQ_NODE_IP_ADDRESS=127.0.0.1", "RABBITMQ_NODE_PORT="+ports[0],
		"RABBITMQ_DIST_PORT="+ports[1], "ERL_EPMD_PORT="+ports[2], "ERL_EPMD_ADDRESS=127.0.0.1",
		"RABBITMQ_MNESIA_BASE="+filepath.Join(n.dir, "mnesia"), "RABBITMQ_LOG_BASE="+filepath.Join(n.dir, "log"),
		"RABBITMQ_ENABLED_PLUGINS_FILE="+filepath.Join(n.dir, "plugins"), "RABBITMQ_CONF_ENV_FILE=/dev/null",
		"RABBITMQ_CONFIG_FILE="+filepath.Join(n.dir, "none"), "RABBITMQ_ADVANCED_CONFIG_FILE="+filepath.Join(n.dir, "none"),
		`RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=-kernel inet_dist_use_interface {127,0,0,1}`)
	if err := n.run(epmd); err != nil {
		return err
	}
	if err := n.run(server); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := n.ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready after a minute: %w", err)
		}
	}
}

// run starts a program that the shell kills, with what it started, when its standard
// input ends.
func (n *Node) run(name string) error {
	cmd := exec.Command("setsid", "-w", "sh", "-c", `"$0" </dev/null & read -r _; trap '' TERM; kill -TERM 0; wait`, name)
	cmd.Dir, cmd.Env = n.dir, n.env
	p := &program{cmd: cmd}
	cmd.Stdout, cmd.Stderr = &p.log, &p.log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	p.stdin = stdin
	n.running = append(n.running, p)
	return nil
}

// Control runs rabbitmqctl on the node.
func (n *Node) Control(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, control, args...)
	cmd.Dir, cmd.Env = n.dir, n.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("rabbitmqctl %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// ready returns nil once the node answers a wrong protocol header with its own, which it
// does when it takes connections.
func (n *Node) ready(ctx context.Context) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", n.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	if _, err := conn.Write([]byte("AMQP\x00\x00\x00\x00")); err != nil {
		return err
	}
	answer := make([]byte, 8)
	_, err = io.ReadFull(conn, answer)
	if err == nil && !strings.HasPrefix(string(answer), "AMQP") {
		err = fmt.Errorf("it answers %q", answer)
	}
	return err
}

// stop ends the server, then epmd, and waits for them.
func (n *Node) stop() {
	for _, p := range slices.Backward(n.running) {
		p.stdin.Close()
		p.cmd.Wait()
		n.log.Write(p.log.Bytes())
	}
	n.running = nil
}
