package cluster

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
)

// store is where a cluster keeps everything.
type store struct {
	kind  string
	url   string
	flags []string // of nodes

	failing atomic.Int32 // of a hundred requests, so many are answered with 503; minio only
}

// newStore starts the server of a bucket, if there is one, where cutBucket expects it.
func newStore(t *testing.T, kind string) *store {
	t.Helper()
	s := &store{kind: kind}
	switch kind {
	case "file":
		s.url = "file:" + filepath.Join(t.TempDir(), "bucket")
		return s
	case "redis":
		s.url = redistest.StartAt(t, bucketIP).NewBucket(t)
	case "minio":
		server := s3test.Start(t)
		s.url = strings.Replace(server.NewBucket(t), url.QueryEscape(server.Endpoint), url.QueryEscape(s.proxy(t, server.Endpoint)), 1)
	}
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the secret of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.flags = []string{"--secret-file", secret}
	return s
}

// proxy starts a proxy that answers some requests itself, and returns its URL.
func (s *store) proxy(t *testing.T, server string) string {
	t.Helper()
	to, err := url.Parse(server)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", net.JoinHostPort(bucketIP, "0"))
	if err != nil {
		t.Fatal(err)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if rand.Int32N(100) < s.failing.Load() {
			w.Header().Set("Content-Type", "application/xml")
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte(`<?xml version="1.0" encoding="UTF-8"?><Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>`)) // fails only if the client has gone
			return
		}
		forward.ServeHTTP(w, r)
	})}
	served := make(chan error, 1)
	go func() { served <- proxy.Serve(listener) }()
	t.Cleanup(func() {
		_ = proxy.Shutdown(context.Background())
		if err := <-served; err != http.ErrServerClosed {
			t.Error(err)
		}
	})
	return "http://" + listener.Addr().String()
}
