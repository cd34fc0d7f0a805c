package storagetest

import (
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage"
)

// Bench measures Create, by size of the object and number of writers. Each
// call of open gives an empty bucket.
func Bench(b *testing.B, open func(b *testing.B) storage.Bucket) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		for _, writers := range []int{1, 8} {
			b.Run(fmt.Sprintf("%dKiB/writers=%d", size>>10, writers), func(b *testing.B) {
				bucket := open(b)
				body := Content("bench", size)
				var n atomic.Int64
				b.SetBytes(int64(size))
				b.SetParallelism(max(1, writers/runtime.GOMAXPROCS(0)))
				if writers == 1 {
					for b.Loop() {
						benchCreate(b, bucket, n.Add(1), body)
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						benchCreate(b, bucket, n.Add(1), body)
					}
				})
			})
		}
	}
}

func benchCreate(b *testing.B, bucket storage.Bucket, n int64, body []byte) {
	if err := bucket.Create(b.Context(), fmt.Sprintf("bench/%012d", n), body); err != nil {
		b.Errorf("Create: %v", err)
	}
}
