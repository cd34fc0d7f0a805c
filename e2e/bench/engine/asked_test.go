package engine

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/weirmq/weir/storage/commitlog"
)

// BenchmarkAsked: what a bucket is asked for each GB that is appended as fast as it goes,
// until what the log does in the background has come to rest.
func BenchmarkAsked(b *testing.B) {
	t := &table{title: "Asked of a bucket for each GB produced: records of 1 KB, 8 producers with 5 batches of 100 in flight",
		head: []string{"bucket", "GB/s", "PUT", "bytes / produced", "GET", "LIST", "DELETE", "slot KiB"}}
	for _, k := range kinds() {
		b.Run(k.name, func(b *testing.B) {
			empty := k.start(b)
			for b.Loop() {
				n := &counter{below: empty(b)}
				rate, produced := ask(b, n)
				asked := n.count()
				gb := float64(produced) / 1e9
				t.row(k.name, rate/1e9, float64(asked.Puts)/gb, float64(asked.PutBytes)/float64(produced), float64(asked.Gets)/gb, float64(asked.Lists)/gb,
					float64(asked.Deletes)/gb, float64(asked.SlotBytes)/float64(asked.Slots)/1024)
				b.ReportMetric(float64(asked.Puts)/gb, "PUT/GB")
				b.ReportMetric(float64(asked.PutBytes)/float64(produced), "written/produced")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
	fmt.Println(t)
}

// ask fills a log, and returns bytes per second and the bytes produced.
func ask(b *testing.B, n *counter) (rate float64, produced int64) {
	b.Helper()
	log, err := openLog(b.Context(), n)
	if err != nil {
		b.Fatal(err)
	}
	topic, err := log.CreateTopic(b.Context(), "asked", 8, nil)
	if err != nil {
		b.Fatal(err)
	}
	batch, err := noiseOf(100, 1000)
	if err != nil {
		b.Fatal(err)
	}
	l := load{producers: 8, records: 100, flight: 5}
	got := l.run(time.Minute, 1e9/int64(len(batch)), func(p int, done func(error)) {
		log.Append(commitlog.Append{Topic: topic.ID, Partition: int32(p), Batch: bytes.Clone(batch)}, func(_ int64, err error) { done(err) })
	}).must(b)
	if err := log.Maintain(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := log.Close(); err != nil {
		b.Fatal(err)
	}
	produced = got.batches * int64(len(batch))
	return float64(produced) / got.took.Seconds(), produced
}
