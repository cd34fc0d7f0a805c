package record_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// Offsets of header fields, from the format's description and not from the
// package.
const (
	atLength          = 8
	atMagic           = 16
	atCRC             = 17
	atAttributes      = 21
	atLastOffsetDelta = 23
	atBaseTimestamp   = 27
	atMaxTimestamp    = 35
	atBaseSequence    = 53
	atCount           = 57
)

func small(t testing.TB) record.Batch {
	return build(t, record.None, goldenRecords()[:5]...)
}

// alter returns a copy of b with a field overwritten and length and CRC made
// right again, as a hostile producer would.
func alter(b record.Batch, at int, field any) record.Batch {
	b = slices.Clone(b)
	if _, err := binary.Encode(b[at:], binary.BigEndian, field); err != nil {
		panic(err)
	}
	return sealed(b)
}

func sealed(b record.Batch) record.Batch {
	binary.BigEndian.PutUint32(b[atCRC:], crc.Sum(b[atAttributes:]))
	return b
}

func TestNext(t *testing.T) {
	b := small(t)
	two := slices.Concat(b, b)
	first, rest, err := record.Next(two)
	if err != nil || len(first) != len(b) || len(rest) != len(b) || &first[0] != &two[0] {
		t.Fatalf("Next gives %d and %d bytes of %d, %v", len(first), len(rest), len(two), err)
	}
	if _ = append(first, 1); two[len(b)] != b[0] {
		t.Error("appending to a batch writes into the next")
	}
	for n := range b {
		if _, rest, err := record.Next(b[:n]); !errors.Is(err, record.ErrShort) || len(rest) != n {
			t.Fatalf("first %d bytes: %v, want ErrShort", n, err)
		}
	}
	for _, c := range []struct {
		at    int
		field any
		want  error
	}{
		{atLength, int32(-1), record.ErrCorrupt},
		{atLength, int32(math.MinInt32), record.ErrCorrupt},
		{atLength, int32(0), record.ErrCorrupt},
		{atLength, int32(48), record.ErrCorrupt},
		{atLength, int32(math.MaxInt32), record.ErrShort},
		{atMagic, int8(0), record.ErrMagic},
		{atMagic, int8(1), record.ErrMagic},
		{atMagic, int8(3), record.ErrMagic},
	} {
		p := alter(b, c.at, c.field)
		if _, _, err := record.Next(p); !errors.Is(err, c.want) {
			t.Errorf("%d at %d: %v, want %v", c.field, c.at, err, c.want)
		}
		if err := p.Verify(); !errors.Is(err, c.want) {
			t.Errorf("%d at %d: Verify says %v, want %v", c.field, c.at, err, c.want)
		}
	}
}

// TestVerifyBits flips every bit: those under the CRC are noticed, those of
// base offset and leader epoch are not, and nothing panics.
func TestVerifyBits(t *testing.T) {
	b := small(t)
	for i := range b {
		for bit := range 8 {
			c := slices.Clone(b)
			c[i] ^= 1 << bit
			outside := i < atLength || i >= 12 && i < atMagic
			if err := c.Verify(); (err == nil) != outside {
				t.Fatalf("byte %d bit %d: %v", i, bit, err)
			}
			_ = c.Each(1<<20, func(*record.Record) error { return nil })
			_ = c.VerifyRecords(1 << 20)
		}
	}
}

func TestVerifyHeader(t *testing.T) {
	b := small(t)
	for _, c := range []struct {
		name  string
		batch record.Batch
		want  error
	}{
		{"sound", b, nil},
		{"holes left by compaction", alter(b, atLastOffsetDelta, int32(100)), nil},
		{"emptied by compaction", sealed(alter(alter(b, atCount, int32(0)), atLength, int32(49))[:61]), nil},
		{"unknown codec", alter(b, atAttributes, int16(5)), record.ErrCorrupt},
		{"negative count", alter(b, atCount, int32(-1)), record.ErrCorrupt},
		{"more records than offsets", alter(b, atLastOffsetDelta, int32(3)), record.ErrCorrupt},
		{"negative delta", alter(b, atLastOffsetDelta, int32(-1)), record.ErrCorrupt},
		{"absurd count", alter(alter(b, atCount, int32(math.MaxInt32)), atLastOffsetDelta, int32(math.MaxInt32)), record.ErrCorrupt},
		{"bytes behind it", append(slices.Clone(b), 0), record.ErrCorrupt},
		{"nil", nil, record.ErrShort},
	} {
		if err := c.batch.Verify(); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestPlace(t *testing.T) {
	b := small(t)
	b.SetBaseOffset(math.MaxInt32 + 10)
	b.SetLeaderEpoch(9)
	if err := b.Verify(); err != nil {
		t.Fatalf("placing a batch breaks it: %v", err)
	}
	if b.BaseOffset() != math.MaxInt32+10 || b.LeaderEpoch() != 9 || b.NextOffset() != math.MaxInt32+15 {
		t.Errorf("offsets %d to %d, epoch %d", b.BaseOffset(), b.NextOffset(), b.LeaderEpoch())
	}
	if got := collect(t, b)[4].Offset; got != math.MaxInt32+14 {
		t.Errorf("last record has offset %d", got)
	}
}

func TestLastSequence(t *testing.T) {
	for _, c := range []struct{ base, want int32 }{
		{-1, -1}, {0, 4}, {math.MaxInt32 - 4, math.MaxInt32}, {math.MaxInt32 - 3, 0}, {math.MaxInt32, 3},
	} {
		if got := alter(small(t), atBaseSequence, c.base).LastSequence(); got != c.want {
			t.Errorf("5 records from %d: last is %d, want %d", c.base, got, c.want)
		}
	}
}

func TestSetLogAppendTime(t *testing.T) {
	b := small(t)
	b.SetLogAppendTime(12345)
	if err := b.Verify(); err != nil {
		t.Fatal(err)
	}
	if !b.LogAppendTime() || b.MaxTimestamp() != 12345 || record.Mergeable(b) {
		t.Errorf("log append time %v, at %d, mergeable %v", b.LogAppendTime(), b.MaxTimestamp(), record.Mergeable(b))
	}
	for _, r := range collect(t, b) {
		if r.Timestamp != 12345 {
			t.Errorf("record has time %d", r.Timestamp)
		}
	}
	if err := b.Admit(1 << 20); err != nil || b.MaxTimestamp() != 12345 {
		t.Errorf("Admit: %v, time is now %d", err, b.MaxTimestamp())
	}
}

func TestFlags(t *testing.T) {
	b := alter(small(t), atAttributes, int16(0x30))
	if !b.Transactional() || !b.Control() || b.LogAppendTime() || b.Codec() != record.None {
		t.Errorf("attributes read as %v %v %v %v", b.Transactional(), b.Control(), b.LogAppendTime(), b.Codec())
	}
}

func ExampleNext() {
	b := record.NewBuilder(record.Zstd)
	for _, temperature := range []string{"21.5", "21.6"} {
		if err := b.Append(&record.Record{Timestamp: 1, Key: []byte("sensors/1"), Value: []byte(temperature)}); err != nil {
			panic(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		panic(err)
	}
	batch.SetBaseOffset(100)
	for p := []byte(batch); len(p) > 0; {
		if batch, p, err = record.Next(p); err != nil {
			panic(err)
		}
		if err = batch.Verify(); err != nil {
			panic(err)
		}
		err = batch.Each(1<<20, func(r *record.Record) error {
			fmt.Printf("%d %s = %s\n", r.Offset, r.Key, r.Value)
			return nil
		})
		if err != nil {
			panic(err)
		}
	}
	// Output:
	// 100 sensors/1 = 21.5
	// 101 sensors/1 = 21.6
}
