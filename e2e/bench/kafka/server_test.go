package kafka

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// The servers that are compared: weir-cloud with a folder as its bucket; Apache
// Kafka as it comes, which acknowledges what is in memory; and Kafka with
// flush.messages=1, which syncs before it acknowledges, as weir-cloud does.
const (
	weir    = "weir"
	stock   = "kafka"
	durable = "kafka-durable"
)

var kinds = []string{weir, stock, durable}

// server is a running broker.
type server struct {
	name    string
	addr    string
	pid     int
	startup time.Duration // until it answers a request for metadata
	stop    func()
}

func start(b *testing.B, kind string) *server {
	b.Helper()
	b.StopTimer()
	defer b.StartTimer()
	if kind == weir {
		return startWeir(b)
	}
	s := startKafka(b)
	one := "1"
	configs := map[string]*string{}
	if kind == durable {
		configs["flush.messages"] = &one
	}
	s.createTopic(b, configs)
	return s
}

func startWeir(b *testing.B) *server {
	b.Helper()
	began := time.Now()
	c := &harness.Cluster{Dir: b.TempDir()}
	c.Bucket = "file:" + filepath.Join(c.Dir, "bucket")
	if err := c.StartCloud(); err != nil {
		b.Fatal(err)
	}
	s := &server{name: weir, addr: c.Kafka(), pid: c.Cloud.Pid()}
	s.stop = func() { c.Cloud.Kill() }
	s.await(b, began)
	s.createTopic(b, nil)
	return s
}

// startKafka runs Kafka in one process, broker and controller, from the jars of
// `make clients`.
func startKafka(b *testing.B) *server {
	b.Helper()
	jars := filepath.Join(os.Getenv("WEIR_CLIENTS"), "java", "lib")
	if _, err := os.Stat(jars); err != nil {
		b.Skipf("SKIPPED: Kafka is not there (make clients): %v", err)
	}
	dir := b.TempDir()
	broker, controller := freePort(b), freePort(b)
	properties := filepath.Join(dir, "server.properties")
	config := fmt.Sprintf(`process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:%[2]d
listeners=PLAINTEXT://127.0.0.1:%[1]d,CONTROLLER://127.0.0.1:%[2]d
advertised.listeners=PLAINTEXT://127.0.0.1:%[1]d
controller.listener.names=CONTROLLER
log.dirs=%[3]s/log
num.network.threads=3
num.io.threads=8
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
`, broker, controller, dir)
	if err := os.WriteFile(properties, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	run := func(args ...string) *exec.Cmd {
		cmd := exec.Command("java", append([]string{"-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", filepath.Join(jars, "*")}, args...)...)
		cmd.Env = append(os.Environ(), "LOG_DIR="+dir)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		return cmd
	}
	if out, err := run("kafka.tools.StorageTool", "format", "-t", "4L6g3nShT-eMCtK--X86sw", "-c", properties).CombinedOutput(); err != nil {
		b.Fatalf("format Kafka's storage: %v\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "kafka.log"))
	if err != nil {
		b.Fatal(err)
	}
	began := time.Now()
	cmd := run("kafka.Kafka", properties)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	s := &server{name: stock, addr: fmt.Sprintf("127.0.0.1:%d", broker), pid: cmd.Process.Pid}
	s.stop = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	b.Cleanup(s.stop)
	s.await(b, began)
	return s
}

func freePort(b *testing.B) int {
	b.Helper()
	port, err := harness.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	return port
}

// await waits until the server answers.
func (s *server) await(b *testing.B, began time.Time) {
	b.Helper()
	client := s.client(b, kgo.RetryTimeout(200*time.Millisecond))
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	for client.Ping(ctx) != nil {
		if ctx.Err() != nil {
			b.Fatalf("%s does not answer", s.name)
		}
	}
	s.startup = time.Since(began)
}

// cpu is the processor time that the server has used.
func (s *server) cpu(b *testing.B) time.Duration {
	b.Helper()
	cpu, err := harness.CPU(s.pid)
	if err != nil {
		b.Fatal(err)
	}
	return cpu
}

// rss is the most memory in bytes that the server has held at once.
func (s *server) rss(b *testing.B) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb int64
		if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
			return kb << 10
		}
	}
	b.Fatalf("no VmHWM of %s", s.name)
	return 0
}

// written is how many bytes the server has passed to write calls, answers to clients
// included, and how many it has dirtied in the page cache. Linux counts the latter in
// the units in which it caches a file, up to 2 MiB each, so that a small write which is
// synced by itself counts as many times its size; the disk does not see that.
func (s *server) written(b *testing.B) (passed, dirtied int64) {
	b.Helper()
	io, err := os.ReadFile(fmt.Sprintf("/proc/%d/io", s.pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(io)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		switch name {
		case "wchar":
			passed = n
		case "write_bytes":
			dirtied = n
		}
	}
	return passed, dirtied
}
