package record_test

import (
	"bytes"
	"errors"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

func TestBuild(t *testing.T) {
	for _, codec := range codecs {
		b := build(t, codec, goldenRecords()...)
		if err := errors.Join(b.Verify(), b.VerifyRecords(1<<20)); err != nil {
			t.Fatalf("%v: %v", codec, err)
		}
		equal(t, collect(t, b), goldenRecords())
		if b.Codec() != codec || b.BaseOffset() != 0 || b.LeaderEpoch() != -1 || b.ProducerID() != -1 ||
			b.ProducerEpoch() != -1 || b.BaseSequence() != -1 || b.LastSequence() != -1 {
			t.Errorf("%v: header % x", codec, b[:record.HeaderSize])
		}
		if b.BaseTimestamp() != 1_700_000_000_000 || b.MaxTimestamp() != 1_700_000_000_000+38*7 {
			t.Errorf("%v: times %d to %d", codec, b.BaseTimestamp(), b.MaxTimestamp())
		}
	}
}

func TestBuilderReset(t *testing.T) {
	b := record.NewBuilder(record.LZ4)
	if _, err := b.Build(); !errors.Is(err, record.ErrEmpty) || b.Size() != record.HeaderSize || b.Len() != 0 {
		t.Errorf("empty builder: %v, size %d, len %d", err, b.Size(), b.Len())
	}
	b.SetProducer(7, 2, 99)
	r := record.Record{Timestamp: 5, Value: bytes.Repeat([]byte("x"), 1000)}
	if err := b.Append(&r); err != nil {
		t.Fatal(err)
	}
	first, err := b.Build()
	if err != nil || first.ProducerID() != 7 || first.ProducerEpoch() != 2 || first.BaseSequence() != 99 || record.Mergeable(first) {
		t.Fatalf("producer %d, epoch %d, sequence %d, %v", first.ProducerID(), first.ProducerEpoch(), first.BaseSequence(), err)
	}
	b.Reset()
	r.Timestamp = 3
	if err := b.Append(&r); err != nil {
		t.Fatal(err)
	}
	second, err := b.Build()
	if err != nil || second.ProducerID() != -1 || second.BaseTimestamp() != 3 || second.Count() != 1 || second.Codec() != record.LZ4 {
		t.Errorf("after Reset: producer %d, time %d, count %d, codec %v, %v",
			second.ProducerID(), second.BaseTimestamp(), second.Count(), second.Codec(), err)
	}
	if err := first.Verify(); err != nil {
		t.Errorf("the first batch changed: %v", err)
	}
}

func TestBuilderSize(t *testing.T) {
	b := record.NewBuilder(record.None)
	for i, r := range goldenRecords() {
		if err := b.Append(&r); err != nil {
			t.Fatal(err)
		}
		batch, err := b.Build()
		if err != nil || len(batch) != b.Size() || b.Len() != i+1 {
			t.Fatalf("batch of %d bytes, Size %d, Len %d after %d, %v", len(batch), b.Size(), b.Len(), i+1, err)
		}
	}
}

// TestIncompressible: noise stays plain, so that it does not grow.
func TestIncompressible(t *testing.T) {
	noise := make([]byte, 200_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise {
		noise[i] = byte(rng.Uint32())
	}
	for _, codec := range codecs {
		b := build(t, codec, record.Record{Value: noise})
		if b.Codec() != record.None || b.VerifyRecords(1<<20) != nil {
			t.Errorf("%v: noise is stored as %v", codec, b.Codec())
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	b := record.NewBuilder(record.None)
	add := func(r record.Record, want error) {
		t.Helper()
		before, size := b.Len(), b.Size()
		if err := b.Append(&r); !errors.Is(err, want) {
			t.Errorf("Append: %v, want %v", err, want)
		} else if err != nil && (b.Len() != before || b.Size() != size) {
			t.Errorf("a refused record is in the batch")
		}
	}
	add(record.Record{Headers: make([]record.Header, record.MaxHeaders+1)}, record.ErrTooLarge)
	add(record.Record{Timestamp: -2}, nil)
	add(record.Record{Timestamp: math.MaxInt64}, record.ErrTooLarge)
	add(record.Record{Timestamp: math.MaxInt64 - 2}, nil)
	add(record.Record{Timestamp: math.MinInt64}, nil)
	add(record.Record{Headers: make([]record.Header, record.MaxHeaders)}, nil)
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := batch.VerifyRecords(1 << 20); err != nil {
		t.Fatal(err)
	}
	got := collect(t, batch)
	if got[1].Timestamp != math.MaxInt64-2 || got[2].Timestamp != math.MinInt64 || len(got[3].Headers) != record.MaxHeaders {
		t.Errorf("extremes read as %d, %d, %d headers", got[1].Timestamp, got[2].Timestamp, len(got[3].Headers))
	}
}

// TestTake: what Take returns is what Build would, and the builder does not write to it
// any more.
func TestTake(t *testing.T) {
	for _, codec := range codecs {
		b, other := record.NewBuilder(codec), record.NewBuilder(codec)
		b.Grow(10_000)
		if _, err := b.Take(); !errors.Is(err, record.ErrEmpty) {
			t.Fatal(err)
		}
		for _, r := range readings(40) {
			if err := errors.Join(b.Append(&r), other.Append(&r)); err != nil {
				t.Fatal(err)
			}
		}
		want, err := other.Build()
		if err != nil {
			t.Fatal(err)
		}
		got, err := b.Take()
		if err != nil || b.Len() != 0 {
			t.Fatalf("%v; %d records are left", err, b.Len())
		}
		for _, r := range readings(40) {
			if err := b.Append(&r); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%v: Take and Build differ", codec)
		}
	}
}
