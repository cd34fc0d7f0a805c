package kafka

import (
	"context"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// Client and node share the machine, and the bucket is memory: what is measured is
// the door, the log and franz-go.

const benchRecord = 1000 // bytes

func BenchmarkProduce(b *testing.B) {
	d := open(b, setup{})
	d.topic(b, "b", 4)
	cl := d.client(b, kgo.DefaultProduceTopic("b"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := make([]byte, benchRecord)
	b.SetBytes(benchRecord)
	b.ReportAllocs()
	for b.Loop() {
		cl.Produce(context.Background(), &kgo.Record{Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				b.Error(err)
			}
		})
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
}

func BenchmarkFetch(b *testing.B) {
	const n = 50_000
	d := open(b, setup{})
	d.topic(b, "b", 4)
	cl := d.client(b, kgo.DefaultProduceTopic("b"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	value := make([]byte, benchRecord)
	for range n {
		cl.Produce(context.Background(), &kgo.Record{Value: value}, nil)
	}
	if err := cl.Flush(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(benchRecord * n)
	for b.Loop() {
		cl, err := kgo.NewClient(kgo.SeedBrokers(d.addr), kgo.ConsumeTopics("b"))
		if err != nil {
			b.Fatal(err)
		}
		for got := 0; got < n; {
			f := cl.PollFetches(context.Background())
			if err := f.Err(); err != nil {
				b.Fatal(err)
			}
			got += f.NumRecords()
		}
		cl.Close()
	}
}
