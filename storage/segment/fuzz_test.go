package segment

import (
	"bytes"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/crc"
)

// FuzzOpen gives Open any bytes, as they are and with corrected checksums. An object
// that Open accepts can be built again.
func FuzzOpen(f *testing.F) {
	sampled, _ := assemble(f, sampleBlock, sample(f)...)
	empty, _ := assemble(f, BlockSize)
	none, _ := assemble(f, BlockSize, part{topic: 1, base: 3, next: 4})
	for _, object := range [][]byte{sampled, empty, none} {
		f.Add(object)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		for _, object := range [][]byte{p, resealed(bytes.Clone(p))} {
			pieces, err := Open(object, 7, 5, 2)
			if err != nil {
				if !named(err) {
					t.Fatalf("unnamed error %v", err)
				}
				continue
			}
			again := appendHeader(nil, 7, 5, 2)
			for _, p := range pieces {
				blocks, _ := read(t, object, p)
				again = append(again, object[p.At:p.At+p.Size-p.Index]...)
				again = reindexed(again, p, blocks)
			}
			if again = appendDirectory(again, pieces); !bytes.Equal(again, object) {
				t.Fatalf("opened %x, written again %x", object, again)
			}
		}
	})
}

// reindexed encodes the index of a finished piece anew.
func reindexed(dst []byte, p Piece, blocks []Block) []byte {
	p.Size -= p.Index
	return p.appendIndex(dst, blocks)
}

// FuzzBlocks reads any bytes as an index, by a reference that agrees with what
// it says of itself.
func FuzzBlocks(f *testing.F) {
	object, pieces := assemble(f, sampleBlock, sample(f)...)
	for _, p := range pieces {
		f.Add(p.indexOf(object))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if len(raw) < indexHead {
			return
		}
		d := coding.NewDecoder(raw[indexFrom+1:])
		p := decodePiece(&d)
		sealed := bytes.Clone(raw)
		resealedIndex(sealed)
		for _, raw := range [][]byte{raw, sealed} {
			blocks, err := p.Blocks(raw)
			if err != nil {
				if !named(err) {
					t.Fatalf("unnamed error %v", err)
				}
				continue
			}
			if again := reindexed(nil, p, blocks); !bytes.Equal(again, raw) {
				t.Fatalf("decoded %x, encoded %x", raw, again)
			}
			if cap(blocks)*minEntry > len(raw) {
				t.Fatalf("room for %d blocks from %d bytes", cap(blocks), len(raw))
			}
			next, at := p.Base, p.At
			for _, b := range blocks {
				if b.Base < next || b.Next <= b.Base || b.Next > p.Next || b.At != at || b.MaxTime > p.MaxTime {
					t.Fatalf("block %+v of %v", b, p)
				}
				next, at = b.Next, at+b.Size
			}
			if at != p.At+p.Size-p.Index {
				t.Fatalf("blocks of %v end at %d", p, at)
			}
		}
	})
}

// FuzzBatches cuts any bytes that have the checksum that is expected.
func FuzzBatches(f *testing.F) {
	object, pieces := assemble(f, sampleBlock, sample(f)...)
	for _, p := range pieces {
		blocks, _ := read(f, object, p)
		for _, b := range blocks {
			f.Add(object[b.At:b.At+b.Size], b.Base, b.Next)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, base, next int64) {
		b := Block{Base: base, Next: next, Size: uint32(len(raw)), CRC: crc.Sum(raw)}
		batches, err := b.Batches(raw)
		if err != nil {
			if !named(err) {
				t.Fatalf("unnamed error %v", err)
			}
			return
		}
		if again := slices.Concat(batches...); !bytes.Equal(again, raw) {
			t.Fatalf("%d bytes in, %d out", len(raw), len(again))
		}
		if batches[0].BaseOffset() != base || cap(batches) != len(batches) {
			t.Fatalf("first batch is at %d, room for %d", batches[0].BaseOffset(), cap(batches))
		}
		at := base
		for _, batch := range batches {
			if batch.BaseOffset() < at || batch.NextOffset() <= batch.BaseOffset() || batch.NextOffset() > next {
				t.Fatalf("batch of %d to %d behind %d, block ends at %d", batch.BaseOffset(), batch.NextOffset(), at, next)
			}
			at = batch.NextOffset()
		}
	})
}
