package row

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/storagetest"
)

// folder is a bucket in a folder, as far as rows need one.
type folder struct{ *Rows }

func mustOpen(t testing.TB, dir string) *folder {
	t.Helper()
	d, err := disk.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := &folder{New(d)}
	b.Sequences("0000/log/")
	b.SetLevel(2)
	return b
}

// eachMethod runs test with nameless temporary files and with named ones.
func eachMethod(t *testing.T, test func(t *testing.T, open func(t *testing.T, dir string) *folder)) {
	for _, named := range []bool{false, true} {
		name := "nameless"
		if named {
			name = "named"
		}
		t.Run(name, func(t *testing.T) {
			test(t, func(t *testing.T, dir string) *folder {
				b := mustOpen(t, dir)
				if !named && b.disk.Named {
					t.Skipf("SKIPPED: the file system of %s has no O_TMPFILE", dir)
				}
				b.disk.Named = named
				return b
			})
		})
	}
}

// body returns the object for a key; its size depends on the key, too.
func body(key string) []byte {
	h := fnv.New32a()
	h.Write([]byte(key))
	return storagetest.Content(key, int(h.Sum32()%100_000))
}

func (b *folder) Create(ctx context.Context, key string, body []byte) error {
	if err := errors.Join(ctx.Err(), b.disk.Health()); err != nil {
		return err
	}
	if !MayHave(key) {
		return b.disk.Create(key, body, disk.FilePerm, nil)
	}
	return b.Rows.Create(ctx, key, body, disk.FilePerm)
}

func (b *folder) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return b.Rows.Get(ctx, key, off, n)
}

func (b *folder) Delete(ctx context.Context, keys ...string) error {
	if err := errors.Join(ctx.Err(), b.disk.Health()); err != nil {
		return err
	}
	rest, err := b.Rows.Delete(ctx, keys)
	for _, key := range rest {
		if removed := os.Remove(b.disk.Path(key)); !errors.Is(removed, fs.ErrNotExist) && !errors.Is(removed, unix.ENOTDIR) {
			err = errors.Join(err, removed)
		}
	}
	return err
}

// List lists the objects of all rows.
func (b *folder) List(ctx context.Context, prefix, after string, most int) (keys []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := readDir(b.disk.Path("0000/log"))
	for _, row := range rows {
		name := "0000/log/" + row.Name()
		files, failed := readDir(b.disk.Path(name))
		packed, failing := b.Names(ctx, name)
		err = errors.Join(err, failed, failing)
		for _, f := range files {
			if !Reserved(f.Name()) && !strings.HasPrefix(f.Name(), ".") {
				packed = append(packed, f.Name())
			}
		}
		for _, number := range packed {
			if key := name + "/" + number; strings.HasPrefix(key, prefix) && key > after {
				keys = append(keys, key)
			}
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	return keys[:min(most, len(keys))], err
}

func readDir(name string) ([]fs.DirEntry, error) {
	entries, err := os.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	return entries, nil
}

var _ storage.Bucket = (*folder)(nil)
