package record_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/storage/record"
)

var (
	update = flag.Bool("update", false, "capture the golden batches again, from real clients")
	jars   = flag.String("jars", "", "with -update: directory with the jars of kafka-clients, to capture Java's too")
)

const goldenDir = "testdata/golden"

var codecs = []record.Codec{record.None, record.Gzip, record.Snappy, record.LZ4, record.Zstd}

// goldenRecords is what Go's and Java's clients produced (Produce.java makes
// the same): null and empty keys, values and headers, time running
// backwards, and a value that spans blocks.
func goldenRecords() []record.Record {
	records := make([]record.Record, 40)
	for i := range records {
		r := &records[i]
		r.Offset = int64(i)
		r.Timestamp = 1_700_000_000_000 + int64(i)*7
		if i%5 == 4 {
			r.Timestamp -= 1000
		}
		switch i % 7 {
		case 3: // null
		case 5:
			r.Key = []byte{}
		default:
			r.Key = fmt.Appendf(nil, "sensors/device-%d/telemetry", i%4)
		}
		switch i % 11 {
		case 6: // null
		case 8:
			r.Value = []byte{}
		default:
			r.Value = fmt.Appendf(nil, `{"n":%d,"temperature":21.5,"site":"Zürich"}`, i)
		}
		if i == 20 {
			r.Value = make([]byte, 100_000)
			for j := range r.Value {
				r.Value[j] = byte(j * j >> 7)
			}
		}
		if i%3 > 0 {
			r.Headers = append(r.Headers, record.Header{Key: "seq", Value: strconv.AppendInt(nil, int64(i), 10)})
		}
		if i%3 > 1 {
			r.Headers = append(r.Headers, record.Header{Key: "null"}, record.Header{Key: "", Value: []byte{}})
		}
	}
	return records
}

// kcatLines is what kcat produced, and kcatRecords what it means: empty is
// null (-Z), and every record has the same headers. kcat sets the time.
// More than 64 KiB of them, to span blocks.
const (
	kcatLines  = "device-1|21.5\n|no key\ndevice-2|\n"
	kcatRepeat = 1000
)

func kcatRecords() []record.Record {
	var records []record.Record
	for line := range strings.Lines(strings.Repeat(kcatLines, kcatRepeat)) {
		key, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "|")
		r := record.Record{Offset: int64(len(records)), Headers: []record.Header{
			{Key: "site", Value: []byte("zrh")}, {Key: "qos", Value: []byte("1")}}}
		if key != "" {
			r.Key = []byte(key)
		}
		if value != "" {
			r.Value = []byte(value)
		}
		records = append(records, r)
	}
	return records
}

// golden cuts a captured file into its batches and places them one behind the
// other, as a log would.
func golden(t testing.TB, path string) []record.Batch {
	t.Helper()
	p, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var batches []record.Batch
	offset := int64(0)
	for len(p) > 0 {
		var b record.Batch
		if b, p, err = record.Next(p); err != nil {
			t.Fatalf("%s: batch %d: %v", path, len(batches), err)
		}
		b.SetBaseOffset(offset)
		offset = b.NextOffset()
		batches = append(batches, b)
	}
	return batches
}

func goldenFiles(t testing.TB) []string {
	t.Helper()
	files, err := filepath.Glob(goldenDir + "/*.bin")
	if err != nil || len(files) < 3*len(codecs) {
		t.Fatalf("golden files: %d, %v", len(files), err)
	}
	return files
}

func TestGolden(t *testing.T) {
	for _, path := range goldenFiles(t) {
		name := strings.TrimSuffix(filepath.Base(path), ".bin")
		client, codec, _ := strings.Cut(name, "-")
		t.Run(name, func(t *testing.T) {
			want := goldenRecords()
			if client == "kcat" {
				want = kcatRecords()
			}
			var got []record.Record
			compressed := 0
			for _, b := range golden(t, path) {
				if err := b.Verify(); err != nil {
					t.Fatal(err)
				}
				if err := b.VerifyRecords(1 << 20); err != nil {
					t.Fatal(err)
				}
				if b.Codec().String() == codec {
					compressed++
				} else if b.Codec() != record.None {
					t.Errorf("batch has codec %v", b.Codec())
				}
				checkGoldenHeader(t, b, client, len(got))
				batch := collect(t, b)
				if client == "kcat" {
					forgetTimes(t, b, batch)
				}
				got = append(got, batch...)
			}
			if compressed == 0 {
				t.Error("no batch has the codec that the file was captured for")
			}
			equal(t, got, want)
		})
	}
}

// checkGoldenHeader: all of the clients were idempotent, and numbered their
// records from 0.
func checkGoldenHeader(t *testing.T, b record.Batch, client string, at int) {
	t.Helper()
	if b.ProducerID() != 4711 || b.ProducerEpoch() != 0 || int(b.BaseSequence()) != at {
		t.Errorf("%s: producer %d, epoch %d, sequence %d, want 4711, 0, %d",
			client, b.ProducerID(), b.ProducerEpoch(), b.BaseSequence(), at)
	}
	if b.LastSequence() != b.BaseSequence()+b.Count()-1 {
		t.Errorf("last sequence %d of %d records from %d", b.LastSequence(), b.Count(), b.BaseSequence())
	}
	if b.Transactional() || b.Control() || b.LogAppendTime() || record.Mergeable(b) {
		t.Errorf("transactional %v, control %v, log append time %v, mergeable %v, want none",
			b.Transactional(), b.Control(), b.LogAppendTime(), record.Mergeable(b))
	}
}

// forgetTimes checks times that the client set by itself, and clears them.
func forgetTimes(t *testing.T, b record.Batch, records []record.Record) {
	t.Helper()
	for i := range records {
		if ts := records[i].Timestamp; ts < 1_700_000_000_000 || ts > b.MaxTimestamp() {
			t.Errorf("timestamp %d, batch goes to %d", ts, b.MaxTimestamp())
		}
		records[i].Timestamp = 0
	}
}

// TestCapture writes the golden files: go test -run TestCapture -update
// [-jars DIR]. Clients that are not installed keep their files.
func TestCapture(t *testing.T) {
	if !*update {
		t.Skip("only with -update: the captured files are in " + goldenDir)
	}
	broker := newFakeBroker(t)
	for _, codec := range codecs {
		captureKgo(t, broker.addr(), codec)
		save(t, broker, "kgo", codec)
		if captureKcat(t, broker.addr(), codec) {
			save(t, broker, "kcat", codec)
		}
		if *jars != "" {
			captureJava(t, broker.addr(), codec)
			save(t, broker, "java", codec)
		}
	}
}

func save(t *testing.T, broker *fakeBroker, client string, codec record.Codec) {
	t.Helper()
	p := broker.take()
	if len(p) == 0 {
		t.Fatalf("%s produced nothing with %v", client, codec)
	}
	path := filepath.Join(goldenDir, client+"-"+codec.String()+".bin")
	if err := os.WriteFile(path, p, 0o644); err != nil {
		t.Fatal(err)
	}
}

func captureKgo(t *testing.T, addr string, codec record.Codec) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	compression := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(),
		kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.DefaultProduceTopic(fakeTopic),
		kgo.ProducerBatchCompression(compression[codec]), kgo.ManualFlushing())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	for _, r := range goldenRecords() {
		client.Produce(ctx, toKgo(r), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		t.Fatal(err)
	}
}

func toKgo(r record.Record) *kgo.Record {
	k := &kgo.Record{Key: r.Key, Value: r.Value, Timestamp: time.UnixMilli(r.Timestamp)}
	for _, h := range r.Headers {
		k.Headers = append(k.Headers, kgo.RecordHeader{Key: h.Key, Value: h.Value})
	}
	return k
}

func captureKcat(t *testing.T, addr string, codec record.Codec) bool {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "kcat", "-P", "-b", addr, "-t", fakeTopic, "-p", "0", "-K", "|", "-Z",
		"-H", "site=zrh", "-H", "qos=1", "-z", codec.String(), "-X", "enable.idempotence=true", "-X", "linger.ms=200")
	cmd.Stdin = strings.NewReader(strings.Repeat(kcatLines, kcatRepeat))
	return run(t, cmd)
}

func captureJava(t *testing.T, addr string, codec record.Codec) {
	t.Helper()
	run(t, exec.CommandContext(t.Context(), "java", "-cp", filepath.Join(*jars, "*"),
		filepath.Join(goldenDir, "Produce.java"), addr, fakeTopic, codec.String()))
}

// run reports whether the program is installed.
func run(t *testing.T, cmd *exec.Cmd) bool {
	t.Helper()
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Logf("%s is not installed", cmd.Path)
		return false
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd.Path, err, out)
	}
	return true
}

// collect returns copies of all records of b.
func collect(t testing.TB, b record.Batch) []record.Record {
	t.Helper()
	records := make([]record.Record, 0, b.Count())
	err := b.Each(1<<30, func(r *record.Record) error {
		c := *r
		c.Key, c.Value, c.Headers = bytes.Clone(r.Key), bytes.Clone(r.Value), slices.Clone(r.Headers)
		for i := range c.Headers {
			c.Headers[i].Value = bytes.Clone(c.Headers[i].Value)
		}
		records = append(records, c)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return records
}

// equal compares to the byte, and null with null only.
func equal(t testing.TB, got, want []record.Record) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d records, want %d", len(got), len(want))
	}
	for i := range got {
		g, w := &got[i], &want[i]
		same := g.Offset == w.Offset && g.Timestamp == w.Timestamp && equalBytes(g.Key, w.Key) &&
			equalBytes(g.Value, w.Value) && slices.EqualFunc(g.Headers, w.Headers, func(a, b record.Header) bool {
			return a.Key == b.Key && equalBytes(a.Value, b.Value)
		})
		if !same {
			t.Fatalf("record %d is\n%.300q, want\n%.300q", i, fmt.Sprint(*g), fmt.Sprint(*w))
		}
	}
}

func equalBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }
