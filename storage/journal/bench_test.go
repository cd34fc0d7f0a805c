package journal

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/mem"
)

// BenchmarkWrite writes slots of one entry as fast as the bucket takes them.
// The bucket's own Create is the limit to compare with.
func BenchmarkWrite(b *testing.B) {
	for _, bucket := range []struct {
		name string
		open func(b *testing.B) storage.Bucket
	}{
		{"mem", func(*testing.B) storage.Bucket { return &shallow{Bucket: mem.New()} }},
		{"file", func(b *testing.B) storage.Bucket {
			f, err := file.Open(b.TempDir())
			if err != nil {
				b.Fatal(err)
			}
			return f
		}},
	} {
		for _, size := range []int{64 << 10, 1 << 20} {
			b.Run(fmt.Sprintf("%s/%dKiB/create", bucket.name, size>>10), func(b *testing.B) {
				store, body := bucket.open(b), make([]byte, size)
				b.SetBytes(int64(size))
				for i := range uint64(b.N) {
					if err := store.Create(b.Context(), SlotKey(0, Position{1, i}), body); err != nil {
						b.Fatal(err)
					}
				}
			})
			for _, depth := range []int{1, 4} {
				b.Run(fmt.Sprintf("%s/%dKiB/depth=%d", bucket.name, size>>10, depth), func(b *testing.B) {
					benchmarkWrite(b, bucket.open(b), size, depth)
				})
			}
		}
	}
}

// shallow forgets what was created long ago, so that a benchmark fits in memory.
type shallow struct {
	storage.Bucket
	mu   sync.Mutex
	keys []string // guarded by mu; the newest
}

func (s *shallow) Unwrap() storage.Bucket { return s.Bucket }

func (s *shallow) Create(ctx context.Context, key string, body []byte) error {
	s.mu.Lock()
	s.keys = append(s.keys, key)
	var old []string
	if len(s.keys) > 100 {
		old, s.keys = s.keys[:50], s.keys[50:]
	}
	s.mu.Unlock()
	return errors.Join(s.Bucket.Create(ctx, key, body), s.Bucket.Delete(ctx, old...))
}

type counter struct{ slots int }

func (c *counter) Apply(Position, []Entry) error  { c.slots++; return nil }
func (c *counter) Restore(Position, []byte) error { return errors.ErrUnsupported }

func benchmarkWrite(b *testing.B, store storage.Bucket, size, depth int) {
	s := &counter{}
	j, err := Open(b.Context(), Options{Bucket: store, Depth: depth}, s)
	if err != nil {
		b.Fatal(err)
	}
	body := make([]byte, size)
	b.SetBytes(int64(size))
	for b.Loop() {
		if _, err := j.Write([]Entry{{Kind: 1, Body: body}}); err != nil {
			b.Fatal(err)
		}
	}
	if err := j.Close(); err != nil || s.slots != b.N {
		b.Errorf("%d of %d slots applied: %v", s.slots, b.N, err)
	}
}

func BenchmarkEncode(b *testing.B) {
	o := dataObject(0, testClaim(1), 1, []Entry{{Kind: 1, Body: make([]byte, 256<<10)}})
	b.SetBytes(256 << 10)
	b.ReportAllocs()
	for b.Loop() {
		o.encode()
	}
}
