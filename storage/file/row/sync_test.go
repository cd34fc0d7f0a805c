package row

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
)

// TestRowSyncFails: a group that could not be synced is unknown, and ends all
// writing through the handle.
func TestRowSyncFails(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	mustCreate(t, b, 1, 0, 1)
	honest := b.disk.Data
	b.disk.Data = func(*os.File) error { return unix.EIO }
	if err := b.Create(t.Context(), slot(1, 2), nil); !errors.Is(err, storage.ErrUnknown) || !errors.Is(err, unix.EIO) {
		t.Errorf("Create that was not synced: %v, want EIO and ErrUnknown", err)
	}
	b.disk.Data = honest
	for _, key := range []string{slot(1, 2), slot(1, 3), slot(2, 0), "other"} {
		if err := b.Create(t.Context(), key, nil); err == nil || errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrUnknown) {
			t.Errorf("Create(%s) after that: %v, want a refusal", key, err)
		}
	}
	if err := b.Delete(t.Context(), slot(1, 0)); err == nil {
		t.Error("Delete after that: no error")
	}
	wantSlots(t, b, 1, 0, 1)

	// From now on all get the same answer about the unknown one.
	c := mustOpen(t, b.disk.Root)
	if err := c.Create(t.Context(), slot(1, 2), nil); !errors.Is(err, storage.ErrExists) {
		t.Errorf("Create of the unknown one: %v, want ErrExists: it had been written", err)
	}
}

// TestRowDeleteFails: a deletion that is written and not synced is unknown.
func TestRowDeleteFails(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	mustCreate(t, b, 1, 0, 1, 2)
	b.disk.Data = func(*os.File) error { return unix.EIO }
	if err := b.Delete(t.Context(), slot(1, 1)); !errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Delete: %v, want ErrUnknown", err)
	}
	if err := b.Delete(t.Context(), slot(1, 2)); err == nil || errors.Is(err, storage.ErrUnknown) {
		t.Errorf("Delete after that: %v, want a refusal", err)
	}
}

// TestFreezeSyncs: .close is durable before packs are read, packs are durable before
// .end is created, and .end is durable before the object that closes the row.
func TestFreezeSyncs(t *testing.T) {
	dir := t.TempDir()
	a, c := mustOpen(t, dir), mustOpen(t, dir)
	defer a.Close()
	mustCreate(t, a, 1, 0, 1)
	mustCreate(t, c, 2, 0) // so that the names above are known to be durable
	var got []string
	note := func(f *os.File) {
		var there []string
		for _, name := range []string{closeName, endName, formatNumber(2)} {
			if len(files(t, c, 1, name)) > 0 {
				there = append(there, name)
			}
		}
		what := "content"
		if info, err := f.Stat(); err == nil && info.IsDir() {
			if what = "folder"; f.Name() != filepath.Dir(c.disk.Path(slot(1, 0))) {
				return
			}
		} else if strings.Contains(f.Name(), packStem) {
			what = "pack"
		}
		got = append(got, what+" "+strings.Join(there, " "))
	}
	c.disk.Sync = func(f *os.File) error { note(f); return f.Sync() }
	data := c.disk.Data
	c.disk.Data = func(f *os.File) error { note(f); return data(f) }
	mustCreate(t, c, 1, 2)
	want := []string{
		"folder close", "pack close", "folder close", "content close", "folder close end", // the row
		"content close end", "folder close end " + formatNumber(2), // the object
	}
	if strings.Join(got, "; ") != strings.Join(want, "; ") {
		t.Errorf("synced\n%q, want\n%q", got, want)
	}
}
