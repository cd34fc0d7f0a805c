package storage

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Metrics counts the calls of b in set, under the label bucket=name:
//
//	weir_bucket_requests_total{bucket,op,result}   result: ok exists missing unknown error
//	weir_bucket_request_seconds{bucket,op}         a histogram
//	weir_bucket_bytes_total{bucket,op}             object bytes created and read
func Metrics(b Bucket, set *metrics.Set, name string) Bucket {
	return &measured{b, set, name}
}

type measured struct {
	below Bucket
	set   *metrics.Set
	name  string
}

func (m *measured) Create(ctx context.Context, key string, body []byte) error {
	start := time.Now()
	err := m.below.Create(ctx, key, body)
	m.count("create", start, err, len(body))
	return err
}

func (m *measured) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	start := time.Now()
	body, err := m.below.Get(ctx, key, off, n)
	m.count("get", start, err, len(body))
	return body, err
}

func (m *measured) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	start := time.Now()
	keys, err := m.below.List(ctx, prefix, after, max)
	m.count("list", start, err, 0)
	return keys, err
}

func (m *measured) Delete(ctx context.Context, keys ...string) error {
	start := time.Now()
	err := m.below.Delete(ctx, keys...)
	m.count("delete", start, err, 0)
	return err
}

func (m *measured) Close() error { return Close(m.below) }

func (m *measured) count(op string, start time.Time, err error, bytes int) {
	labels := fmt.Sprintf("bucket=%q,op=%q", m.name, op)
	m.set.GetOrCreatePrometheusHistogramExt("weir_bucket_request_seconds{"+labels+"}", requestBounds()).UpdateDuration(start)
	m.set.GetOrCreateCounter(fmt.Sprintf("weir_bucket_requests_total{%s,result=%q}", labels, result(err))).Inc()
	if err == nil && bytes > 0 {
		m.set.GetOrCreateCounter("weir_bucket_bytes_total{" + labels + "}").Add(bytes)
	}
}

// requestBounds are the upper bounds of the histogram, in seconds, from a local folder
// to a slow remote store.
func requestBounds() []float64 {
	return []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, ErrUnknown):
		return "unknown"
	case errors.Is(err, ErrExists):
		return "exists"
	case errors.Is(err, fs.ErrNotExist):
		return "missing"
	default:
		return "error"
	}
}

func (m *measured) Unwrap() Bucket { return m.below }
