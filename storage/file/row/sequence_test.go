package row

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage"
)

// mustOpenUntold opens a folder in a process that was not told which objects come in sequence.
func mustOpenUntold(t *testing.T, dir string) *folder {
	t.Helper()
	b := mustOpen(t, dir)
	b.sequences.Clear()
	return b
}

// TestUntoldObjects: an object whose key has the form of one in a row, and of which
// no process says that it comes in sequence, is an object like others.
func TestUntoldObjects(t *testing.T) {
	b := mustOpenUntold(t, t.TempDir())
	mustCreate(t, b, 1, 0)
	wantSlots(t, mustOpenUntold(t, b.disk.Root), 1, 0) // without 1 it is whole
	mustCreate(t, b, 1, 1, 2, 5)
	if err := b.Create(t.Context(), slot(1, 1), nil); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Create of 1 again: %v", err)
	}
	if err := b.Delete(t.Context(), slot(1, 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), slot(1, 2), 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of what was deleted: %v", err)
	}
	if all := files(t, b, 1, ""); len(all) != 3 {
		t.Errorf("files are %q", all)
	}
	if _, err := os.Stat(b.disk.Path(filepath.Dir(slot(1, 0)) + "/" + makerName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("there is a row: %v", err)
	}
	told := mustOpen(t, b.disk.Root)
	defer told.Close()
	mustCreate(t, told, 1, 6, 7)
	wantSlots(t, b, 1, 0, 1, 5, 6, 7)
}

// TestUntoldReader: a row that exists is a row for every process: its objects are found,
// listed and deleted, and their numbers are taken.
func TestUntoldReader(t *testing.T) {
	for level := 1; level <= 2; level++ {
		dir := t.TempDir()
		slots := rowAtRest(t, dir, level, false)
		slices.Sort(slots)
		b := small(mustOpenUntold(t, dir))
		for _, n := range slots {
			if got, err := b.Get(t.Context(), slot(1, n), 0, -1); err != nil || len(got) != page {
				t.Errorf("Get of %d: %d bytes, %v", n, len(got), err)
			}
			if err := b.Create(t.Context(), slot(1, n), nil); !errors.Is(err, storage.ErrExists) {
				t.Errorf("Create of %d, which is taken: %v", n, err)
			}
		}
		if keys, err := b.List(t.Context(), "", "", 100); err != nil || len(keys) != len(slots) {
			t.Errorf("listed %q, %v", keys, err)
		}
		if err := b.Delete(t.Context(), slot(1, 3)); err != nil {
			t.Fatal(err)
		}
		from := slot(1, 3)
		if got, err := b.Deleted(t.Context(), filepath.Dir(from)+"/", from); err != nil || got != from {
			t.Errorf("known to be deleted: %q, %v", got, err)
		}
		if err := b.Create(t.Context(), slot(1, 20), nil); err != nil {
			t.Fatal(err)
		}
		if all := files(t, b, 1, "*"+closeName); level == 2 && len(all) != 1 {
			t.Errorf("the row was not closed before somebody else created in it: %q", all)
		}
		told := small(mustOpen(t, dir))
		if _, err := told.Get(t.Context(), slot(1, 3), 0, -1); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of what was deleted: %v", err)
		}
		if _, err := told.Get(t.Context(), slot(1, 20), 0, -1); err != nil {
			t.Error(err)
		}
	}
}

// TestUntoldDamage: a row that has lost its file is damaged for every process.
func TestUntoldDamage(t *testing.T) {
	for level := 1; level <= 2; level++ {
		dir := t.TempDir()
		rowAtRest(t, dir, level, false)
		b := small(mustOpenUntold(t, dir))
		for _, name := range []string{rowName, makerName} {
			if err := os.Remove(b.disk.Path(filepath.Dir(slot(1, 0)) + "/" + name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		_, err := b.Get(t.Context(), slot(1, 3), 0, -1)
		_, listed := b.List(t.Context(), "", "", 100)
		for what, err := range map[string]error{"get": err, "list": listed, "create": b.Create(t.Context(), slot(1, 3), nil), "delete": b.Delete(t.Context(), slot(1, 3))} {
			if !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("level %d: %s: %v, want ErrDamaged", level, what, err)
			}
		}
	}
}

// TestUntoldRace: a process that was not told creates a file while another begins a row
// and takes the same number. It is not told that the number is its own, and its
// next Create tells it that it is not.
func TestUntoldRace(t *testing.T) {
	dir := t.TempDir()
	told, untold := mustOpen(t, dir), mustOpenUntold(t, dir)
	defer told.Close()
	sync := untold.disk.Sync
	untold.disk.Sync = func(f *os.File) error {
		if info, err := f.Stat(); err == nil && !info.IsDir() {
			untold.disk.Sync = sync
			mustCreate(t, told, 1, 0, 1)
		}
		return sync(f)
	}
	if err := untold.Create(t.Context(), slot(1, 1), []byte("mine")); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("the first Create: %v, want ErrUnknown", err)
	}
	if err := untold.Create(t.Context(), slot(1, 1), []byte("mine")); !errors.Is(err, storage.ErrExists) {
		t.Errorf("the second one: %v, want ErrExists", err)
	}
	for _, b := range []*folder{told, untold, mustOpen(t, dir)} {
		wantSlots(t, b, 1, 0, 1)
	}

	// A file keeps its number if the row's maker has not come to that number yet.
	again := mustOpenUntold(t, dir)
	again.disk.Sync = func(f *os.File) error {
		if info, err := f.Stat(); err == nil && !info.IsDir() {
			again.disk.Sync = sync
			mustCreate(t, told, 2, 0)
		}
		return sync(f)
	}
	if err := again.Create(t.Context(), slot(2, 1), body(slot(2, 1))); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("the first Create: %v, want ErrUnknown", err)
	}
	if err := told.Create(t.Context(), slot(2, 1), nil); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Create of the number that has a file: %v, want ErrExists", err)
	}
	wantSlots(t, told, 2, 0, 1)
}
