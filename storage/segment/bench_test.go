package segment

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/weirmq/weir/storage/record"
)

// benchSize is the object that benchmarks build: as large as the owner would
// make it.
const benchSize = 32 << 20

// filled returns batches of about size bytes each, benchSize in all.
func filled(b *testing.B, size int) []record.Batch {
	b.Helper()
	value := make([]byte, size-record.HeaderSize-20)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(value)
	one := made(b, record.None, 0, 3, record.Record{Timestamp: 1_700_000_000_000, Value: value})
	batches := make([]record.Batch, benchSize/len(one))
	for i := range batches {
		batches[i] = append(record.Batch(nil), one...)
		batches[i].SetBaseOffset(int64(i))
	}
	return batches
}

var batchSizes = []int{512, 16 << 10, 256 << 10}

func name(size int) string { return fmt.Sprintf("batch=%d", size) }

func BenchmarkBuilder(b *testing.B) {
	for _, size := range batchSizes {
		for _, grow := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/grow=%v", name(size), grow), func(b *testing.B) {
				batches := filled(b, size)
				b.SetBytes(int64(bytesOf(batches)))
				b.ReportAllocs()
				for b.Loop() {
					builder := NewBuilder(7, 5, 2)
					if grow {
						builder.Grow(benchSize)
					}
					builder.Begin([16]byte{1}, 0, 0)
					for _, batch := range batches {
						if err := builder.Append(batch); err != nil {
							b.Fatal(err)
						}
					}
					builder.End(int64(len(batches)))
					if _, _, err := builder.Finish(); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// BenchmarkManyPartitions: an object of 10,000 pieces with one batch each.
func BenchmarkManyPartitions(b *testing.B) {
	batch := readings(b, 0, 20)
	b.SetBytes(int64(len(batch)) * 10_000)
	size := 0
	for b.Loop() {
		builder := NewBuilder(7, 5, 2)
		for i := range int32(10_000) {
			builder.Begin([16]byte{1}, i, 0)
			if err := builder.Append(batch); err != nil {
				b.Fatal(err)
			}
			builder.End(20)
		}
		object, _, err := builder.Finish()
		if err != nil {
			b.Fatal(err)
		}
		size = len(object)
	}
	b.ReportMetric(float64(size)/10_000-float64(len(batch)), "extraB/piece")
}

func BenchmarkBatches(b *testing.B) {
	for _, size := range batchSizes {
		b.Run(name(size), func(b *testing.B) {
			object, pieces := assemble(b, BlockSize, part{topic: 1, next: 1 << 40, batches: filled(b, size)})
			blocks, _ := read(b, object, pieces[0])
			b.SetBytes(int64(pieces[0].Size - pieces[0].Index))
			b.ReportAllocs()
			for b.Loop() {
				for _, block := range blocks {
					if _, err := block.Batches(object[block.At : block.At+block.Size]); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkBlocks(b *testing.B) {
	object, pieces := assemble(b, BlockSize, part{topic: 1, next: 1 << 40, batches: filled(b, 16<<10)})
	p := pieces[0]
	blocks, _ := read(b, object, p)
	raw := p.indexOf(object)
	for b.Loop() {
		if _, err := p.Blocks(raw); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(p.Index-indexHead)/float64(len(blocks)), "B/block")
}

func BenchmarkOpen(b *testing.B) {
	object, _ := assemble(b, BlockSize, part{topic: 1, next: 1 << 40, batches: filled(b, 16<<10)})
	b.SetBytes(int64(len(object)))
	for b.Loop() {
		if _, err := Open(object, 7, 5, 2); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkMerge: a trickle of batches of one reading becomes full ones.
func BenchmarkMerge(b *testing.B) {
	var batches []record.Batch
	for i := range int64(4096) {
		batches = append(batches, readings(b, i, 1))
	}
	b.SetBytes(int64(bytesOf(batches)))
	for b.Loop() {
		Merge(batches)
	}
}
