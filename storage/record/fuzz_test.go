package record_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// fuzzCap is small, so that the fuzzer meets it.
const fuzzCap = 64 << 10

// seeds are small batches of ours in every codec, two of them in a row, and
// what real clients make of few records.
func seeds(f *testing.F) {
	f.Helper()
	for _, codec := range codecs {
		few := build(f, codec, goldenRecords()[:12]...)
		f.Add([]byte(few))
		f.Add([]byte(slices.Concat(few, build(f, codec, readings(40)...))))
	}
	for _, path := range goldenFiles(f) {
		for _, b := range golden(f, path) {
			if len(b) < 8<<10 {
				f.Add([]byte(b))
			}
		}
	}
}

// FuzzNext: every byte ends up in a batch or in the rest, once.
func FuzzNext(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		p = bytes.Clone(p)
		var all []byte
		for rest := p; ; {
			b, next, err := record.Next(rest)
			if err != nil {
				if !errors.Is(err, record.ErrShort) && !errors.Is(err, record.ErrCorrupt) && !errors.Is(err, record.ErrMagic) {
					t.Fatalf("unnamed error: %v", err)
				}
				all = append(all, next...)
				break
			}
			all = append(all, b...)
			if b.Verify() == nil {
				b.SetBaseOffset(12)
				b.SetLeaderEpoch(3)
				if err := b.Verify(); err != nil {
					t.Fatalf("placed batch: %v", err)
				}
				copy(b, all[len(all)-len(b):])
			}
			rest = next
		}
		if !slices.Equal(all, p) {
			t.Fatalf("%d bytes in, %d out", len(p), len(all))
		}
	})
}

// FuzzEach: what decodes can be built again and is then the same.
func FuzzEach(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, p []byte) {
		b, _, err := record.Next(p)
		if err != nil {
			return
		}
		again := record.NewBuilder(b.Codec())
		last := b.BaseOffset() - 1
		err = b.Each(fuzzCap, func(r *record.Record) error {
			if r.Offset <= last && last < b.NextOffset() {
				t.Fatalf("offset %d after %d", r.Offset, last)
			}
			last = r.Offset
			return again.Append(r)
		})
		verr := b.VerifyRecords(fuzzCap)
		if verr == nil && err != nil && !errors.Is(err, record.ErrTooLarge) {
			t.Fatalf("VerifyRecords passes what Each refuses: %v", err)
		}
		if err != nil || again.Len() == 0 {
			return
		}
		if again.Len() != int(b.Count()) {
			t.Fatalf("%d records, header says %d", again.Len(), b.Count())
		}
		rebuilt, err := again.Build()
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(rebuilt.Verify(), rebuilt.VerifyRecords(1<<30)); err != nil {
			t.Fatal(err)
		}
		if verr == nil && !b.LogAppendTime() {
			rebuilt.SetBaseOffset(b.BaseOffset())
			equal(t, collect(t, rebuilt), collect(t, b))
			if base := b.BaseOffset(); base >= 0 && base < 1<<60 {
				sameOpened(t, b)
			}
		}
	})
}

// FuzzMergeSmall: all batches are there afterwards, as they were or joined.
func FuzzMergeSmall(f *testing.F) {
	seeds(f)
	few := readings(12)
	var row []record.Batch
	for at, codec := range []record.Codec{record.None, record.Zstd, record.Zstd, record.Gzip} {
		row = append(row, build(f, codec, few[3*at:3*at+3]...))
	}
	f.Add([]byte(slices.Concat(row...)))
	f.Fuzz(func(t *testing.T, p []byte) {
		var batches []record.Batch
		for len(p) > 0 && len(batches) < 16 {
			b, rest, err := record.Next(p)
			if err != nil {
				break
			}
			batches, p = append(batches, b), rest
		}
		mergeAgain(t, batches)
	})
}
