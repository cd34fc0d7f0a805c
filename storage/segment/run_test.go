package segment

import (
	"errors"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// TestRun: a run is cut into blocks that can be read again one by one. Whatever is wrong
// with it is noticed, base offsets and leader epochs too.
func TestRun(t *testing.T) {
	var raw []byte
	p := Piece{Topic: [16]byte{1}, Base: 100, MaxTime: NoTime, At: 77}
	next := p.Base
	for range 40 {
		b := readings(t, next, 1000)
		raw, next, p.MaxTime = append(raw, b...), b.NextOffset(), max(p.MaxTime, b.MaxTimestamp())
	}
	p.Next, p.Size = next, uint32(len(raw))
	blocks, err := p.Run(raw, 3)
	if err != nil || len(blocks) < 3 {
		t.Fatalf("%d blocks, %v", len(blocks), err)
	}
	at, from := p.At, p.Base
	for _, b := range blocks {
		batches, err := b.Batches(raw[b.At-p.At:][:b.Size])
		if err != nil || b.At != at || b.Base != from || b.Size > BlockSize || batches[len(batches)-1].NextOffset() != b.Next {
			t.Errorf("%+v: %v", b, err)
		}
		cut, err := b.Cut(raw[b.At-p.At:][:b.Size])
		if err != nil || len(cut) != len(batches) {
			t.Errorf("%d batches, %v", len(cut), err)
		}
		at, from = at+b.Size, b.Next
	}
	if at != p.At+p.Size || from != p.Next {
		t.Errorf("the blocks end at %d, offset %d", at, from)
	}
	for name, bad := range map[string]func(p *Piece, raw []byte) ([]byte, int32){
		"a byte":        func(_ *Piece, raw []byte) ([]byte, int32) { raw[len(raw)/2] ^= 1; return raw, 3 },
		"cut":           func(_ *Piece, raw []byte) ([]byte, int32) { return raw[:len(raw)-1], 3 },
		"shorter":       func(p *Piece, raw []byte) ([]byte, int32) { p.Size--; return raw[:len(raw)-1], 3 },
		"epoch":         func(_ *Piece, raw []byte) ([]byte, int32) { return raw, 4 },
		"one epoch":     func(_ *Piece, raw []byte) ([]byte, int32) { record.Batch(raw).SetLeaderEpoch(4); return raw, 3 },
		"base":          func(p *Piece, raw []byte) ([]byte, int32) { p.Base--; return raw, 3 },
		"one base":      func(_ *Piece, raw []byte) ([]byte, int32) { record.Batch(raw).SetBaseOffset(101); return raw, 3 },
		"next":          func(p *Piece, raw []byte) ([]byte, int32) { p.Next++; return raw, 3 },
		"time":          func(p *Piece, raw []byte) ([]byte, int32) { p.MaxTime++; return raw, 3 },
		"with an index": func(p *Piece, raw []byte) ([]byte, int32) { p.Index = 100; return raw, 3 },
		"compacted": func(p *Piece, raw []byte) ([]byte, int32) {
			raw = append(raw, compacted(readings(t, p.Next, 5), 5, 4)...)
			p.Size, p.Next = uint32(len(raw)), p.Next+6
			return raw, 3
		},
	} {
		q := p
		damaged, leader := bad(&q, slices.Clone(raw))
		if _, err := q.Run(damaged, leader); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzRun: whatever the bytes are, the blocks are what a later read accepts.
func FuzzRun(f *testing.F) {
	f.Add([]byte(readings(f, 0, 3)), int64(0), int64(3))
	f.Add([]byte{}, int64(0), int64(1))
	f.Fuzz(func(t *testing.T, raw []byte, base, next int64) {
		p := Piece{Base: base, Next: next, MaxTime: NoTime, At: 64, Size: uint32(len(raw))}
		if len(raw) >= record.HeaderSize {
			p.MaxTime = record.Batch(raw).MaxTimestamp()
		}
		blocks, err := p.Run(raw, 3)
		if err != nil {
			return
		}
		for _, b := range blocks {
			if _, err := b.Batches(raw[b.At-p.At:][:b.Size]); err != nil {
				t.Error(err)
			}
		}
	})
}
