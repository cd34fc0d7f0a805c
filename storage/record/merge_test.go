package record_test

import (
	"errors"
	"math"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// goldenFew are the golden records without a large one: batches of them are small.
func goldenFew() []record.Record {
	records := goldenRecords()
	records[20].Value = records[20].Value[:1000]
	return records
}

func TestMerge(t *testing.T) {
	records := goldenFew()
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
		merged := record.MergeSmall(batches)
		if len(merged) != 1 {
			t.Fatalf("%d batches", len(merged))
		}
		m := merged[0]
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
			t.Error("MergeSmall changed its input")
		}
	}
}

func TestMergeable(t *testing.T) {
	readings := readings(64)
	one := build(t, record.None, readings[0])
	produced := record.NewBuilder(record.None)
	produced.SetProducer(1, 0, 0)
	if err := produced.Append(&readings[0]); err != nil {
		t.Fatal(err)
	}
	idempotent, err := produced.Build()
	if err != nil {
		t.Fatal(err)
	}
	stamped := slices.Clone(one)
	stamped.SetLogAppendTime(1)
	for _, c := range []struct {
		name  string
		batch record.Batch
		want  bool
	}{
		{"63 records", build(t, record.None, readings[:63]...), true},
		{"64 records", build(t, record.Zstd, readings...), false},
		{"16 KiB", build(t, record.None, record.Record{Value: make([]byte, 16<<10)}), false},
		{"less, compressed", build(t, record.LZ4, record.Record{Value: make([]byte, 16<<10)}), true},
		{"idempotent", idempotent, false},
		{"transactional", alter(one, atAttributes, int16(0x10)), false},
		{"control", alter(one, atAttributes, int16(0x20)), false},
		{"log append time", stamped, false},
		{"deleted later", alter(one, atAttributes, int16(0x40)), false},
		{"cut", one[:60], false},
		{"nil", nil, false},
	} {
		if got := record.Mergeable(c.batch); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// mergeAgain checks what MergeSmall promises whatever it is given, and returns
// how many records each batch has afterwards.
func mergeAgain(t *testing.T, batches []record.Batch) []int32 {
	t.Helper()
	before := slices.Concat(batches...)
	merged := record.MergeSmall(batches)
	if !slices.Equal(before, slices.Concat(batches...)) {
		t.Error("MergeSmall changed its input")
	}
	var counts []int32
	rest := batches
	for _, m := range merged {
		counts = append(counts, m.Count())
		if len(rest) > 0 && &m[0] == &rest[0][0] {
			rest = rest[1:]
			continue
		}
		if err := errors.Join(m.Verify(), m.VerifyRecords(1<<30)); err != nil {
			t.Fatal(err)
		}
		if m.BaseOffset() != 0 || m.LeaderEpoch() != -1 {
			t.Errorf("merged into offset %d, epoch %d, want 0, -1", m.BaseOffset(), m.LeaderEpoch())
		}
		var want []record.Record
		size := 0
		for len(want) < int(m.Count()) && len(rest) > 0 {
			want = append(want, collect(t, rest[0])...)
			size += len(rest[0])
			rest = rest[1:]
		}
		equal(t, collect(t, m), offsets(want))
		if len(m) > size {
			t.Errorf("%d bytes became %d", size, len(m))
		}
	}
	if len(rest) > 0 {
		t.Errorf("%d batches are gone", len(rest))
	}
	return counts
}

func TestMergeSmall(t *testing.T) {
	readings := readings(64)
	one := build(t, record.None, readings[0])
	full := build(t, record.None, readings...)
	produced := record.NewBuilder(record.None)
	produced.SetProducer(1, 0, 0)
	if err := produced.Append(&readings[0]); err != nil {
		t.Fatal(err)
	}
	bound, err := produced.Build()
	if err != nil {
		t.Fatal(err)
	}
	big := build(t, record.Zstd, record.Record{Value: make([]byte, 3<<20)})
	huge := build(t, record.Zstd, record.Record{Value: make([]byte, 5<<20)})
	plain := build(t, record.None, record.Record{Value: make([]byte, 1<<20)})
	late := build(t, record.None, record.Record{Timestamp: math.MaxInt64})
	early := build(t, record.None, record.Record{Timestamp: math.MinInt64})
	hole := alter(alter(build(t, record.None, readings[:2]...), atCount, int32(1)), atLastOffsetDelta, int32(1))
	noise := make([]record.Record, 63)
	for i := range noise {
		noise[i] = record.Record{Timestamp: int64(i) << 40} // deltas take more bytes than a header
	}
	far := build(t, record.None, noise...)
	soon := build(t, record.None, record.Record{})
	for _, c := range []struct {
		name    string
		batches []record.Batch
		want    []int32
	}{
		{"nothing", nil, nil},
		{"alone", []record.Batch{one}, []int32{1}},
		{"all", []record.Batch{one, one, one}, []int32{3}},
		{"around a full one", []record.Batch{one, one, full, one, one}, []int32{2, 64, 2}},
		{"around a producer's", []record.Batch{one, bound, one, one}, []int32{1, 1, 2}},
		{"around one that inflates too much", []record.Batch{one, one, huge, one, one, plain}, []int32{2, 1, 2, 1}},
		{"up to the inflated limit", []record.Batch{one, big, big, one, plain}, []int32{2, 2, 1}},
		{"times too far apart", []record.Batch{late, late, early, early}, []int32{2, 2}},
		{"around one with a hole", []record.Batch{one, one, hole, one, one, plain}, []int32{2, 1, 2, 1}},
		{"larger together", []record.Batch{soon, alter(far, atBaseTimestamp, int64(1)<<62)}, []int32{1, 63}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for i := range c.batches { // no two are the same memory
				c.batches[i] = slices.Clone(c.batches[i])
			}
			if got := mergeAgain(t, c.batches); !slices.Equal(got, c.want) {
				t.Errorf("records per batch %v, want %v", got, c.want)
			}
		})
	}
}

// TestMergeSmallFills: a merged batch takes up to 256 KiB of batches.
func TestMergeSmallFills(t *testing.T) {
	var batches []record.Batch
	for _, r := range readings(4000) {
		batches = append(batches, build(t, record.None, r))
	}
	counts := mergeAgain(t, batches)
	size := 0
	for _, b := range batches[:counts[0]+1] {
		size += len(b)
	}
	if last := len(batches[counts[0]]); size <= 256<<10 || size-last > 256<<10 || len(counts) < 3 {
		t.Errorf("records per batch %v, the first of %d bytes", counts, size-last)
	}
}

// TestMergeSmallWork: of a crowd of small batches that inflate without end only
// so many are looked into.
func TestMergeSmallWork(t *testing.T) {
	const inflated = 3 << 19
	bomb := build(t, record.Zstd, record.Record{Value: make([]byte, inflated)})
	batches := make([]record.Batch, 1000)
	for i := range batches {
		batches[i] = slices.Clone(bomb)
	}
	limit := 4<<20 + 32*len(bomb)*len(batches)
	joined := 0
	for _, n := range mergeAgain(t, batches) {
		if n > 1 {
			joined += int(n)
		}
	}
	if joined == 0 || joined*inflated > limit || limit > len(batches)*inflated/2 {
		t.Errorf("%d batches joined, which is %d bytes of records; the limit is %d", joined, joined*inflated, limit)
	}
}
