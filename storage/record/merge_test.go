package record_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

func TestMerge(t *testing.T) {
	records := goldenRecords()
	for _, codec := range codecs {
		batches := []record.Batch{
			build(t, record.None, records[:1]...),
			build(t, codec, records[1:25]...),
			build(t, record.Gzip, records[25:39]...),
			build(t, record.Zstd, records[39:]...),
		}
		for i := range batches {
			batches[i].SetBaseOffset(int64(1000 * i))
			batches[i].SetLeaderEpoch(int32(i))
		}
		before := slices.Concat(batches...)
		m, err := record.Merge(batches, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(m.Verify(), m.VerifyRecords(1<<20)); err != nil {
			t.Fatal(err)
		}
		equal(t, collect(t, m), records)
		want := codec
		if codec == record.None {
			want = record.Gzip
		}
		if m.Codec() != want || m.BaseOffset() != 0 || m.LeaderEpoch() != -1 {
			t.Errorf("merged into codec %v at %d, epoch %d, want %v at 0, -1", m.Codec(), m.BaseOffset(), m.LeaderEpoch(), want)
		}
		if !slices.Equal(before, slices.Concat(batches...)) {
			t.Error("Merge changed its input")
		}
	}
}

func TestMergeEdges(t *testing.T) {
	b := small(t)
	one, err := record.Merge([]record.Batch{b}, 0)
	if err != nil || !slices.Equal(one, b) {
		t.Errorf("one batch is merged into another, %v", err)
	}
	idempotent := record.NewBuilder(record.None)
	idempotent.SetProducer(1, 0, 0)
	if err := idempotent.Append(&record.Record{}); err != nil {
		t.Fatal(err)
	}
	ours, err := idempotent.Build()
	if err != nil {
		t.Fatal(err)
	}
	stamped := slices.Clone(b)
	stamped.SetLogAppendTime(1)
	size := len(b) - record.HeaderSize
	for _, c := range []struct {
		name    string
		batches []record.Batch
		limit   int
		want    error
	}{
		{"nothing", nil, 1 << 20, record.ErrEmpty},
		{"idempotent", []record.Batch{b, ours}, 1 << 20, record.ErrNotMergeable},
		{"transactional", []record.Batch{b, alter(b, atAttributes, int16(0x10))}, 1 << 20, record.ErrNotMergeable},
		{"control", []record.Batch{b, alter(b, atAttributes, int16(0x20))}, 1 << 20, record.ErrNotMergeable},
		{"log append time", []record.Batch{b, stamped}, 1 << 20, record.ErrNotMergeable},
		{"at the cap", []record.Batch{b, b, b}, 3*size + 64, nil},
		{"over the cap", []record.Batch{b, b, b}, 3*size - 64, record.ErrTooLarge},
		{"no cap left", []record.Batch{b, b, b}, size, record.ErrTooLarge},
		{"cut", []record.Batch{b, b[:70]}, 1 << 20, record.ErrShort},
		{"nil", []record.Batch{b, nil}, 1 << 20, record.ErrShort},
		{"times too far apart", []record.Batch{
			build(t, record.None, record.Record{Timestamp: math.MinInt64}),
			build(t, record.None, record.Record{Timestamp: 0})}, 1 << 20, record.ErrTooLarge},
	} {
		if _, err := record.Merge(c.batches, c.limit); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestMergeable(t *testing.T) {
	readings := readings(64)
	for _, c := range []struct {
		name  string
		batch record.Batch
		want  bool
	}{
		{"63 records", build(t, record.None, readings[:63]...), true},
		{"64 records", build(t, record.Zstd, readings...), false},
		{"16 KiB", build(t, record.None, record.Record{Value: make([]byte, 16<<10)}), false},
		{"less, compressed", build(t, record.LZ4, record.Record{Value: make([]byte, 16<<10)}), true},
		{"nil", nil, false},
	} {
		if got := record.Mergeable(c.batch); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}
