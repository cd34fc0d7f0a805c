package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/record"
)

// made returns a batch of records at a place in a partition.
func made(t testing.TB, codec record.Codec, base int64, epoch int32, records ...record.Record) record.Batch {
	t.Helper()
	builder := record.NewBuilder(codec)
	for i := range records {
		if err := builder.Append(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	b, err := builder.Build()
	if err != nil {
		t.Fatal(err)
	}
	b.SetBaseOffset(base)
	b.SetLeaderEpoch(epoch)
	return b
}

// readings returns a batch of n short records, a millisecond apart.
func readings(t testing.TB, base int64, n int) record.Batch {
	t.Helper()
	records := make([]record.Record, n)
	for i := range records {
		at := base + int64(i)
		records[i] = record.Record{Timestamp: 1_700_000_000_000 + at, Value: fmt.Appendf(nil, "reading %d", at)}
	}
	return made(t, record.None, base, 3, records...)
}

// compacted makes a batch look as if compaction had taken records out of it.
func compacted(b record.Batch, lastOffsetDelta, count int32) record.Batch {
	b = slices.Clone(b)
	binary.BigEndian.PutUint32(b[23:], uint32(lastOffsetDelta))
	binary.BigEndian.PutUint32(b[57:], uint32(count))
	if count == 0 {
		b = b[:record.HeaderSize]
		binary.BigEndian.PutUint32(b[8:], record.HeaderSize-12)
	}
	binary.BigEndian.PutUint32(b[17:], crc.Sum(b[21:]))
	return b
}

// part is what a test puts into a piece.
type part struct {
	topic      byte
	partition  int32
	base, next int64
	batches    []record.Batch
}

// assemble builds the object 7/5/2 of parts, with blocks of blockSize.
func assemble(t testing.TB, blockSize int, parts ...part) ([]byte, []Piece) {
	t.Helper()
	b := NewBuilder(7, 5, 2)
	b.blockSize = blockSize
	for _, p := range parts {
		b.Begin([16]byte{p.topic}, p.partition, p.base)
		for _, batch := range p.batches {
			if err := b.Append(batch); err != nil {
				t.Fatal(err)
			}
		}
		open := b.Size()
		b.End(p.next)
		if closed := b.Size(); closed > open || open-closed > maxEntry*(len(p.batches)+1) {
			t.Errorf("size is %d in the piece, %d behind it", open, closed)
		}
	}
	size := b.Size()
	object, pieces, err := b.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if len(object) != size {
		t.Errorf("%d bytes, Size said %d", len(object), size)
	}
	return object, pieces
}

// index is the bytes of a piece's index.
func (p *Piece) indexOf(object []byte) []byte { return object[p.At+p.Size-p.Index : p.At+p.Size] }

// read takes a piece apart as a reader does.
func read(t testing.TB, object []byte, p Piece) (blocks []Block, batches []record.Batch) {
	t.Helper()
	blocks, err := p.Blocks(p.indexOf(object))
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range blocks {
		more, err := b.Batches(object[b.At : b.At+b.Size])
		if err != nil {
			t.Fatal(err)
		}
		batches = append(batches, more...)
	}
	return blocks, batches
}

// same compares batches to the byte.
func same(t testing.TB, got, want []record.Batch) {
	t.Helper()
	if !slices.EqualFunc(got, want, func(a, b record.Batch) bool { return bytes.Equal(a, b) }) {
		t.Errorf("%d batches are not the %d that went in", len(got), len(want))
	}
}

// named reports whether an error is one of those that bytes at rest may cause.
func named(err error) bool { return errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFormat) }

// sample is small and has a bit of everything: a piece of several blocks with
// holes between offsets, an empty one, a batch without records, one that is
// larger than a block, timestamps that run backwards.
func sample(t testing.TB) []part {
	big := made(t, record.None, 40, 3, record.Record{Timestamp: -1, Value: slices.Repeat([]byte("weir "), 60)})
	return []part{
		{1, 0, 0, 60, []record.Batch{readings(t, 0, 2), readings(t, 2, 1), compacted(readings(t, 10, 3), 9, 3), big, readings(t, 41, 1)}},
		{1, 1, 100, 200, nil},
		{2, 4711, 1 << 40, 1<<40 + 9, []record.Batch{compacted(readings(t, 1<<40+1, 1), 4, 0)}},
		{2, 0, 7, 8, []record.Batch{readings(t, 7, 1)}},
	}
}

const sampleBlock = 250
