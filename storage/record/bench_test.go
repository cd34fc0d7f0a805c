package record_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// readings are what a gateway sends: sensor JSON of some 150 bytes.
func readings(n int) []record.Record {
	rng := rand.New(rand.NewPCG(1, 2))
	records := make([]record.Record, n)
	for i := range records {
		records[i] = record.Record{
			Timestamp: 1_700_000_000_000 + int64(i)*3,
			Key:       fmt.Appendf(nil, "sensors/device-%02d/telemetry", i%50),
			Value: fmt.Appendf(nil, `{"device":"device-%02d","n":%d,"temperature":%.2f,"humidity":%.1f,"battery":%.3f,"status":"ok","location":"hall-%d"}`,
				i%50, i, 20+5*rng.Float64(), 40+30*rng.Float64(), 3+rng.Float64(), i%4),
			Headers: []record.Header{{Key: "mqtt.qos", Value: []byte("1")}, {Key: "mqtt.client", Value: fmt.Appendf(nil, "device-%02d", i%50)}},
		}
	}
	return records
}

const benchCount = 1024

// plainSize is what the records take without compression: throughput is
// counted in it, whatever the codec.
func plainSize(b *testing.B) int64 {
	return int64(len(build(b, record.None, readings(benchCount)...)))
}

func BenchmarkVerify(b *testing.B) {
	batch := build(b, record.None, readings(benchCount)...)
	b.SetBytes(int64(len(batch)))
	for b.Loop() {
		if err := batch.Verify(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEach(b *testing.B) {
	perCodec(b, func(b *testing.B, batch record.Batch) {
		for b.Loop() {
			if err := batch.Each(1<<20, func(*record.Record) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkVerifyRecords(b *testing.B) {
	perCodec(b, func(b *testing.B, batch record.Batch) {
		for b.Loop() {
			if err := batch.VerifyRecords(1 << 20); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func BenchmarkBuild(b *testing.B) {
	records := readings(benchCount)
	perCodec(b, func(b *testing.B, batch record.Batch) {
		builder := record.NewBuilder(batch.Codec())
		for b.Loop() {
			for i := range records {
				if err := builder.Append(&records[i]); err != nil {
					b.Fatal(err)
				}
			}
			if _, err := builder.Build(); err != nil {
				b.Fatal(err)
			}
			builder.Reset()
		}
		b.ReportMetric(float64(len(batch))/benchCount, "B/record")
	})
}

// BenchmarkMerge: 64 gateways with 16 readings each.
func BenchmarkMerge(b *testing.B) {
	records := readings(benchCount)
	perCodec(b, func(b *testing.B, batch record.Batch) {
		var batches []record.Batch
		for at := 0; at < len(records); at += 16 {
			batches = append(batches, build(b, batch.Codec(), records[at:at+16]...))
		}
		for b.Loop() {
			if merged := record.MergeSmall(batches); len(merged) != 1 {
				b.Fatal(len(merged))
			}
		}
	})
}

func perCodec(b *testing.B, run func(*testing.B, record.Batch)) {
	for _, codec := range codecs {
		b.Run(codec.String(), func(b *testing.B) {
			batch := build(b, codec, readings(benchCount)...)
			b.SetBytes(plainSize(b))
			b.ReportAllocs()
			run(b, batch)
		})
	}
}
