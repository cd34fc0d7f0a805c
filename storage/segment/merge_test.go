package segment

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// listed is what a consumer sees of batches: a line per record, with the leader
// epoch of its batch.
func listed(t testing.TB, batches []record.Batch) []string {
	t.Helper()
	var lines []string
	for _, b := range batches {
		err := b.Each(1<<30, func(r *record.Record) error {
			lines = append(lines, fmt.Sprintf("%d %d %d %q %q %v", r.Offset, b.LeaderEpoch(), r.Timestamp, r.Key, r.Value, r.Headers))
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return lines
}

func bytesOf(batches []record.Batch) (size int) {
	for _, b := range batches {
		size += len(b)
	}
	return size
}

// checkMerge holds what is true of every Merge, and returns the base offsets
// afterwards.
func checkMerge(t *testing.T, batches []record.Batch) []int64 {
	t.Helper()
	before := slices.Concat(batches...)
	merged := Merge(batches)
	if !slices.Equal(before, slices.Concat(batches...)) {
		t.Error("Merge changed its input")
	}
	if got, want := listed(t, merged), listed(t, batches); !slices.Equal(got, want) {
		t.Errorf("records are\n%q, want\n%q", got, want)
	}
	if got, want := bytesOf(merged), bytesOf(batches); got > want {
		t.Errorf("%d bytes became %d", want, got)
	}
	var bases []int64
	for _, m := range merged {
		if err := m.Verify(); err != nil {
			t.Error(err)
		}
		alone := slices.IndexFunc(batches, func(b record.Batch) bool { return &b[0] == &m[0] })
		if joined := m.Count() > 0 && alone < 0; joined && !m.Dense() {
			t.Errorf("joined batch at %d has holes", m.BaseOffset())
		}
		bases = append(bases, m.BaseOffset())
	}
	return bases
}

func TestMerge(t *testing.T) {
	later := func(b record.Batch, epoch int32) record.Batch { b.SetLeaderEpoch(epoch); return b }
	stamped := readings(t, 2, 1)
	stamped.SetLogAppendTime(77)
	for _, c := range []struct {
		name    string
		batches []record.Batch
		want    []int64
	}{
		{"nothing", nil, nil},
		{"one", []record.Batch{readings(t, 5, 1)}, []int64{5}},
		{"neighbours", []record.Batch{readings(t, 5, 1), readings(t, 6, 10), readings(t, 16, 1)}, []int64{5}},
		{"from the first offset", []record.Batch{readings(t, 0, 1), readings(t, 1, 1)}, []int64{0}},
		{"a hole between", []record.Batch{readings(t, 5, 1), readings(t, 6, 1), readings(t, 8, 1), readings(t, 9, 1)}, []int64{5, 8}},
		{"a hole in one", []record.Batch{readings(t, 5, 2), readings(t, 7, 2), compacted(readings(t, 9, 2), 2, 2), readings(t, 12, 1), readings(t, 13, 1)}, []int64{5, 9, 12}},
		{"an empty one", []record.Batch{readings(t, 5, 2), readings(t, 7, 2), compacted(readings(t, 9, 1), 0, 0), readings(t, 10, 1), readings(t, 11, 1)}, []int64{5, 9, 10}},
		{"another owner", []record.Batch{readings(t, 5, 1), readings(t, 6, 1), later(readings(t, 7, 1), 4), later(readings(t, 8, 1), 4)}, []int64{5, 7}},
		{"no owner", []record.Batch{later(readings(t, 0, 1), -1), later(readings(t, 1, 1), -1)}, []int64{0}},
		{"a full one", []record.Batch{readings(t, 0, 2), readings(t, 2, 64), readings(t, 66, 1), readings(t, 67, 1)}, []int64{0, 2, 66}},
		{"time of append", []record.Batch{readings(t, 0, 1), readings(t, 1, 1), stamped, readings(t, 3, 1)}, []int64{0, 2, 3}},
		{"the last offset", []record.Batch{readings(t, math.MaxInt64-3, 1), readings(t, math.MaxInt64-2, 1)}, []int64{math.MaxInt64 - 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := checkMerge(t, c.batches); !slices.Equal(got, c.want) {
				t.Errorf("batches at %v, want %v", got, c.want)
			}
		})
	}
}

// TestMergeRandomly: whatever is merged, a consumer sees the same.
func TestMergeRandomly(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 3))
	for range 100 {
		var batches []record.Batch
		next, epoch := rng.Int64N(100), int32(0)
		for range rng.IntN(40) {
			next += rng.Int64N(2) * rng.Int64N(2) * rng.Int64N(4)
			epoch += int32(rng.IntN(20) / 19)
			records := make([]record.Record, 1+rng.IntN(70))
			for i := range records {
				records[i] = record.Record{Timestamp: rng.Int64N(1000), Value: fmt.Appendf(nil, "reading %d", next+int64(i))}
			}
			b := made(t, record.Codec(rng.IntN(5)), next, epoch, records...)
			if rng.IntN(10) == 0 {
				b = compacted(b, b.LastOffsetDelta()+3, b.Count())
			}
			batches, next = append(batches, b), b.NextOffset()
		}
		checkMerge(t, batches)
	}
}

// TestMergeThenBuild is the way of a trickle into a segment.
func TestMergeThenBuild(t *testing.T) {
	var batches []record.Batch
	for i := range int64(5000) {
		batches = append(batches, readings(t, i, 1))
	}
	merged := Merge(batches)
	object, pieces := assemble(t, BlockSize, part{topic: 1, next: 5000, batches: merged})
	if _, err := Open(object, 7, 5, 2); err != nil {
		t.Fatal(err)
	}
	_, got := read(t, object, pieces[0])
	if before, after := bytesOf(batches), len(object); len(got) > 2 || 2*after > before || pieces[0].Records != 5000 {
		t.Errorf("%d batches of %d bytes became %d in %d bytes", len(batches), before, len(got), after)
	}
}
