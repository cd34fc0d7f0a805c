package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/storagetest"
)

func BenchmarkCreate(b *testing.B) {
	storagetest.Bench(b, func(b *testing.B) storage.Bucket { return mustOpen(b, b.TempDir()) })
}

// BenchmarkPlain is what Create can be compared with: a new file that is
// written and synced under its own name, without the link and without the sync
// of its folder. It promises less.
func BenchmarkPlain(b *testing.B) {
	for _, size := range []int{4 << 10, 64 << 10, 1 << 20} {
		b.Run(fmt.Sprintf("%dKiB/writers=1", size>>10), func(b *testing.B) {
			dir, body := b.TempDir(), storagetest.Content("bench", size)
			b.SetBytes(int64(size))
			n := 0
			for b.Loop() {
				n++
				f, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("%012d", n)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
				if err != nil {
					b.Fatal(err)
				}
				if _, err := f.Write(body); err != nil {
					b.Fatal(err)
				}
				if err := f.Sync(); err != nil {
					b.Fatal(err)
				}
				if err := f.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
