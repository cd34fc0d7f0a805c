package record_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// sameOpened fails if an opened batch has not the records that Each finds.
func sameOpened(t *testing.T, b record.Batch) {
	t.Helper()
	o, err := b.Open(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if o.BaseOffset() != b.BaseOffset() || o.NextOffset() != b.NextOffset() {
		t.Errorf("offsets %d to %d, not %d to %d", o.BaseOffset(), o.NextOffset(), b.BaseOffset(), b.NextOffset())
	}
	want := collect(t, b)
	var r record.Record
	for _, w := range slices.Backward(want) {
		ok, err := o.Decode(w.Offset, &r)
		if err != nil || !ok {
			t.Fatalf("record %d: %v, %v", w.Offset, ok, err)
		}
		equal(t, []record.Record{r}, []record.Record{w})
	}
	at := 0
	for offset := b.BaseOffset() - 1; offset <= b.NextOffset(); offset++ {
		has := at < len(want) && want[at].Offset == offset
		if ok, err := o.Decode(offset, &r); ok != has || err != nil {
			t.Fatalf("record %d: %v, %v", offset, ok, err)
		}
		if has {
			at++
		}
	}
}

// TestOpen: the records of batches of every codec, of holes and of real clients.
func TestOpen(t *testing.T) {
	for _, codec := range codecs {
		b := build(t, codec, goldenRecords()...)
		b.SetBaseOffset(1 << 40)
		sameOpened(t, b)
	}
	sameOpened(t, raw(t, 3, 60, slices.Concat(plain(2), plain(5), plain(59))...))
	for _, path := range goldenFiles(t) {
		for _, b := range golden(t, path) {
			sameOpened(t, b)
		}
	}
	b := build(t, record.None, readings(3)...)
	b.SetLogAppendTime(77)
	sameOpened(t, b)
}

// TestOpenDamaged: what does not decode is an error, when it is opened or when the record
// is asked for.
func TestOpenDamaged(t *testing.T) {
	if _, err := raw(t, 2, 1, plain(0)...).Open(1 << 20); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("a record is missing: %v", err)
	}
	if _, err := build(t, record.Zstd, readings(40)...).Open(100); !errors.Is(err, record.ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	body := plain(0)
	body[4] = 9 // a key of so many bytes is not there
	o, err := raw(t, 1, 0, body...).Open(1 << 20)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := o.Decode(0, new(record.Record)); !errors.Is(err, record.ErrCorrupt) {
		t.Errorf("a key without bytes: %v", err)
	}
}
