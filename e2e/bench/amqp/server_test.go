package amqp

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/e2e/rabbit"
)

// The servers that are compared: weir-cloud with a folder as its bucket, and RabbitMQ
// with durable classic queues.
var kinds = []string{"weir", "rabbitmq"}

// server is a running broker.
type server struct {
	name, url string
	pids      []int
	restart   func(b *testing.B) // kills it and starts it again
}

func start(b *testing.B, kind string) *server {
	b.Helper()
	b.StopTimer()
	defer b.StartTimer()
	if kind == "rabbitmq" {
		n := rabbit.Start(b)
		s := &server{name: kind, url: n.URL}
		s.pids = rabbitProcesses(b, n.URL)
		return s
	}
	port, err := harness.FreePort()
	if err != nil {
		b.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	c := &harness.Cluster{Dir: b.TempDir(), CloudArgs: []string{"--amqp", address, "--address-connections", "2048"}} // a crowd has one address
	c.Bucket = "file:" + filepath.Join(c.Dir, "bucket")
	if err := c.StartCloud(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Cloud.Kill() })
	s := &server{name: kind, url: "amqp://guest:guest@" + address + "/", pids: []int{c.Cloud.Pid()}}
	s.restart = func(b *testing.B) {
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			b.Fatal(err)
		}
		s.pids = []int{c.Cloud.Pid()}
	}
	return s
}

// rabbitProcesses returns the processes of a RabbitMQ: those whose environment names its
// port.
func rabbitProcesses(b *testing.B, url string) []int {
	b.Helper()
	port := url[strings.LastIndex(url, ":")+1 : len(url)-1]
	all, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		b.Fatal(err)
	}
	var pids []int
	for _, path := range all {
		env, err := os.ReadFile(path)
		if err == nil && bytes.Contains(env, []byte("RABBITMQ_NODE_PORT="+port+"\x00")) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
				pids = append(pids, pid)
			}
		}
	}
	if len(pids) == 0 {
		b.Fatal("the processes of RabbitMQ were not found")
	}
	return pids
}

// cpu is the processor time that the server has used. A process that has ended does not
// count: those of RabbitMQ only start it.
func (s *server) cpu() time.Duration {
	sum := time.Duration(0)
	for _, pid := range s.pids {
		if used, err := harness.CPU(pid); err == nil {
			sum += used
		}
	}
	return sum
}

// rss is the memory in bytes that the server holds.
func (s *server) rss() int64 {
	sum := int64(0)
	for _, pid := range s.pids {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(status)) {
			var kb int64
			if _, err := fmt.Sscanf(line, "VmRSS: %d kB", &kb); err == nil {
				sum += kb << 10
			}
		}
	}
	return sum
}
