package record_test

import (
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// raw is a batch around records that the test wrote by hand.
func raw(t testing.TB, count, lastOffsetDelta int32, records ...byte) record.Batch {
	t.Helper()
	b := append(small(t)[:record.HeaderSize:record.HeaderSize], records...)
	binary.BigEndian.PutUint32(b[atLength:], uint32(len(b)-12))
	return alter(alter(b, atCount, count), atLastOffsetDelta, lastOffsetDelta)
}

// plain is a record with null key and value; offset deltas are zigzag, so one
// byte holds up to 63.
func plain(offsetDelta byte) []byte {
	return []byte{6 << 1, 0, 0, offsetDelta << 1, 1, 1, 0}
}

func TestEachHoles(t *testing.T) {
	b := raw(t, 3, 60, slices.Concat(plain(2), plain(5), plain(59))...)
	b.SetBaseOffset(1000)
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	var got []int64
	for _, r := range collect(t, b) {
		got = append(got, r.Offset)
	}
	if !slices.Equal(got, []int64{1002, 1005, 1059}) || b.NextOffset() != 1061 {
		t.Errorf("offsets %v, next %d", got, b.NextOffset())
	}
	if err := b.VerifyRecords(1 << 20); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("VerifyRecords of a batch with holes: %v", err)
	}
	if collect(t, raw(t, 0, 7)) == nil {
		t.Error("a batch emptied by compaction is not readable")
	}
}

// TestHostileRecords: each of them is under a sound CRC.
func TestHostileRecords(t *testing.T) {
	tooMany := binary.AppendUvarint(nil, 2*(record.MaxHeaders+1))
	body := slices.Concat([]byte{0, 0, 0, 1, 1}, tooMany, make([]byte, 2*record.MaxHeaders+2))
	crowd := append(binary.AppendUvarint(nil, uint64(2*len(body))), body...)
	for _, c := range []struct {
		name  string
		batch record.Batch
	}{
		{"no record", raw(t, 0, 0)},
		{"offsets not from 0", raw(t, 1, 0, plain(1)...)},
		{"offset twice", raw(t, 2, 1, slices.Concat(plain(0), plain(0))...)},
		{"offsets backwards", raw(t, 2, 1, slices.Concat(plain(1), plain(0))...)},
		{"negative offset", raw(t, 1, 0, 6<<1, 0, 0, 1, 1, 1, 0)},
		{"offset beyond the last", raw(t, 2, 1, slices.Concat(plain(0), plain(2))...)},
		{"fewer records than counted", raw(t, 2, 1, append(plain(0), 0, 0, 0, 0, 0, 0, 0)...)},
		{"more records than counted", raw(t, 1, 0, slices.Concat(plain(0), plain(1))...)},
		{"bytes behind the last", raw(t, 1, 0, append(plain(0), 0)...)},
		{"record longer than the batch", raw(t, 1, 0, 7<<1, 0, 0, 0, 1, 1, 0)},
		{"record of negative length", raw(t, 1, 0, 1, 0, 0, 0, 1, 1, 0)},
		{"bytes behind the headers", raw(t, 1, 0, 7<<1, 0, 0, 0, 1, 1, 0, 0)},
		{"length of six bytes", raw(t, 1, 0, 0x8c, 0x80, 0x80, 0x80, 0x80, 0, 0, 0, 0, 1, 1, 0)},
		{"length over 32 bits", raw(t, 1, 0, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 1, 1, 0)},
		{"key longer than the record", raw(t, 1, 0, 6<<1, 0, 0, 0, 4, 1, 0)},
		{"key of length -2", raw(t, 1, 0, 6<<1, 0, 0, 0, 3, 1, 0)},
		{"value longer than the record", raw(t, 1, 0, 6<<1, 0, 0, 0, 1, 2, 0)},
		{"no header count", raw(t, 1, 0, 6<<1, 0, 0, 0, 1, 2, 0)},
		{"negative header count", raw(t, 1, 0, 6<<1, 0, 0, 0, 1, 1, 1)},
		{"headers that are not there", raw(t, 1, 0, 6<<1, 0, 0, 0, 1, 1, 2)},
		{"header with null key", raw(t, 1, 0, 8<<1, 0, 0, 0, 1, 1, 2, 1, 1)},
		{"header cut", raw(t, 1, 0, 8<<1, 0, 0, 0, 1, 1, 2, 2, 'k')},
		{"too many headers", raw(t, 1, 0, crowd...)},
		{"timestamp overflows", alter(raw(t, 1, 0, 6<<1, 0, 2, 0, 1, 1, 0), atBaseTimestamp, int64(math.MaxInt64))},
		{"timestamp underflows", alter(raw(t, 1, 0, 6<<1, 0, 1, 0, 1, 1, 0), atBaseTimestamp, int64(math.MinInt64))},
	} {
		if err := c.batch.Verify(); err != nil {
			t.Errorf("%s: Verify: %v", c.name, err)
		}
		if err := c.batch.VerifyRecords(1 << 20); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: VerifyRecords: %v, want ErrCorrupt", c.name, err)
		}
		if merged := record.MergeSmall([]record.Batch{c.batch, c.batch}); len(merged) != 2 {
			t.Errorf("%s: MergeSmall: %d batches", c.name, len(merged))
		}
		// Compaction makes holes and removes records; it makes none of the other errors.
		if c.name == "no record" || c.name == "offsets not from 0" && c.batch.LastOffsetDelta() > 0 {
			continue
		}
		if err := c.batch.Each(1<<20, func(*record.Record) error { return nil }); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("%s: Each: %v, want ErrCorrupt", c.name, err)
		}
	}
}

func TestEachStops(t *testing.T) {
	calls := 0
	err := small(t).Each(1<<20, func(*record.Record) error {
		calls++
		return io.ErrClosedPipe
	})
	if err != io.ErrClosedPipe || calls != 1 {
		t.Errorf("%d calls, %v", calls, err)
	}
}

// TestEachNested: the record of the outer walk survives an inner one.
func TestEachNested(t *testing.T) {
	b := build(t, record.Zstd, goldenRecords()[:30]...)
	i := 0
	err := b.Each(1<<20, func(r *record.Record) error {
		equal(t, collect(t, b), goldenRecords()[:30])
		equal(t, []record.Record{*r}, goldenRecords()[i:i+1])
		i++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestCap(t *testing.T) {
	for _, codec := range codecs {
		b := build(t, codec, goldenRecords()...)
		size := len(build(t, record.None, goldenRecords()...)) - record.HeaderSize
		if err := b.VerifyRecords(size); err != nil {
			t.Errorf("%v: at the cap: %v", codec, err)
		}
		for _, limit := range []int{size - 1, 1000, 1, 0, -1, math.MinInt} {
			if err := b.VerifyRecords(limit); !errors.Is(err, record.ErrTooLarge) {
				t.Errorf("%v: %d bytes with cap %d: %v, want ErrTooLarge", codec, size, limit, err)
			}
		}
		if err := b.VerifyRecords(math.MaxInt); err != nil {
			t.Errorf("%v: without a cap: %v", codec, err)
		}
	}
}

// TestBomb: a small batch that inflates to a large one is refused without much memory.
func TestBomb(t *testing.T) {
	const limit = 1 << 20
	value := make([]byte, 32<<20)
	for _, codec := range codecs[1:] {
		b := build(t, codec, record.Record{Value: value})
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		err := b.Each(limit, func(*record.Record) error { return nil })
		runtime.ReadMemStats(&after)
		if !errors.Is(err, record.ErrTooLarge) {
			t.Errorf("%v: %d bytes: %v, want ErrTooLarge", codec, len(b), err)
		}
		// Growing, the tables of the decompressors, and what -race adds; 32 MiB it is not.
		if used := after.TotalAlloc - before.TotalAlloc; used > 8*limit {
			t.Errorf("%v: %d bytes allocated under a cap of %d", codec, used, limit)
		}
	}
}

func TestAdmit(t *testing.T) {
	for _, codec := range codecs {
		sound := build(t, codec, goldenRecords()...)
		for _, wrong := range []int64{0, -1, sound.MaxTimestamp() + 1, math.MaxInt64} {
			b := alter(sound, atMaxTimestamp, wrong)
			if err := b.VerifyRecords(1 << 20); err != nil || b.MaxTimestamp() != wrong {
				t.Errorf("%v: VerifyRecords: %v, max timestamp now %d", codec, err, b.MaxTimestamp())
			}
			if err := b.Admit(1 << 20); err != nil || !slices.Equal(b, sound) {
				t.Errorf("%v: Admit: %v, max timestamp now %d, want %d", codec, err, b.MaxTimestamp(), sound.MaxTimestamp())
			}
		}
	}
	if err := raw(t, 1, 0, plain(1)...).Admit(1 << 20); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("Admit of a corrupt batch: %v", err)
	}
}

// TestAllocs: nothing is allocated per record, whatever the headers.
func TestAllocs(t *testing.T) {
	b := build(t, record.None, readings(1000)...)
	allocs := testing.AllocsPerRun(20, func() {
		if err := b.Each(1<<20, func(*record.Record) error { return nil }); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 100 { // with -race, pools forget at random
		t.Errorf("Each allocates %v times for 1000 records", allocs)
	}
}
