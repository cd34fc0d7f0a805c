package reader

import (
	"fmt"
	"testing"

	"github.com/weirmq/weir/storage/mem"
)

// BenchmarkRead: 1 MiB at a time, from the cache, and from a bucket in memory in
// order of offsets.
func BenchmarkRead(b *testing.B) {
	bucket := mem.New()
	for i, size := range []int{512, 16 << 10, 250 << 10} {
		o := put(b, bucket, uint64(i), row(b, 0, 16<<20/size, size))
		for _, limit := range []int64{64 << 20, 8 << 20} {
			b.Run(fmt.Sprintf("batch=%d/cached=%v", size, limit > 16<<20), func(b *testing.B) {
				r := New(bucket, named, limit)
				defer r.Close()
				offset := int64(0)
				b.SetBytes(1 << 20)
				b.ReportAllocs()
				for b.Loop() {
					got, err := o.read(r, b.Context(), offset, 1<<20)
					if err != nil {
						b.Fatal(err)
					}
					if offset = got[len(got)-1].NextOffset(); offset == o.piece.Next {
						offset = 0
					}
				}
			})
		}
	}
}
