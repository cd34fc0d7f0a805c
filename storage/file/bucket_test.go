package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/storagetest"
)

// eachMethod runs test with nameless temporary files and with named ones.
func eachMethod(t *testing.T, test func(t *testing.T, open func(t *testing.T, dir string) *Bucket)) {
	for _, named := range []bool{false, true} {
		name := "nameless"
		if named {
			name = "named"
		}
		t.Run(name, func(t *testing.T) {
			test(t, func(t *testing.T, dir string) *Bucket {
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

func mustOpen(t testing.TB, dir string) *Bucket {
	t.Helper()
	b, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	storage.SetLevel(b, 2)
	storage.Sequences(b, "0000/log/")
	return b
}

func TestBucket(t *testing.T) {
	eachMethod(t, func(t *testing.T, open func(*testing.T, string) *Bucket) {
		storagetest.RunShared(t, func(t *testing.T) (a, b storage.Bucket) {
			dir := t.TempDir()
			return open(t, dir), open(t, dir)
		})
	})
}

// TestSyncs: the content is on disk before the name, and the name, with the
// names of all folders above it, before Create returns.
func TestSyncs(t *testing.T) {
	eachMethod(t, func(t *testing.T, open func(*testing.T, string) *Bucket) {
		root := t.TempDir()
		var synced []string
		handle := func() *Bucket {
			b := open(t, root)
			b.disk.Sync = func(f *os.File) error {
				if info, err := f.Stat(); err != nil || !info.IsDir() {
					if _, err := os.Lstat(b.disk.Path("x/y/1")); err == nil {
						t.Error("the object has its name before its content is synced")
					}
					synced = append(synced, "content")
					return f.Sync()
				}
				name, _ := filepath.Rel(root, f.Name())
				synced = append(synced, name)
				return f.Sync()
			}
			return b
		}
		want := func(what string, names ...string) {
			t.Helper()
			if !slices.Equal(synced, names) {
				t.Errorf("%s synced %q, want %q", what, synced, names)
			}
			synced = nil
		}

		b := handle()
		if err := b.Create(t.Context(), "x/y/1", []byte("one")); err != nil {
			t.Fatal(err)
		}
		want("Create in a new folder", ".", "x", "content", "x/y")
		if err := b.Create(t.Context(), "x/y/1", nil); !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
		want("Create of a name that is taken", "x/y")

		b = handle()
		if err := b.Create(t.Context(), "x/y/1", nil); !errors.Is(err, storage.ErrExists) {
			t.Fatal(err)
		}
		want("Create of another process in folders that it did not make", ".", "x", "x/y")
		if err := b.Delete(t.Context(), "x/y/1", "x/y/2", "x/z", "none/at/all"); err != nil {
			t.Fatal(err)
		}
		slices.Sort(synced)
		want("Delete", "x", "x/y")
	})
}

// TestSyncFails: which outcome a failed sync has depends on whether the object
// has its name; after a folder's sync failed nothing is written any more.
func TestSyncFails(t *testing.T) {
	eachMethod(t, func(t *testing.T, open func(*testing.T, string) *Bucket) {
		root := t.TempDir()
		b := open(t, root)
		if err := b.Create(t.Context(), "d/0", []byte("zero")); err != nil {
			t.Fatal(err)
		}
		failFor := func(dir bool) func(f *os.File) error {
			return func(f *os.File) error {
				if info, err := f.Stat(); err != nil || info.IsDir() == dir {
					return unix.EIO
				}
				return f.Sync()
			}
		}

		b.disk.Sync = failFor(false)
		err := b.Create(t.Context(), "d/1", []byte("one"))
		if !errors.Is(err, unix.EIO) || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("content not synced: %v, want EIO and no ErrUnknown", err)
		}
		if _, err := b.Get(t.Context(), "d/1", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("content not synced, but Get: %v", err)
		}

		b.disk.Sync = failFor(true)
		err = b.Create(t.Context(), "d/1", []byte("one"))
		if !errors.Is(err, unix.EIO) || !errors.Is(err, storage.ErrUnknown) {
			t.Errorf("folder not synced: %v, want EIO and ErrUnknown", err)
		}

		b.disk.Sync = (*os.File).Sync
		for _, key := range []string{"d/1", "d/2"} {
			err = b.Create(t.Context(), key, []byte("one"))
			if err == nil || errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrUnknown) {
				t.Errorf("Create(%s) after a failed sync of its folder: %v, want a refusal", key, err)
			}
		}
		if err := b.Delete(t.Context(), "d/0"); err == nil {
			t.Error("Delete after a failed sync: no error")
		}
		if body, err := b.Get(t.Context(), "d/0", 0, -1); err != nil || string(body) != "zero" {
			t.Errorf("Get after a failed sync: %q, %v", body, err)
		}
	})
}

// TestFolders: an object and a folder cannot share a name; that is an error of
// the key and neither a success nor a lost race.
func TestFolders(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	for _, key := range []string{"object", "folder/object"} {
		if err := b.Create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, key := range []string{"folder", "object/x", "object/x/y"} {
		if err := b.Create(t.Context(), key, nil); !errors.Is(err, storage.ErrKey) {
			t.Errorf("Create(%s): %v, want ErrKey", key, err)
		}
	}
}

func TestOpenMakesFolders(t *testing.T) {
	root := filepath.Join(t.TempDir(), "a", "b", "c")
	b := mustOpen(t, root)
	if err := b.Create(t.Context(), "key", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(root); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "x/key", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Create in a bucket whose folder was removed: %v, want fs.ErrNotExist", err)
	}
}

// TestRemovedFolder: one that somebody removes below a running bucket is made
// and synced again.
func TestRemovedFolder(t *testing.T) {
	root := t.TempDir()
	b := mustOpen(t, root)
	if err := b.Create(t.Context(), "x/y/1", nil); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(root, "x")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), "x/y/2", nil); err == nil || errors.Is(err, storage.ErrUnknown) {
		t.Fatalf("the first Create: %v, want an error that says nothing happened", err)
	}
	if err := b.Create(t.Context(), "x/y/2", nil); err != nil {
		t.Fatal(err)
	}
}

func TestOpenRefuses(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	locked := filepath.Join(dir, "locked")
	if err := os.Mkdir(locked, 0o500); err != nil {
		t.Fatal(err)
	}
	tests := map[string]string{plain: "not a folder", filepath.Join(plain, "x"): "not a directory"}
	if os.Getuid() != 0 { // root may write everywhere
		tests[locked] = "permission denied"
		tests[filepath.Join(locked, "x")] = "permission denied"
	}
	for dir, want := range tests {
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Open(%s): %v, want %q", dir, err, want)
		}
	}
}

// TestSecret: an object that holds a secret is its owner's alone, also one that was
// stored before secrets were told from others.
func TestSecret(t *testing.T) {
	eachMethod(t, func(t *testing.T, open func(*testing.T, string) *Bucket) {
		b := open(t, t.TempDir())
		secret := storage.Secret(t.Context())
		mode := func(key string, want fs.FileMode) {
			t.Helper()
			info, err := os.Stat(b.disk.Path(key))
			if err != nil || info.Mode().Perm() != want {
				t.Errorf("%s: mode %v (%v), want %v", key, info.Mode(), err, want)
			}
		}
		for key, ctx := range map[string]context.Context{"open": t.Context(), "secret": secret} {
			if err := b.Create(ctx, key, []byte("x")); err != nil {
				t.Fatal(err)
			}
		}
		mode("open", disk.FilePerm)
		mode("secret", 0o600)
		if _, err := b.Get(t.Context(), "open", 0, -1); err != nil {
			t.Error(err)
		}
		mode("open", disk.FilePerm)
		if _, err := b.Get(secret, "open", 0, -1); err != nil {
			t.Error(err)
		}
		mode("open", 0o600)
		if _, err := b.Get(secret, "none", 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
}

// TestRowNames: no object is named like a file of a row's own.
func TestRowNames(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	folder := "0000/log/" + fmt.Sprintf("%020d", 1)
	for n := range 2 {
		if err := b.Create(t.Context(), fmt.Sprintf("%s/%020d", folder, n), nil); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"row", "close", "end", fmt.Sprintf("pack-%020d", 1), fmt.Sprintf("gone-%020d", 1)} {
		key := folder + "/" + name
		_, err := b.Get(t.Context(), key, 0, -1)
		for verb, err := range map[string]error{"get": err, "create": b.Create(t.Context(), key, nil), "delete": b.Delete(t.Context(), key)} {
			if !errors.Is(err, storage.ErrKey) {
				t.Errorf("%s %s: %v, want ErrKey", verb, key, err)
			}
		}
	}
	if keys, err := b.List(t.Context(), "", "", 10); err != nil || len(keys) != 2 {
		t.Errorf("listed %q, %v", keys, err)
	}
}

// TestVerify: a check of all that is at rest finds what Get and List need not read.
func TestVerify(t *testing.T) {
	dir := t.TempDir()
	below := mustOpen(t, dir)
	storage.SetLevel(below, 2)
	b := storage.Prefix(below, "x")
	storage.Sequences(b, "0000/log/")
	key := func(n int) string { return fmt.Sprintf("0000/log/%020d/%020d", 1, n) }
	const count = 12
	for n := range count {
		if err := b.Create(t.Context(), key(n), make([]byte, 100<<10)); err != nil {
			t.Fatal(err)
		}
	}
	below.Close()
	for _, changed := range []bool{false, true} {
		if changed {
			f, err := os.OpenFile(below.disk.Path(fmt.Sprintf("x/0000/log/%020d/pack-%020d", 1, 1)), os.O_RDWR, 0)
			if err == nil {
				_, err = f.WriteAt([]byte("W?RP"), 4096) // the head of the first group
			}
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
		}
		b := storage.Prefix(mustOpen(t, dir), "x")
		for n := range count {
			if _, err := b.Get(t.Context(), key(n), 0, -1); err != nil {
				t.Error(err)
			}
		}
		if err := storage.Verify(t.Context(), b, "0000/log/"); changed != errors.Is(err, storage.ErrDamaged) || !changed && err != nil {
			t.Errorf("a head was changed (%v): Verify returns %v", changed, err)
		}
	}
}
