// Package redistest starts a real Redis server for the tests of whatever keeps
// its objects in one.
package redistest

import (
	"crypto/rand"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Server is a Redis server that lives as long as the test that started it.
type Server struct {
	Address  string // host:port
	Password string
	Dir      string // where it keeps its append-only file
	process  process
}

// Start starts a server on an empty temporary folder that keeps every object
// that it acknowledged: appendonly yes, appendfsync always. Settings are added
// as on its command line, "--name", "value"; later ones win. When there is no
// redis-server on the PATH the test is skipped, or fails if
// WEIR_REQUIRE_SERVICES is 1.
func Start(t testing.TB, settings ...string) *Server {
	t.Helper()
	return StartAt(t, "127.0.0.1", settings...)
}

// StartAt is Start for a server that listens at an address of this machine that is not
// on loopback.
func StartAt(t testing.TB, host string, settings ...string) *Server {
	t.Helper()
	program := find(t)

	// Between the choice of a free port and its use it can be taken.
	for try := 1; ; try++ {
		s := &Server{Address: freeAddress(t, host), Password: rand.Text(), Dir: t.TempDir()}
		_, port, _ := net.SplitHostPort(s.Address)
		s.process.command = append([]string{program, "--bind", host, "--port", port, "--dir", s.Dir,
			"--requirepass", s.Password, "--appendonly", "yes", "--appendfsync", "always", "--save", ""}, settings...)
		err := s.process.start(s.ready)
		if err == nil {
			t.Cleanup(func() {
				s.process.stop()
				if t.Failed() {
					t.Logf("Redis at %s:\n%s", s.Address, s.process.log.String())
				}
			})
			return s
		}
		s.process.stop()
		if try == 5 {
			t.Fatalf("start Redis: %v\n%s", err, s.process.log.String())
		}
	}
}

func find(t testing.TB) string {
	t.Helper()
	program, err := exec.LookPath("redis-server")
	if err != nil {
		text := fmt.Sprintf("NO REDIS TEST: no Redis server (%v). Install one:\n    apt-get install redis-server", err)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return program
}

func freeAddress(t testing.TB, host string) string {
	t.Helper()
	listener, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// ready reports whether the server has read its data and takes our password,
// which tells it from another one on the same port.
func (s *Server) ready() error {
	return converse(s.Address, "AUTH "+s.Password, "+OK", "PING", "+PONG")
}

// Kill ends the server with SIGKILL, if it runs.
func (s *Server) Kill(t testing.TB) {
	t.Helper()
	s.process.stop()
}

// Restart starts the server again after Kill, on the same folder and port.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	if err := s.process.start(s.ready); err != nil {
		t.Fatalf("start Redis again: %v", err)
	}
}

// NewBucket returns the URL of an empty bucket for storage/redis and
// storage/open.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	return s.URL("weir-" + rand.Text())
}

// URL returns the URL of the bucket with a prefix.
func (s *Server) URL(prefix string) string {
	return fmt.Sprintf("redis://:%s@%s/0?prefix=%s", s.Password, s.Address, prefix)
}

// StartSentinel starts a Redis Sentinel that watches the server, until the test
// ends.
func (s *Server) StartSentinel(t testing.TB) {
	t.Helper()
	host, port, _ := net.SplitHostPort(s.Address)
	address := freeAddress(t, "127.0.0.1")
	_, own, _ := net.SplitHostPort(address)
	config := filepath.Join(t.TempDir(), "sentinel.conf") // Sentinel writes into it
	text := fmt.Sprintf("bind %s\nport %s\nsentinel monitor weir %s %s 1\nsentinel auth-pass weir %s\n",
		host, own, host, port, s.Password)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{command: []string{find(t), config, "--sentinel"}}
	t.Cleanup(p.stop)
	if err := p.start(func() error { return converse(address, "PING", "+PONG") }); err != nil {
		t.Fatalf("start Sentinel: %v", err)
	}
}
