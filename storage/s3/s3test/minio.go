// Package s3test starts a real MinIO server for the tests of whatever keeps
// its objects in S3.
package s3test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
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

const (
	user     = "weir-test"
	password = "weir-test-password"
	module   = "github.com/minio/minio@v0.0.0-20260212201848-7aac2a2c5b7c"
)

// Server is a MinIO server on loopback that lives as long as the test that
// started it.
type Server struct {
	Endpoint string // http://127.0.0.1:port
	client   *minio.Client
}

// Start starts a server on an empty temporary folder and puts its credentials
// into the environment of the test, for storage/s3 and for child processes. It
// looks for the program at $WEIR_MINIO, else at ~/.cache/weir/bin/minio. When
// there is none the test is skipped, or fails if WEIR_REQUIRE_SERVICES is 1.
func Start(t testing.TB) *Server {
	t.Helper()
	program := find(t)
	t.Setenv("AWS_ACCESS_KEY_ID", user)
	t.Setenv("AWS_SECRET_ACCESS_KEY", password)

	// Between the choice of a free port and its use it can be taken.
	var err error
	for range 5 {
		var s *Server
		if s, err = start(t, program); err == nil {
			return s
		}
	}
	t.Fatalf("start MinIO: %v", err)
	return nil
}

func find(t testing.TB) string {
	t.Helper()
	program := os.Getenv("WEIR_MINIO")
	if program == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			t.Fatal(err)
		}
		program = filepath.Join(home, ".cache", "weir", "bin", "minio")
	}
	if _, err := exec.LookPath(program); err != nil {
		text := fmt.Sprintf("NO S3 TEST: no MinIO server (%v). Build one, it takes some minutes once:\n"+
			"    cd / && GOBIN=$HOME/.cache/weir/bin go install %s", err, module)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	return program
}

func start(t testing.TB, program string) (*Server, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	address := listener.Addr().String()
	listener.Close()

	// The shell kills the server when its standard input ends, which it does
	// even when this process is killed.
	cmd := exec.Command("sh", "-c", `"$@" & read -r _; kill -9 $!; wait`, "sh",
		program, "server", "--quiet", "--address", address, t.TempDir())
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+user, "MINIO_ROOT_PASSWORD="+password,
		"MINIO_BROWSER=off", "MINIO_UPDATE=off", "HOME="+t.TempDir())
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
			t.Logf("MinIO:\n%s", log.String())
		}
	})
	if err := waitReady("http://" + address); err != nil {
		return nil, err
	}
	client, err := minio.New(address, &minio.Options{Creds: credentials.NewStaticV4(user, password, "")})
	if err != nil {
		return nil, err
	}
	return &Server{"http://" + address, client}, nil
}

func waitReady(endpoint string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, endpoint+"/minio/health/ready", nil)
		if err != nil {
			return err
		}
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK && resp.Header.Get("Server") == "MinIO" {
				return nil
			}
			err = errors.New(resp.Status)
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
