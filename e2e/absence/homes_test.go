package absence

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file"
	"github.com/weirmq/weir/storage/mem"
)

// memory is a home of objects in memory.
type memory struct{ b *mem.Bucket }

func (m memory) open() (storage.Bucket, error) { return m.b, nil }
func (m memory) look() (image, error)          { return export(context.Background(), m.b) }

// export returns all objects of a bucket.
func export(ctx context.Context, b storage.Bucket) (image, error) {
	img := image{}
	for last := ""; ; {
		keys, err := b.List(ctx, "", last, 1000)
		if err != nil {
			return nil, err
		}
		for _, key := range keys {
			if img[key], err = b.Get(ctx, key, 0, -1); err != nil {
				return nil, err
			}
			last = key
		}
		if len(keys) < 1000 {
			return img, nil
		}
	}
}

// fillBucket creates the objects of an image.
func fillBucket(ctx context.Context, b storage.Bucket, img image) error {
	for key, body := range img {
		if err := b.Create(ctx, key, body); err != nil {
			return err
		}
	}
	return nil
}

// folder is a home of files.
type folder string

func (f folder) open() (storage.Bucket, error) { return file.Open(string(f)) }

// look reads all files, except those that exist only while a process runs.
func (f folder) look() (image, error) {
	img := image{}
	err := filepath.WalkDir(string(f), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(string(f), path)
		if err != nil || name == ".lock" || strings.HasPrefix(name, ".tmp/") {
			return err
		}
		img[name], err = os.ReadFile(path)
		return err
	})
	return img, err
}

// fill writes the files of an image.
func (f folder) fill(img image) error {
	for name, body := range img {
		path := filepath.Join(string(f), name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			return err
		}
		if err := os.WriteFile(path, body, 0o640); err != nil {
			return err
		}
	}
	return nil
}

// fast returns a folder in memory if there is such a file system: these tests do
// not cut the power.
func fast(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "weir-absence-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// kind is a kind of bucket in which worlds are damaged.
type kind struct {
	name string
	// make returns a home with the image in it, for one cell, and a function that removes it.
	make func(ctx context.Context, n int, img image) (home, func() error, error)
}

func inMemory() kind {
	return kind{"mem", func(ctx context.Context, _ int, img image) (home, func() error, error) {
		b := mem.New()
		return memory{b}, func() error { return nil }, fillBucket(ctx, b, img)
	}}
}

func inFolders(dir string) kind {
	return kind{"file", func(_ context.Context, n int, img image) (home, func() error, error) {
		f := folder(filepath.Join(dir, fmt.Sprint("cell-", n)))
		return f, func() error { return os.RemoveAll(string(f)) }, f.fill(img)
	}}
}

// server is a home in one part of a shared bucket.
type server struct{ b storage.Bucket }

func (s server) open() (storage.Bucket, error) { return lent{s.b}, nil }
func (s server) look() (image, error)          { return export(context.Background(), s.b) }

// lent is a bucket that Close leaves open.
type lent struct{ storage.Bucket }

func (l lent) Unwrap() storage.Bucket { return l.Bucket }

func onServer(name string, b storage.Bucket) kind {
	return kind{name, func(ctx context.Context, n int, img image) (home, func() error, error) {
		part := storage.Prefix(b, fmt.Sprint("cell-", n))
		remove := func() error {
			img, err := export(ctx, part)
			for key := range img {
				if err == nil {
					err = part.Delete(ctx, key)
				}
			}
			return err
		}
		return server{part}, remove, fillBucket(ctx, part, img)
	}}
}
