package record_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/record"
)

// built returns the golden records as two batches of ours.
func built(t testing.TB, codec record.Codec) []record.Batch {
	t.Helper()
	records := goldenRecords()
	return []record.Batch{build(t, codec, records[:15]...), build(t, codec, records[15:]...)}
}

func build(t testing.TB, codec record.Codec, records ...record.Record) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	for i := range records {
		if err := b.Append(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return batch
}

// TestKmsgReads: the header fields and the plain records, as another
// implementation sees them.
func TestKmsgReads(t *testing.T) {
	records := goldenRecords()
	b := build(t, record.None, records...)
	b.SetBaseOffset(77)
	b.SetLeaderEpoch(5)
	var k kmsg.RecordBatch
	if err := k.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(k.FirstOffset, k.Length, k.PartitionLeaderEpoch, k.Magic, k.Attributes, k.LastOffsetDelta,
		k.FirstTimestamp, k.MaxTimestamp, k.ProducerID, k.ProducerEpoch, k.FirstSequence, k.NumRecords)
	want := fmt.Sprint(77, len(b)-12, 5, 2, 0, 39, b.BaseTimestamp(), b.MaxTimestamp(), -1, -1, -1, 40)
	if got != want {
		t.Errorf("kmsg reads the header as\n%s, want\n%s", got, want)
	}
	rest := k.Records
	for i := range records {
		var r kmsg.Record
		if err := r.ReadFrom(rest); err != nil {
			t.Fatalf("record %d: %v", i, err)
		}
		if int(r.OffsetDelta) != i || k.FirstTimestamp+r.TimestampDelta64 != records[i].Timestamp ||
			!equalBytes(r.Key, records[i].Key) || !equalBytes(r.Value, records[i].Value) || len(r.Headers) != len(records[i].Headers) {
			t.Fatalf("kmsg reads record %d as %+v", i, r)
		}
		if again := r.AppendTo(nil); string(again) != string(rest[:len(again)]) {
			t.Fatalf("kmsg writes record %d differently", i)
		}
		rest = rest[len(r.AppendTo(nil)):]
	}
	if len(rest) > 0 {
		t.Errorf("%d bytes left", len(rest))
	}
}

// TestKgoReads: a consumer decompresses what we built and merged.
func TestKgoReads(t *testing.T) {
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			batches, few := built(t, codec), goldenFew()
			merged := record.MergeSmall([]record.Batch{build(t, codec, few[:15]...), build(t, codec, few[15:]...)})
			if len(merged) != 1 {
				t.Fatalf("%d batches", len(merged))
			}
			broker := newFakeBroker(t)
			broker.serve(batches[0], batches[1], merged[0])
			want := offsets(append(goldenRecords(), few...))
			equal(t, consume(t, broker.addr(), len(want)), want)
		})
	}
}

func offsets(records []record.Record) []record.Record {
	for i := range records {
		records[i].Offset = int64(i)
	}
	return records
}

func consume(t *testing.T, addr string, count int) []record.Record {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	client, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{
		fakeTopic: {0: kgo.NewOffset().At(0)}}))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	var records []record.Record
	for len(records) < count {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d records: %v", len(records), err)
		}
		fetches.EachRecord(func(k *kgo.Record) {
			r := record.Record{Offset: k.Offset, Timestamp: k.Timestamp.UnixMilli(), Key: k.Key, Value: k.Value}
			for _, h := range k.Headers {
				r.Headers = append(r.Headers, record.Header{Key: h.Key, Value: h.Value})
			}
			records = append(records, r)
		})
	}
	return records
}

// TestKcatReads: the same for librdkafka, which brings its own decompressors.
func TestKcatReads(t *testing.T) {
	if _, err := exec.LookPath("kcat"); err != nil {
		if os.Getenv("WEIR_REQUIRE_SERVICES") != "" {
			t.Fatal("kcat is not installed: apt-get install kcat")
		}
		t.Skip("SKIPPED: kcat is not installed: whether librdkafka reads our batches stays untested")
	}
	for _, codec := range codecs {
		t.Run(codec.String(), func(t *testing.T) {
			broker := newFakeBroker(t)
			broker.serve(built(t, codec)...)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			cmd := exec.CommandContext(ctx, "kcat", "-C", "-b", broker.addr(), "-t", fakeTopic, "-p", "0",
				"-o", "beginning", "-e", "-q", "-X", "check.crcs=true", "-f", "%o %T %K %S %k\n")
			var stderr strings.Builder
			cmd.Stderr = &stderr
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("kcat: %v\n%s", err, stderr.String())
			}
			var want strings.Builder
			for _, r := range goldenRecords() {
				fmt.Fprintf(&want, "%d %d %d %d %s\n", r.Offset, r.Timestamp, kcatSize(r.Key), kcatSize(r.Value), r.Key)
			}
			if string(out) != want.String() {
				t.Errorf("kcat reads\n%s, want\n%s", out, want.String())
			}
		})
	}
}

// kcatSize is how kcat prints a length: null is -1.
func kcatSize(p []byte) int {
	if p == nil {
		return -1
	}
	return len(p)
}
