package management

import (
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestRabbitmqadmin: RabbitMQ's own tool works against this API.
func TestRabbitmqadmin(t *testing.T) {
	tool, err := exec.LookPath("rabbitmqadmin")
	if err != nil {
		const text = "NO RABBITMQADMIN TEST: no rabbitmqadmin. Install it:\n    apt-get install rabbitmq-server"
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	n := newNode(t, nil)
	server := httptest.NewServer(n)
	t.Cleanup(server.Close)
	at, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), tool, append([]string{"-H", at.Hostname(), "-P", at.Port(), "-u", "guest", "-p", "guest"}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	file := filepath.Join(t.TempDir(), "definitions.json")
	for _, c := range []struct{ args, want string }{
		{"show overview", "3.10.8"},
		{"list vhosts", "/"},
		{"declare vhost name=v1", "vhost declared"},
		{"declare queue name=q durable=true arguments={\"x-max-length\":7}", "queue declared"},
		{"-V v1 declare queue name=q2 queue_type=quorum", "queue declared"},
		{"declare exchange name=x type=topic", "exchange declared"},
		{"declare binding source=x destination=q routing_key=a.*", "binding declared"},
		{"list queues name messages", "| q    | 0        |"},
		{"list exchanges", "| x                  | topic   |"},
		{"list bindings", "| x      | q           | a.*         |"},
		{"publish exchange=x routing_key=a.b payload=hello", "Message published"},
		{"publish exchange=x routing_key=b payload=hello", "Message published but NOT routed"},
		{"get queue=q ackmode=ack_requeue_true", "hello"},
		{"list users", "No items"},
		{"list connections", "No items"}, {"list channels", "No items"}, {"list consumers", "No items"}, {"list permissions", "No items"}, {"list policies", "No items"},
		{"list nodes", "| a    |"},
		{"purge queue name=q", "queue purged"},
		{"export " + file, "Exported definitions"},
		{"delete binding source=x destination_type=queue destination=q properties_key=a.%2A", "binding deleted"},
		{"delete queue name=q", "queue deleted"},
		{"delete exchange name=x", "exchange deleted"},
		{"import " + file, "Uploaded definitions"},
		{"list bindings", "| x      | q           | a.*         |"},
		{"delete vhost name=v1", "vhost deleted"},
	} {
		out, err := run(strings.Fields(c.args)...)
		if err != nil || !strings.Contains(out, c.want) {
			t.Errorf("rabbitmqadmin %s: %v\n%s", c.args, err, out)
		}
	}
	for args, want := range map[string]string{
		"declare queue name=q durable=false": "inequivalent arg 'durable'", "delete queue name=none": "Not found", "declare exchange name=y type=odd": "invalid exchange type 'odd'",
	} {
		if out, err := run(strings.Fields(args)...); err == nil || !strings.Contains(out, want) {
			t.Errorf("rabbitmqadmin %s: %v\n%s", args, err, out)
		}
	}
}
