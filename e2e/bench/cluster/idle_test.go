package cluster

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/s3/s3test"
)

// Dollars for a request to S3 Standard in us-east-1, and the hours of a month.
const (
	perPut = 5.0 / 1e6 // PUT and LIST
	perGet = 0.4 / 1e6
	month  = 730.0
)

// meteredStore is a proxy before an S3 server, which counts what would be paid for.
type meteredStore struct {
	puts, gets atomic.Int64 // a LIST counts as a PUT
}

func newMeteredStore(b *testing.B) (*meteredStore, string) {
	b.Helper()
	server := s3test.Start(b)
	to, err := url.Parse(server.Endpoint)
	if err != nil {
		b.Fatal(err)
	}
	m := &meteredStore{}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(to)
		r.Out.Host = r.In.Host // it is signed
	}}
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut, r.Method == http.MethodGet && r.URL.Query().Has("list-type"):
			m.puts.Add(1)
		case r.Method == http.MethodGet, r.Method == http.MethodHead:
			m.gets.Add(1)
		}
		forward.ServeHTTP(w, r)
	}))
	b.Cleanup(proxy.Close)
	return m, strings.Replace(server.NewBucket(b), url.QueryEscape(server.Endpoint), url.QueryEscape(proxy.URL), 1)
}

// BenchmarkIdle: what S3 would charge for requests of a node without work, in a month, with
// one shard and with eight. They are measured side by side, for two minutes, which begin
// half a minute after the start.
func BenchmarkIdle(b *testing.B) {
	const length = 2 * time.Minute
	for b.Loop() {
		stores := make(map[int]*meteredStore)
		var before map[int][2]int64
		for _, shards := range []int{1, dataShards} {
			m, bucket := newMeteredStore(b)
			startNodes(b, bucket, shards, 1)
			stores[shards] = m
		}
		pause(30 * time.Second)
		before = make(map[int][2]int64)
		for shards, m := range stores {
			before[shards] = [2]int64{m.puts.Load(), m.gets.Load()}
		}
		pause(length)
		for shards, m := range stores {
			puts := float64(m.puts.Load()-before[shards][0]) / length.Hours()
			gets := float64(m.gets.Load()-before[shards][1]) / length.Hours()
			of := "-" + strconv.Itoa(shards)
			b.ReportMetric(puts, "put-list/h"+of)
			b.ReportMetric(gets, "get/h"+of)
			b.ReportMetric((puts*perPut+gets*perGet)*month, "$/month"+of)
		}
		b.ReportMetric(0, "ns/op")
	}
}
