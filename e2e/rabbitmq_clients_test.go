package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// TestRabbitMQClients: the clients of RabbitMQ in other languages do their round
// (clients/amqp/README.md) with weir-cloud, which is killed when a program asks for it.
// All but pika and Java need WEIR_SOAK=1.
func TestRabbitMQClients(t *testing.T) {
	for name, of := range map[string]struct {
		command func(t *testing.T) *exec.Cmd
		vhost   string // behind the URL
		soak    bool
	}{
		"pika":            {command: debian("/usr/bin/python3", "pika_round.py", "/usr/lib/python3/dist-packages/pika", "python3-pika"), vhost: "/%2F"},
		"java":            {command: func(t *testing.T) *exec.Cmd { return amqpJava(t, "weir.Round") }},
		"java recovery":   {command: func(t *testing.T) *exec.Cmd { return amqpJava(t, "weir.Recovery") }},
		"celery":          {command: debian("/usr/bin/python3", "celery_round.py", "/usr/lib/python3/dist-packages/celery", "python3-celery"), vhost: "//", soak: true},
		"bunny":           {command: debian("ruby", "bunny_round.rb", "/usr/share/rubygems-integration/all/gems", "ruby-bunny"), soak: true},
		"php-amqplib":     {command: debian("php", "php_round.php", "/usr/share/php/PhpAmqpLib", "php-amqplib"), soak: true},
		"amqp-tools":      {command: debian("bash", "tools_round.sh", "/usr/bin/amqp-publish", "amqp-tools"), soak: true},
		"amqplib":         {command: func(t *testing.T) *exec.Cmd { return amqpNode(t, "amqplib.mjs") }, soak: true},
		"rabbitmq-client": {command: func(t *testing.T) *exec.Cmd { return amqpNode(t, "rabbitmq-client.mjs") }, soak: true},
	} {
		t.Run(name, func(t *testing.T) {
			if of.soak && !soak() {
				t.Skip("WEIR_SOAK=1 runs it")
			}
			cmd := of.command(t)
			address := fmt.Sprintf("127.0.0.1:%d", freePort(t)) // over restarts
			c := cloud(t, "--amqp", address)
			cmd.Env = append(os.Environ(), "AMQP_URL=amqp://guest:guest@"+address+of.vhost)
			obey(t, c, cmd)
		})
	}
}

// debian returns what runs a program of clients/amqp with an interpreter, and with what a
// package of Debian has installed at a path.
func debian(interpreter, file, has, from string) func(*testing.T) *exec.Cmd {
	return func(t *testing.T) *exec.Cmd {
		t.Helper()
		if _, err := os.Stat(has); err != nil {
			if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
				t.Fatalf("%v: apt-get install %s", err, from)
			}
			t.Skipf("SKIPPED: %v: apt-get install %s", err, from)
		}
		return exec.CommandContext(t.Context(), need(t, interpreter, from), filepath.Join("clients", "amqp", file))
	}
}

// amqpJava runs a class of clients/amqp/java.
func amqpJava(t *testing.T, class string) *exec.Cmd {
	t.Helper()
	program, dir := need(t, "java", "openjdk-17-jdk-headless"), built(t, "amqp-java")
	classpath := filepath.Join(dir, "build", "clients.jar") + ":" + filepath.Join(dir, "lib", "*")
	return exec.CommandContext(t.Context(), program, "-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", classpath, class)
}

// amqpNode runs a program of clients/amqp/javascript from a folder that has the libraries.
func amqpNode(t *testing.T, file string) *exec.Cmd {
	t.Helper()
	return nodeIn(t, built(t, "amqp-javascript"), filepath.Join("clients", "amqp", "javascript", file))
}

// obey runs a client until it has said ok, at most for four minutes. Each time that it
// prints the line "kill", weir-cloud is killed and started again.
func obey(t *testing.T, c *harness.Cluster, cmd *exec.Cmd) {
	t.Helper()
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var said, stderr bytes.Buffer
	cmd.Stderr = &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	end := func() { _ = cmd.Process.Signal(syscall.SIGTERM) } // gone already is no error
	defer time.AfterFunc(4*time.Minute, end).Stop()
	line := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		line = lines.Text()
		fmt.Fprintln(&said, line)
		if line != "kill" {
			continue
		}
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Error(err)
			end()
		}
	}
	if err := cmd.Wait(); err != nil || !strings.HasPrefix(line, "ok") {
		t.Errorf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, last(said.String(), 4_000), last(stderr.String(), 8_000))
		return
	}
	t.Log(line)
}
