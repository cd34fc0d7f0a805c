package record_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// The bytes are those of KIP-98: key {version 0, type}, value {version 0, epoch of
// the coordinator}, both flags, no sequence.
func TestMarker(t *testing.T) {
	for _, c := range []struct {
		m      record.Marker
		record string
	}{
		{record.Marker{Commit: true, CoordinatorEpoch: 9}, "20000000" + "0800000001" + "0c000000000009" + "00"},
		{record.Marker{CoordinatorEpoch: 258}, "20000000" + "0800000000" + "0c000000000102" + "00"},
	} {
		b := record.NewMarker(7, 3, c.m, 1000)
		if err := b.Verify(); err != nil {
			t.Error(err)
		}
		if err := b.VerifyRecords(1000); err != nil {
			t.Error(err)
		}
		if got := hex.EncodeToString(b[record.HeaderSize:]); got != c.record {
			t.Errorf("%s, want %s", got, c.record)
		}
		if !b.Control() || !b.Transactional() || b.LogAppendTime() || b.Codec() != record.None || record.Mergeable(b) {
			t.Error("its attributes are wrong")
		}
		if b.ProducerID() != 7 || b.ProducerEpoch() != 3 || b.BaseSequence() != -1 || b.LastSequence() != -1 || b.Count() != 1 || b.MaxTimestamp() != 1000 {
			t.Errorf("%x", b)
		}
		b.SetBaseOffset(77)
		b.SetLeaderEpoch(5)
		if got, err := b.Marker(); got != c.m || err != nil {
			t.Error(got, err)
		}
	}
}

// Whatever else a control batch may be, it is no marker, and nothing panics.
func TestNoMarker(t *testing.T) {
	whole := record.NewMarker(7, 3, record.Marker{Commit: true}, 1000)
	for n := range whole {
		if _, err := whole[:n].Marker(); !errors.Is(err, record.ErrCorrupt) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	// Attributes and last offset delta; sequence, count and the record's length; its
	// offset, the key, the value's version; headers.
	for _, span := range [][2]int{{21, 27}, {53, 62}, {64, 73}, {77, 78}} {
		for i := span[0]; i < span[1]; i++ {
			for bit := range 8 {
				b := bytes.Clone(whole)
				b[i] ^= 1 << bit
				if m, err := record.Batch(b).Marker(); err == nil && m.Commit {
					t.Errorf("bit %d of byte %d is flipped and it is the same", bit, i)
				}
			}
		}
	}
	b := record.NewBuilder(record.None)
	if err := b.Append(&record.Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	plain, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := plain.Marker(); !errors.Is(err, record.ErrCorrupt) {
		t.Error(err)
	}
}
