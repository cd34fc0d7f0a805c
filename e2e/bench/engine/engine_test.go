// Package engine measures the storage engine by itself: the commit log over every
// kind of bucket, beside what the same store does without it in the same run; what
// it asks of an object store, in requests and in dollars; and how it grows.
//
// append_test.go is throughput and latency (`make bench`), cost_test.go the bill,
// and growth_test.go, recovery_test.go, metadata_test.go and scan_test.go the scale:
// small in a normal run, in full with WEIR_SOAK=1 (`make soak`).
package engine

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/record"
)

func TestMain(m *testing.M) {
	if name := os.Getenv(childVariable); name != "" {
		os.Exit(runChild(name))
	}
	os.Exit(m.Run())
}

// soak says whether the figures of the README are wanted.
func soak() bool { return os.Getenv("WEIR_SOAK") == "1" }

// openLog makes this process the owner of shard 0 of b.
func openLog(ctx context.Context, b storage.Bucket, change ...func(*commitlog.Options)) (*commitlog.Log, error) {
	o := commitlog.Options{Bucket: b, Node: "bench", Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))}
	for _, c := range change {
		c(&o)
	}
	return commitlog.Open(ctx, o)
}

// batchOf builds an uncompressed batch of records with values of size bytes.
func batchOf(records, size int) (record.Batch, error) {
	value := bytes.Repeat([]byte("x"), size)
	return batchWith(records, func() []byte { return value })
}

// noiseOf builds one that cannot be compressed.
func noiseOf(records, size int) (record.Batch, error) {
	noise := rand.NewChaCha8([32]byte{})
	value := make([]byte, size)
	return batchWith(records, func() []byte {
		_, _ = noise.Read(value) // never fails
		return value
	})
}

func batchWith(records int, value func() []byte) (record.Batch, error) {
	b := record.NewBuilder(record.None)
	for range records {
		if err := b.Append(&record.Record{Timestamp: 1_700_000_000_000, Value: value()}); err != nil {
			return nil, err
		}
	}
	return b.Build()
}

// percentile of durations that are in order; 0 if there are none.
func percentile(sorted []time.Duration, percent int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[len(sorted)*percent/100]
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func mib(bytes int64) float64 { return float64(bytes) / (1 << 20) }

// table is Markdown for the README files.
type table struct {
	title string
	head  []string
	rows  [][]string
}

// row adds a row: numbers get three digits that mean something.
func (t *table) row(cells ...any) {
	row := make([]string, len(cells))
	for i, c := range cells {
		row[i] = cell(c)
	}
	t.rows = append(t.rows, row)
}

func cell(c any) string {
	x, ok := c.(float64)
	switch {
	case !ok:
		return fmt.Sprint(c)
	case x != 0 && x > -0.001 && x < 0.001:
		return fmt.Sprintf("%.6f", x)
	case x > -1 && x < 1:
		return fmt.Sprintf("%.3f", x)
	case x > -10 && x < 10:
		return fmt.Sprintf("%.2f", x)
	case x > -100 && x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

func (t *table) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s\n\n", t.title)
	rule := slices.Repeat([]string{"---"}, len(t.head))
	for _, row := range slices.Concat([][]string{t.head, rule}, t.rows) {
		fmt.Fprintf(&out, "| %s |\n", strings.Join(row, " | "))
	}
	return out.String()
}
