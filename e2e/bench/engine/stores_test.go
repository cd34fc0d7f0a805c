package engine

import (
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/hdfs/hdfstest"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/mysql/mysqltest"
	"github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/redis/redistest"
	"github.com/weirmq/weir/storage/s3/s3test"
)

// kind is a kind of bucket. start starts its server, if it has one, and returns
// what makes an empty bucket on it; without a server it skips, loudly.
type kind struct {
	name  string
	start func(b *testing.B) (empty func(b *testing.B) storage.Bucket)
}

func kinds() []kind {
	return []kind{
		{"file", func(*testing.B) func(*testing.B) storage.Bucket {
			return func(b *testing.B) storage.Bucket {
				f, err := file.Open(filepath.Join(b.TempDir(), "bucket"))
				if err != nil {
					b.Fatal(err)
				}
				return f
			}
		}},
		{"mem", func(*testing.B) func(*testing.B) storage.Bucket {
			return func(*testing.B) storage.Bucket { return mem.New() }
		}},
		{"s3", func(b *testing.B) func(*testing.B) storage.Bucket {
			s := s3test.Start(b)
			return at(func(b *testing.B) string { return s.NewBucket(b) })
		}},
		{"redis", func(b *testing.B) func(*testing.B) storage.Bucket {
			s := redistest.Start(b)
			return at(func(b *testing.B) string { return s.NewBucket(b) })
		}},
		{"mysql", func(b *testing.B) func(*testing.B) storage.Bucket {
			s := mysqltest.Start(b)
			return at(func(b *testing.B) string { return s.NewDatabase(b) })
		}},
		{"hdfs", func(b *testing.B) func(*testing.B) storage.Bucket {
			s := hdfstest.Start(b)
			return at(func(*testing.B) string { return s.URL(s.NewFolder()) })
		}},
	}
}

// at opens the bucket at a URL as weir-cloud does.
func at(url func(b *testing.B) string) func(*testing.B) storage.Bucket {
	return func(b *testing.B) storage.Bucket {
		bucket, err := open.Open(b.Context(), url(b))
		if err != nil {
			b.Fatal(err)
		}
		return bucket
	}
}
