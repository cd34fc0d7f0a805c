package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
)

// Each client of another language goes through the same round (clients/README.md)
// against a node of its own.
func TestClients(t *testing.T) {
	for name, command := range map[string]func(t *testing.T, server string) *exec.Cmd{
		"java":          func(t *testing.T, s string) *exec.Cmd { return java(t, "weir.Clients", s) },
		"java consumer": func(t *testing.T, s string) *exec.Cmd { return java(t, "weir.Clients", s, "consumer") },
		"java share":    func(t *testing.T, s string) *exec.Cmd { return java(t, "weir.Shares", s) },
		"streams":       func(t *testing.T, s string) *exec.Cmd { return java(t, "weir.WordCount", s, t.TempDir()) },
		"kafkajs":       func(t *testing.T, s string) *exec.Cmd { return node(t, s, "kafkajs") },
		"confluent":     func(t *testing.T, s string) *exec.Cmd { return node(t, s, "confluent") },
		"python": func(t *testing.T, s string) *exec.Cmd {
			return exec.CommandContext(t.Context(), python(t), "clients/python/round.py", s)
		},
		"python share": func(t *testing.T, s string) *exec.Cmd {
			return exec.CommandContext(t.Context(), filepath.Join(built(t, "python"), "bin", "python"), "clients/python/share.py", s)
		},
		"sarama": func(t *testing.T, s string) *exec.Cmd {
			binary := filepath.Join(t.TempDir(), "sarama")
			build := exec.CommandContext(t.Context(), "go", "build", "-o", binary, ".")
			build.Dir = "clients/sarama"
			run(t, build)
			return exec.CommandContext(t.Context(), binary, s)
		},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := command(t, cloud(t).Kafka())
			if out := run(t, cmd); !strings.HasSuffix(strings.TrimSpace(out), "ok") {
				t.Errorf("the client said %q", out)
			}
		})
	}
}

// cloud starts a weir-cloud alone.
func cloud(t *testing.T, args ...string) *harness.Cluster {
	t.Helper()
	c := &harness.Cluster{Dir: t.TempDir(), CloudArgs: args}
	c.Bucket = "file:" + filepath.Join(c.Dir, "bucket")
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		checkBucket(t, c.Bucket)
		if t.Failed() {
			keepLogs(t, c.Dir)
		}
	})
	if err := c.StartCloud(); err != nil {
		t.Fatal(err)
	}
	return c
}

// addUser lets a user log in.
func addUser(t *testing.T, c *harness.Cluster, name, password string) {
	t.Helper()
	binary, err := harness.Binary("weirctl")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), binary, "users", "add", name, "--cloud", c.HTTP(), "--data", c.CloudData())
	cmd.Stdin = strings.NewReader(password + "\n")
	run(t, cmd)
}

// run runs a program to its end, for at most three minutes, and returns what it
// printed.
func run(t *testing.T, cmd *exec.Cmd) string {
	t.Helper()
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	timer := time.AfterFunc(3*time.Minute, func() { _ = cmd.Cancel() })
	defer timer.Stop()
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s%s", strings.Join(cmd.Args, " "), err, last(out.String(), 4_000), last(stderr.String(), 8_000))
	}
	return out.String()
}

func last(s string, n int) string { return s[max(0, len(s)-n):] }

// built is a folder that `make clients` makes, or `make soak-clients`.
func built(t *testing.T, name string) string {
	t.Helper()
	dir := filepath.Join(os.Getenv("WEIR_CLIENTS"), name)
	if _, err := os.Stat(filepath.Join(dir, ".complete")); err != nil {
		if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
			t.Fatalf("the %s clients are not there (make clients soak-clients): %v", name, err)
		}
		t.Skipf("SKIPPED: the %s clients are not there (make clients soak-clients): %v", name, err)
	}
	return dir
}

// java runs a class of ours, or one of Kafka's own tools.
func java(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	program, dir := need(t, "java", "openjdk-17-jdk-headless"), built(t, "java")
	classpath := filepath.Join(dir, "build", "clients.jar") + ":" + filepath.Join(dir, "lib", "*")
	quiet := "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
	return exec.CommandContext(t.Context(), program, slices.Concat([]string{"-Xmx512m", quiet, "-cp", classpath}, args)...)
}

// node runs the JavaScript round.
func node(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	return nodeIn(t, built(t, "javascript"), "clients/javascript/round.mjs", args...)
}

// nodeIn runs a JavaScript program from a folder of its own, with the libraries of a folder.
func nodeIn(t *testing.T, libraries, program string, args ...string) *exec.Cmd {
	t.Helper()
	interpreter, here := need(t, "node", "nodejs"), t.TempDir()
	source, err := os.ReadFile(program)
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(here, filepath.Base(program))
	if err := os.WriteFile(copied, source, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(libraries, "node_modules"), filepath.Join(here, "node_modules")); err != nil {
		t.Fatal(err)
	}
	return exec.CommandContext(t.Context(), interpreter, append([]string{copied}, args...)...)
}

// python is an interpreter that has the distribution's confluent_kafka.
func python(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), program, "-c", "import confluent_kafka").Run() == nil {
			return program
		}
	}
	return need(t, "python3 with confluent_kafka", "python3-confluent-kafka")
}

// TestPerformanceTools: Kafka's own tools for measuring run against a node.
func TestPerformanceTools(t *testing.T) {
	server := cloud(t).Kafka()
	out := run(t, java(t, "org.apache.kafka.tools.ProducerPerformance", "--topic", "perf", "--num-records", "20000", "--record-size", "1024",
		"--throughput", "-1", "--producer-props", "bootstrap.servers="+server, "acks=all"))
	if !strings.Contains(out, "20000 records sent") {
		t.Error(out)
	}
	out = run(t, java(t, "org.apache.kafka.tools.ConsumerPerformance", "--topic", "perf", "--bootstrap-server", server, "--num-records", "20000", "--timeout", "60000"))
	if !strings.Contains(out, ", 20000, ") {
		t.Error(out)
	}
}

// TestConnect: a Connect worker in distributed mode keeps its three compacted
// topics here, reads a file into a topic and writes the topic into another file.
func TestConnect(t *testing.T) {
	server, dir := cloud(t).Kafka(), t.TempDir()
	const lines = 500
	var source bytes.Buffer
	for i := range lines {
		fmt.Fprintf(&source, "line %d\n", i)
	}
	if err := os.WriteFile(filepath.Join(dir, "in.txt"), source.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	rest := startConnect(t, server, dir)
	connector := func(name string, config map[string]string) {
		body, err := json.Marshal(map[string]any{"name": name, "config": config})
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.Post(rest+"/connectors", "application/json", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusCreated {
			t.Fatalf("connector %s: %s", name, res.Status)
		}
	}
	connector("source", map[string]string{"connector.class": "FileStreamSource", "file": filepath.Join(dir, "in.txt"), "topic": "connected"})
	connector("sink", map[string]string{"connector.class": "FileStreamSink", "file": filepath.Join(dir, "out.txt"), "topics": "connected"})
	within(t, 90*time.Second, "all lines in the sink's file", func() bool {
		out, _ := os.ReadFile(filepath.Join(dir, "out.txt"))
		return bytes.Count(out, []byte("\n")) >= lines
	})
	out, err := os.ReadFile(filepath.Join(dir, "out.txt"))
	if err != nil || !bytes.Equal(out, source.Bytes()) {
		t.Errorf("the sink wrote %d bytes of %d: %v", len(out), source.Len(), err)
	}
}

// startConnect starts a worker and returns the address of its REST door.
func startConnect(t *testing.T, server, dir string) string {
	t.Helper()
	port := freePort(t) // Connect cannot say which one it took
	properties := filepath.Join(dir, "worker.properties")
	config := fmt.Sprintf(`bootstrap.servers=%s
group.id=connect
listeners=http://127.0.0.1:%d
key.converter=org.apache.kafka.connect.storage.StringConverter
value.converter=org.apache.kafka.connect.storage.StringConverter
offset.storage.topic=connect-offsets
config.storage.topic=connect-configs
status.storage.topic=connect-status
offset.storage.replication.factor=1
config.storage.replication.factor=1
status.storage.replication.factor=1
offset.flush.interval.ms=1000
exactly.once.source.support=enabled
`, server, port)
	if err := os.WriteFile(properties, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := java(t, "org.apache.kafka.connect.cli.ConnectDistributed", properties)
	log, err := os.Create(filepath.Join(dir, "connect.log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = log, log
	ctx, cancel := context.WithCancel(t.Context())
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait() // it is killed
	}()
	t.Cleanup(func() {
		cancel()
		_ = cmd.Process.Kill()
		<-exited
		if t.Failed() {
			out, _ := os.ReadFile(log.Name())
			t.Logf("connect.log:\n%s", last(string(out), 6_000))
		}
	})
	rest := fmt.Sprintf("http://127.0.0.1:%d", port)
	within(t, 90*time.Second, "the worker", func() bool {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, rest+"/connectors", nil)
		if err != nil {
			return false
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			return false
		}
		res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	return rest
}

// freePort is harness.FreePort.
func freePort(t *testing.T) int {
	t.Helper()
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// TestFranzGo runs the integration suite of franz-go, from its module, against a
// node with a second listener that wants SCRAM. What it skips by itself needs share
// groups, or a broker too old for its time.
func TestFranzGo(t *testing.T) {
	dir := strings.TrimSpace(run(t, exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/twmb/franz-go")))
	binary := filepath.Join(t.TempDir(), "kgo.test")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-o", binary, "./pkg/kgo")
	build.Dir = dir
	run(t, build)

	cmd := exec.CommandContext(t.Context(), binary, "-test.v", "-test.timeout", "170s")
	cmd.Dir = filepath.Join(dir, "pkg", "kgo") // it reads its own sources
	login := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	c := cloud(t, "--kafka", "name=login,listen="+login+",sasl=scram")
	addUser(t, c, "kgo", "kgo-secret")
	cmd.Env = append(os.Environ(), "KGO_SEEDS="+c.Kafka(), "KGO_TEST_RF=1", "KGO_TEST_RECORDS=10000", "KGO_LOG_LEVEL=none",
		"KGO_TEST_SCRAM_SEEDS="+login, "KGO_TEST_SCRAM=kgo:kgo-secret")
	output, err := cmd.CombinedOutput()
	out := string(output)
	if err != nil {
		t.Errorf("%v: %q\n%s", err, regexp.MustCompile(`(?m)^\s*--- FAIL.*`).FindAllString(out, -1), last(out, 4_000))
	}
	skipped := 0
	for line := range strings.Lines(out) {
		if strings.HasPrefix(strings.TrimSpace(line), "--- SKIP") {
			skipped++
			t.Log(strings.TrimSpace(line))
		}
	}
	if passed := strings.Count(out, "--- PASS"); passed < 100 || skipped > 6 {
		t.Errorf("%d passed and %d skipped", passed, skipped)
	}
}
