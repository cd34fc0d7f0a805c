package row

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
)

// pages makes a row whose packs have two groups of a little more than a page. The number of a
// record that comes first in its pack is even; record 0 is a file.
func pages(t *testing.T, dir string, last uint64) *folder {
	t.Helper()
	b := small(mustOpen(t, dir))
	b.smallest, b.largest = 5*page, 5*page
	for n := range last + 1 {
		if err := b.Create(t.Context(), slot(1, n), make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	return b
}

// wantPages checks which numbers a handle finds, among all up to last.
func wantPages(t *testing.T, b *folder, last uint64, there func(n uint64) bool) {
	t.Helper()
	var want []string
	for n := range last + 1 {
		got, err := b.Get(t.Context(), slot(1, n), 0, -1)
		if there(n) {
			want = append(want, slot(1, n))
		}
		if there(n) && (err != nil || len(got) != page) || !there(n) && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of %d, which is there (%v): %d bytes, %v", n, there(n), len(got), err)
		}
	}
	if keys, err := b.List(t.Context(), "", "", 100); err != nil || !slices.Equal(keys, want) {
		t.Errorf("listed %q, %v, want %q", keys, err, want)
	}
}

// TestRowAnyOrder deletes records at random, through handles that made the row, know it,
// or were just opened. A pack is deleted with its last record, whichever packs are before it.
func TestRowAnyOrder(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	const last = 20
	for round := range 8 {
		dir := t.TempDir()
		maker := pages(t, dir, last)
		stale, other := small(mustOpen(t, dir)), small(mustOpen(t, dir))
		deleted := make(map[uint64]bool)
		there := func(n uint64) bool { return !deleted[n] }
		wantPages(t, stale, last, there)
		for i, n := range rng.Perm(last + 1) {
			if round%2 == 1 && i == last/2 { // from here on another handle has closed it
				if err := other.Create(t.Context(), slot(1, last+1), nil); err != nil {
					t.Fatal(err)
				}
				if err := other.Delete(t.Context(), slot(1, last+1)); err != nil {
					t.Fatal(err)
				}
			}
			by := []*folder{maker, other, small(mustOpen(t, dir))}[rng.IntN(3)]
			if err := by.Delete(t.Context(), slot(1, uint64(n))); err != nil {
				t.Fatal(err)
			}
			deleted[uint64(n)] = true
			for _, b := range []*folder{maker, stale, other, small(mustOpen(t, dir))} {
				wantPages(t, b, last, there)
			}
			left := make(map[uint64]bool) // packs, and the last one, which may stay
			left[last/2] = true
			for n := uint64(1); n <= last; n++ {
				if there(n) {
					left[(n+1)/2] = true
				}
			}
			for _, name := range files(t, maker, 1, packStem) {
				if number, ok := parseNumber(strings.TrimPrefix(filepath.Base(name), packStem)); !ok || !left[number] {
					t.Errorf("round %d, step %d, %d deleted by %v: %s is left, of %v", round, i, n, slices.Index([]*folder{maker, other}, by), name, left)
				}
			}
			if t.Failed() {
				return
			}
		}
		maker.Close()
	}
}

// TestRowOrderEnds: the end of a pack is known when the next one was removed: damage
// before it is not taken for records that were never finished.
func TestRowOrderEnds(t *testing.T) {
	for _, closed := range []bool{false, true} {
		dir := t.TempDir()
		b := pages(t, dir, 8)
		if closed {
			if err := mustOpen(t, dir).Create(t.Context(), slot(1, 9), nil); err != nil {
				t.Fatal(err)
			}
		}
		index := b.rows["0000/log/"+formatNumber(1)].index
		at := index[4]
		if at.pack.number != 2 || index[5].pack.number != 3 {
			t.Fatalf("4 is in pack %d, and 5 in pack %d", at.pack.number, index[5].pack.number)
		}
		if err := b.Delete(t.Context(), slot(1, 5), slot(1, 6)); err != nil {
			t.Fatal(err)
		}
		b.Close()
		if got := files(t, b, 1, packStem+formatNumber(3)); len(got) > 0 {
			t.Fatalf("%q is left", got)
		}
		name := filepath.Join(dir, filepath.Dir(slot(1, 0)), packStem+formatNumber(2))
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p[at.id]++                                                          // changes the head of its group, the last one
		if err := os.WriteFile(name, p[:at.pack.size], 0o640); err != nil { // without its index
			t.Fatal(err)
		}
		c := small(mustOpen(t, dir))
		for n, want := range map[uint64]error{2: nil, 3: nil, 4: storage.ErrDamaged, 7: nil, 8: nil} {
			if _, err := c.Get(t.Context(), slot(1, n), 0, -1); !errors.Is(err, want) {
				t.Errorf("Get of %d: %v, want %v", n, err, want)
			}
		}
	}
}

// TestRowOrderMarkFails: a pack whose mark is not durable stays.
func TestRowOrderMarkFails(t *testing.T) {
	b := pages(t, t.TempDir(), 8)
	defer b.Close()
	b.disk.Data = func(f *os.File) error {
		if filepath.Base(f.Name()) == rowName {
			return unix.EIO
		}
		return nil
	}
	if err := b.Delete(t.Context(), slot(1, 5), slot(1, 6)); !errors.Is(err, unix.EIO) {
		t.Errorf("Delete: %v, want EIO", err)
	}
	if got := files(t, b, 1, packStem+formatNumber(3)); len(got) != 1 {
		t.Error("the pack is gone, and it is not known to everybody that it was removed")
	}
}

// TestRowOrderCrash: a crash between the mark of a pack and its removal leaves all of its
// records, and they can be deleted again.
func TestRowOrderCrash(t *testing.T) {
	dir := t.TempDir()
	b := pages(t, dir, 8)
	r := b.rows["0000/log/"+formatNumber(1)]
	if err := r.mark(aloneKind(r.packs[2].before), r.packs[2].number); err != nil {
		t.Fatal(err)
	}
	b.Close()
	wantPages(t, small(mustOpen(t, dir)), 8, func(uint64) bool { return true })
	if err := small(mustOpen(t, dir)).Delete(t.Context(), slot(1, 5), slot(1, 6)); err != nil {
		t.Fatal(err)
	}
	wantPages(t, small(mustOpen(t, dir)), 8, func(n uint64) bool { return n != 5 && n != 6 })
}

// TestRowOrderAbsence: among packs that were removed in any order, one that is missing is
// damage, for handles that knew it and for others.
func TestRowOrderAbsence(t *testing.T) {
	dir := t.TempDir()
	b := pages(t, dir, 12)
	for _, n := range []uint64{5, 6, 9, 10} {
		if err := b.Delete(t.Context(), slot(1, n)); err != nil {
			t.Fatal(err)
		}
	}
	defer b.Close()
	there := func(n uint64) bool { return n != 5 && n != 6 && n != 9 && n != 10 }
	known := small(mustOpen(t, dir))
	wantPages(t, known, 12, there)
	packs := files(t, b, 1, packStem)
	if len(packs) != 4 {
		t.Fatalf("packs are %q", packs)
	}
	aside := filepath.Join(t.TempDir(), "pack")
	for _, name := range packs {
		if err := os.Rename(name, aside); err != nil {
			t.Fatal(err)
		}
		for i, b := range []*folder{known, small(mustOpen(t, dir))} {
			if _, err := b.List(t.Context(), "", "", 100); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("without %s: List of handle %d: %v, want ErrDamaged", name, i, err)
			}
			for n := uint64(1); n <= 12; n++ {
				_, err := b.Get(t.Context(), slot(1, n), 0, -1)
				if there(n) && errors.Is(err, fs.ErrNotExist) {
					t.Errorf("without %s: Get of %d by handle %d: %v", name, n, i, err)
				}
			}
		}
		if err := os.Rename(aside, name); err != nil {
			t.Fatal(err)
		}
		wantPages(t, small(mustOpen(t, dir)), 12, there)
	}
}

// TestRowOrderFollows: a handle that has read a row and reads on finds that a pack is
// missing which was begun since.
func TestRowOrderFollows(t *testing.T) {
	dir := t.TempDir()
	b := pages(t, dir, 4)
	defer b.Close()
	known := small(mustOpen(t, dir))
	wantPages(t, known, 4, func(uint64) bool { return true })
	for n := uint64(5); n <= 12; n++ {
		if err := b.Create(t.Context(), slot(1, n), make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(b.disk.Path(filepath.Dir(slot(1, 0)) + "/" + packStem + formatNumber(4))); err != nil {
		t.Fatal(err)
	}
	for n := uint64(7); n <= 12; n++ { // 7 and 8 were in it
		if _, err := known.Get(t.Context(), slot(1, n), 0, -1); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("Get of %d: %v, want ErrDamaged", n, err)
		}
	}
}
