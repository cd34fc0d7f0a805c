package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// TestRabbitMQClients: the clients of RabbitMQ in other languages do their round
// (clients/amqp/README.md) with weir-cloud. All but pika need WEIR_SOAK=1.
func TestRabbitMQClients(t *testing.T) {
	c := &harness.Cluster{Dir: t.TempDir(), CloudArgs: []string{"--amqp", "127.0.0.1:0"}}
	c.Bucket = "file:" + filepath.Join(c.Dir, "bucket")
	if err := c.StartCloud(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	url := "amqp://guest:guest@" + c.Cloud.Addr["amqp"]
	for _, of := range []struct {
		program, file, vhost string
		has                  string // a file that the Debian package installs
		from                 string // the package
	}{
		{"/usr/bin/python3", "pika_round.py", "/%2F", "/usr/lib/python3/dist-packages/pika", "python3-pika"},
		{"/usr/bin/python3", "celery_round.py", "//", "/usr/lib/python3/dist-packages/celery", "python3-celery"},
		{"ruby", "bunny_round.rb", "", "/usr/share/rubygems-integration/all/gems", "ruby-bunny"},
		{"php", "php_round.php", "", "/usr/share/php/PhpAmqpLib", "php-amqplib"},
		{"bash", "tools_round.sh", "", "/usr/bin/amqp-publish", "amqp-tools"},
	} {
		t.Run(of.from, func(t *testing.T) {
			if !soak() && of.file != "pika_round.py" {
				t.Skip("WEIR_SOAK=1 runs it")
			}
			program := need(t, of.program, of.from)
			if _, err := os.Stat(of.has); err != nil {
				if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
					t.Fatalf("%v: apt-get install %s", err, of.from)
				}
				t.Skipf("SKIPPED: %v: apt-get install %s", err, of.from)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, program, filepath.Join("clients", "amqp", of.file))
			cmd.Env = append(os.Environ(), "AMQP_URL="+url+of.vhost)
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "ok") {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}
