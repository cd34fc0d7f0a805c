package zero

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
)

// BenchmarkColdStart measures how long a producer waits that comes to a node that sleeps,
// until its first record is acknowledged: the start of the process, the recovery of the log,
// and the client's own requests before its first Produce.
func BenchmarkColdStart(b *testing.B) {
	minio := func(delay time.Duration) func(b *testing.B) string {
		return func(b *testing.B) string {
			server := s3test.Start(b)
			return strings.Replace(server.NewBucket(b), url.QueryEscape(server.Endpoint), url.QueryEscape(slow(b, server.Endpoint, delay)), 1)
		}
	}
	for _, c := range []struct {
		name string
		at   func(b *testing.B) string
	}{
		{"file", func(b *testing.B) string { return "file:" + filepath.Join(b.TempDir(), "bucket") }},
		{"redis", func(b *testing.B) string { return redistest.Start(b).NewBucket(b) }},
		{"minio", minio(0)},
		{"minio, 30 ms a request", minio(30 * time.Millisecond)},
	} {
		b.Run(c.name, func(b *testing.B) {
			secret := filepath.Join(b.TempDir(), "secret")
			if err := os.WriteFile(secret, []byte("the secret of this benchmark\n"), 0o600); err != nil {
				b.Fatal(err)
			}
			a := newActivator(b, "--bucket", c.at(b), "--secret-file", secret, "--linger", "0")
			a.produce("first", 1, nil)
			a.wakes()
			a.sleeps()
			b.ResetTimer()
			for b.Loop() {
				a.produce("again", 1, nil)
				b.StopTimer()
				a.wakes()
				a.sleeps()
				b.StartTimer()
			}
		})
	}
}

// slow starts a proxy that waits before it passes a request on, and returns its URL.
func slow(b *testing.B, server string, delay time.Duration) string {
	to, err := url.Parse(server)
	if err != nil {
		b.Fatal(err)
	}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(to)
			r.Out.Host = r.In.Host // it is signed
		},
		Transport: &http.Transport{MaxIdleConnsPerHost: 100, DialContext: (&net.Dialer{}).DialContext},
	}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(delay)
		forward.ServeHTTP(w, r)
	}))
	b.Cleanup(proxy.Close)
	return proxy.URL
}
