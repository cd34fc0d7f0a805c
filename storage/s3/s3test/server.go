// Package s3test starts real S3 servers for the tests of whatever keeps its
// objects in S3: MinIO, and versitygw as a second opinion.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"
)

// Server is an S3 server on loopback that lives as long as the test that
// started it.
type Server struct {
	Endpoint string // http://127.0.0.1:port
	client   *minio.Client
}

const user = "weir-test"

// program is a server as it is built and started.
type program struct {
	name     string
	variable string // of the environment: where it is
	file     string // where it is by default, in ~/.cache/weir/bin
	module   string // that go install builds it from
	command  func(address, folder string) (args []string)
	env      func(password string) []string
}

// start starts the program on an empty temporary folder and puts its credentials
// into the environment of the test.
func (p program) start(t testing.TB) *Server {
	t.Helper()
	path := p.find(t)
	password := rand.Text()
	t.Setenv("AWS_ACCESS_KEY_ID", user)
	t.Setenv("AWS_SECRET_ACCESS_KEY", password)

	// Between the choice of a free port and its use it can be taken.
	var err error
	for range 5 {
		var s *Server
		if s, err = p.run(t, path, password); err == nil {
			return s
		}
	}
	t.Fatalf("start %s: %v", p.name, err)
	return nil
}

func (p program) find(t testing.TB) string {
	t.Helper()
	path := os.Getenv(p.variable)
	if path == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(home, ".cache", "weir", "bin", p.file)
	}
	if _, err := exec.LookPath(path); err != nil {
		text := fmt.Sprintf("NO S3 TEST: no %s server (%v). Build one, it takes some minutes once:\n"+
			"    cd / && GOBIN=$HOME/.cache/weir/bin go install %s", p.name, err, p.module)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return path
}

func (p program) run(t testing.TB, path, password string) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()

	// The shell kills the server when its standard input ends, which it does
	// even when this process is killed.
	cmd := exec.Command("sh", append([]string{"-c", `"$@" & read -r _; kill -9 $!; wait`, "sh", path},
		p.command(address, t.TempDir())...)...)
	cmd.Env = append(os.Environ(), append(p.env(password), "HOME="+t.TempDir())...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
		if t.Failed() {
			t.Logf("%s:\n%s", p.name, log.String())
		}
	})
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(user, password, ""), MaxRetries: 1})
	if err != nil {
		return nil, err
	}
	if err := waitReady(client); err != nil {
		return nil, err
	}
	return &Server{"http://" + address, client}, nil
}

// waitReady waits until the server takes our password, which tells it from
// another one on the same port.
func waitReady(client *minio.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		_, err := client.ListBuckets(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("not ready after 30 s: %w", err)
		}
	}
}

// NewBucket creates an empty bucket and returns its URL for storage/s3 and
// storage/open.
func (s *Server) NewBucket(t testing.TB) string {
	t.Helper()
	name := "weir-" + strings.ToLower(rand.Text())
	if err := s.client.MakeBucket(t.Context(), name, minio.MakeBucketOptions{}); err != nil {
		t.Fatalf("make bucket %s: %v", name, err)
	}
	return s.URL(name)
}

// URL returns the URL of the bucket with a name, whether it exists or not.
func (s *Server) URL(name string) string {
	return "s3://" + name + "?endpoint=" + url.QueryEscape(s.Endpoint)
}
