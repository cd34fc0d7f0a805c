package row

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
)

// rowAtRest makes a row of three packs, the first of which was deleted,
// and returns the slots that are there. With close, another handle has closed it.
func rowAtRest(t *testing.T, dir string, level int, close bool) (slots []uint64) {
	t.Helper()
	b := small(mustOpen(t, dir))
	b.SetLevel(level)
	defer b.Close()
	for n := range uint64(9) {
		if err := b.Create(t.Context(), slot(1, n), make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Delete(t.Context(), slot(1, 1), slot(1, 2)); err != nil { // the whole of pack 1
		t.Fatal(err)
	}
	if close {
		other := small(mustOpen(t, dir))
		if err := other.Create(t.Context(), slot(1, 9), []byte("seal")); err != nil {
			t.Fatal(err)
		}
		slots = append(slots, 9)
	}
	return append(slots, 0, 3, 4, 5, 6, 7, 8)
}

// TestRowAbsence removes one file after the other from a row at rest, and then
// all whose names begin with a dot. The slots that were in it are found, or every call
// returns that the bucket is damaged and names the file; no call returns "no object".
func TestRowAbsence(t *testing.T) {
	for level := 1; level <= 2; level++ {
		for _, close := range []bool{false, true} {
			t.Run(fmt.Sprintf("version %d, closed %v", level, close), func(t *testing.T) {
				dir := t.TempDir()
				slots := rowAtRest(t, dir, level, close)
				row := filepath.Join(dir, filepath.Dir(slot(1, 0)))
				entries, err := os.ReadDir(row)
				if err != nil {
					t.Fatal(err)
				}
				first, last := "", ""
				for _, e := range entries {
					if strings.Contains(e.Name(), packStem) {
						first, last = cmp.Or(first, e.Name()), e.Name()
					}
				}
				for _, e := range entries {
					if _, number := parseNumber(e.Name()); number {
						continue // an object: callers that list objects notice themselves that it is missing
					}
					// In version 1 nothing says which packs were removed, nor, of an
					// open row, how many there were.
					untold := level == 1 && (e.Name() == first || !close && e.Name() == last)
					t.Run(e.Name(), func(t *testing.T) { without(t, row, slots, untold, e.Name(), e.Name()) })
				}
				t.Run("dot files", func(t *testing.T) {
					var dots []string
					for _, e := range entries {
						if strings.HasPrefix(e.Name(), ".") {
							dots = append(dots, e.Name())
						}
					}
					without(t, row, slots, false, makerName, dots...)
				})
			})
		}
	}
}

// without removes files, looks for the slots, and puts the files back. An error
// must name the file blamed.
func without(t *testing.T, row string, slots []uint64, untold bool, blamed string, names ...string) {
	aside := t.TempDir()
	for _, name := range names {
		if err := os.Rename(filepath.Join(row, name), filepath.Join(aside, name)); err != nil {
			t.Fatal(err)
		}
	}
	b := small(mustOpen(t, filepath.Dir(filepath.Dir(filepath.Dir(row)))))
	lost, told := 0, 0
	for _, n := range slots {
		switch _, err := b.Get(t.Context(), slot(1, n), 0, -1); {
		case errors.Is(err, fs.ErrNotExist):
			lost++
		case errors.Is(err, storage.ErrDamaged):
			told++
			if !strings.Contains(err.Error(), strings.TrimPrefix(blamed, ".")) {
				t.Errorf("the error does not name %s: %v", blamed, err)
			}
			if err := b.Create(t.Context(), slot(1, n), nil); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("Create of slot %d: %v, want ErrDamaged", n, err)
			}
		case err != nil:
			t.Errorf("Get of slot %d: %v", n, err)
		}
	}
	keys, err := b.List(t.Context(), "0000/", "", 100)
	if listed := err == nil && len(keys) >= len(slots); !untold && listed == (told > 0) || err != nil && !errors.Is(err, storage.ErrDamaged) {
		t.Errorf("List gives %d of %d keys, %v; %d Gets failed", len(keys), len(slots), err, told)
	}
	if lost > 0 != untold {
		t.Errorf("%d slots are no objects, and nobody is told", lost)
	}
	b.Close()
	for _, name := range names {
		if err := os.Rename(filepath.Join(aside, name), filepath.Join(row, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRowCut: a pack that is shorter than it was made is damaged, whatever is left.
func TestRowCut(t *testing.T) {
	for _, close := range []bool{false, true} {
		dir := t.TempDir()
		slots := rowAtRest(t, dir, 2, close)
		packs, err := filepath.Glob(filepath.Join(dir, "0000/log/*/pack-*"))
		if err != nil || len(packs) == 0 {
			t.Fatal(packs, err)
		}
		for _, name := range packs {
			raw, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			h, err := decodePackHead(raw)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range []int64{0, 10, page, h.size - 1} {
				if err := os.Truncate(name, size); err != nil {
					t.Fatal(err)
				}
				for _, n := range slots {
					_, err := small(mustOpen(t, dir)).Get(t.Context(), slot(1, n), 0, -1)
					if err != nil && (!errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), name)) {
						t.Errorf("%s of %d bytes: slot %d: %v, want ErrDamaged with its name", name, size, n, err)
					}
				}
				if err := os.WriteFile(name, raw, disk.FilePerm); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestRowPlain: a folder of slots without a row, in which an empty epoch looks like one
// that has lost its packs, can be declared whole.
func TestRowPlain(t *testing.T) {
	dir := t.TempDir()
	b := mustOpen(t, dir)
	if err := os.MkdirAll(b.disk.Path(filepath.Dir(slot(1, 0))), disk.DirPerm); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.disk.Path(slot(1, 0)), body(slot(1, 0)), disk.FilePerm); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), slot(1, 1), 0, -1); !errors.Is(err, storage.ErrDamaged) || !strings.Contains(err.Error(), plainName) {
		t.Errorf("Get: %v, want ErrDamaged and the way on", err)
	}
	if err := os.WriteFile(b.disk.Path(plainName), nil, disk.FilePerm); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Get(t.Context(), slot(1, 1), 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get: %v, want no object", err)
	}
	mustCreate(t, b, 1, 1, 2)
	wantSlots(t, mustOpen(t, dir), 1, 0, 1, 2)
}

// TestRowReplaced: a pack's file that has become another one is no pack that comes and
// goes. A copy may have one, if it was taken while the file was used again.
func TestRowReplaced(t *testing.T) {
	for level := 1; level <= 2; level++ {
		for _, close := range []bool{false, true} {
			for _, of := range []uint64{2, 3} { // pack 1 was removed
				dir := t.TempDir()
				rowAtRest(t, dir, level, close)
				name := func(n uint64) string {
					all, err := filepath.Glob(filepath.Join(dir, filepath.Dir(slot(1, 0)), "*"+packStem+formatNumber(n)))
					if err != nil || len(all) != 1 {
						t.Fatalf("pack %d: %q, %v", n, all, err)
					}
					return all[0]
				}
				p, err := os.ReadFile(name(5 - of))
				if err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(name(of), p, disk.FilePerm); err != nil {
					t.Fatal(err)
				}
				b := small(mustOpen(t, dir))
				_, got := b.Get(t.Context(), slot(1, 2*of-1), 0, -1)
				_, listed := b.List(t.Context(), "", "", 100)
				for what, err := range map[string]error{"get": got, "list": listed} {
					if !errors.Is(err, storage.ErrDamaged) || errors.Is(err, errChanging) {
						t.Errorf("level %d, closed %v, pack %d: %s: %v, want ErrDamaged", level, close, of, what, err)
					}
				}
			}
		}
	}
}

// TestRowLeftover: a pack that was removed with all before it, and is still there after a
// crash, or in a copy, is none; and it goes with the next one.
func TestRowLeftover(t *testing.T) {
	for _, close := range []bool{false, true} {
		dir := t.TempDir()
		rowAtRest(t, dir, 2, close)
		name := filepath.Join(dir, filepath.Dir(slot(1, 0)), packStem+formatNumber(2))
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		b := small(mustOpen(t, dir))
		if err := b.Create(t.Context(), slot(1, 10), nil); err != nil {
			t.Fatal(err)
		}
		if err := b.Delete(t.Context(), slot(1, 3), slot(1, 4), slot(1, 5), slot(1, 6)); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, p, disk.FilePerm); err != nil {
			t.Fatal(err)
		}
		fresh := small(mustOpen(t, dir))
		for n := uint64(3); n <= 8; n++ {
			if _, err := fresh.Get(t.Context(), slot(1, n), 0, -1); errors.Is(err, fs.ErrNotExist) != (n < 7) || err != nil && n > 6 {
				t.Errorf("closed %v: Get of %d: %v", close, n, err)
			}
		}
		if keys, err := fresh.List(t.Context(), "", slot(1, 0), 100); err != nil || len(keys) < 3 || keys[0] != slot(1, 7) {
			t.Errorf("closed %v: listed %q, %v", close, keys, err)
		}
		if err := fresh.Delete(t.Context(), slot(1, 7), slot(1, 8)); err != nil {
			t.Fatal(err)
		}
		if all := files(t, fresh, 1, packStem); len(all) > 0 {
			t.Errorf("closed %v: left are %q", close, all)
		}
	}
}
