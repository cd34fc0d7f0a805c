package row

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
)

// Rows of these tests have packs of ten records, each of which has five whole pages of
// its own besides the page of its head.
const (
	holeBody = 5 * page
	holePack = 61 * page
	perPack  = 10
)

func openHoles(t *testing.T, dir string) *folder {
	t.Helper()
	b := mustOpen(t, dir)
	b.smallest, b.largest = holePack, holePack
	t.Cleanup(b.Close)
	return b
}

// text is the body of a record; no page of it is all zeros.
func text(n uint64) []byte { return bytes.Repeat([]byte{byte(n), 1}, holeBody/2) }

// kept reports whether a record stays when those around it are deleted.
func kept(n uint64) bool { return n == 0 || n%7 == 0 }

func createTexts(t *testing.T, b *folder, from, to uint64) {
	t.Helper()
	for n := from; n <= to; n++ {
		if err := b.Create(t.Context(), slot(1, n), text(n)); err != nil {
			t.Fatal(err)
		}
	}
}

// deleteTexts deletes the records that are not kept, some at a time.
func deleteTexts(t *testing.T, b *folder, from, to uint64) {
	t.Helper()
	var keys []string
	for n := from; n <= to; n++ {
		if !kept(n) {
			keys = append(keys, slot(1, n))
		}
	}
	for some := range slices.Chunk(keys, 4) {
		if err := b.Delete(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
	}
}

// wantTexts checks that of the records up to last those are there that were not deleted,
// and that the others are known to be deleted.
func wantTexts(t *testing.T, b *folder, deleted, last uint64) {
	t.Helper()
	var want []string
	for n := range last + 1 {
		got, err := b.Get(t.Context(), slot(1, n), 0, -1)
		if n > deleted || kept(n) {
			want = append(want, slot(1, n))
			if err != nil || !bytes.Equal(got, text(n)) {
				t.Errorf("Get of %d: %d bytes, %v", n, len(got), err)
			}
		} else if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Get of %d, which was deleted: %d bytes, %v", n, len(got), err)
		}
	}
	if keys, err := b.List(t.Context(), "", "", 1000); err != nil || !slices.Equal(keys, want) {
		t.Errorf("listed %q, %v", keys, err)
	}
	if got, err := b.Deleted(t.Context(), filepath.Dir(slot(1, 1))+"/", slot(1, 1)); err != nil || got == "" {
		t.Errorf("known to be deleted: %q, %v", got, err)
	}
}

// pagesUsed returns how many pages of the disk the packs take.
func pagesUsed(t *testing.T, b *folder) (pages int64) {
	t.Helper()
	for _, name := range files(t, b, 1, packStem) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		n, err := disk.Used(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		pages += n / page
	}
	return pages
}

// needsHoles skips a test where the file system has no holes.
func needsHoles(t *testing.T) {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(make([]byte, 4*page)); err != nil {
		t.Fatal(err)
	}
	err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, page, page)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP) && os.Getenv("WEIR_REQUIRE_SERVICES") != "1":
		t.Skipf("SKIPPED: the file system of %s has no holes", f.Name())
	case err != nil:
		t.Fatal(err)
	}
}

// wantFreed checks that the records that were deleted, up to one of them, take no whole
// page any more. The file system may need a page for each pack to record that.
func wantFreed(t *testing.T, b *folder, before int64, deleted uint64) {
	t.Helper()
	var gone int64
	for n := range deleted + 1 {
		if !kept(n) {
			gone += holeBody / page
		}
	}
	if got := before - pagesUsed(t, b); got > gone || got < gone-min(gone, int64(len(files(t, b, 1, packStem)))) {
		t.Errorf("%d pages were given back, want %d", got, gone)
	}
}

// TestHoles: the space of deleted records is given back while others in their packs are
// kept. Nothing else changes, in a copy either.
func TestHoles(t *testing.T) {
	needsHoles(t)
	b := openHoles(t, t.TempDir())
	createTexts(t, b, 0, 4*perPack+5)
	before := pagesUsed(t, b)
	deleteTexts(t, b, 1, 4*perPack)
	wantFreed(t, b, before, 4*perPack)
	wantTexts(t, b, 4*perPack, 4*perPack+5)
	wantTexts(t, openHoles(t, b.disk.Root), 4*perPack, 4*perPack+5)

	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(b.disk.Root)); err != nil {
		t.Fatal(err)
	}
	again := openHoles(t, dir)
	if n := pagesUsed(t, again); n < before {
		t.Errorf("the copy takes %d pages, of %d: it has holes", n, before)
	}
	wantTexts(t, again, 4*perPack, 4*perPack+5)

	for n := uint64(7); n <= 4*perPack; n += 7 {
		if err := b.Delete(t.Context(), slot(1, n)); err != nil {
			t.Fatal(err)
		}
	}
	if all := files(t, b, 1, packStem); len(all) != 1 {
		t.Errorf("packs that are left: %q", all)
	}
	if len(b.spares) > 0 {
		t.Errorf("%d files with holes are used again", len(b.spares))
	}
}

// TestHolesClosed does the same in a process that closes the row.
func TestHolesClosed(t *testing.T) {
	needsHoles(t)
	b := openHoles(t, t.TempDir())
	createTexts(t, b, 0, 2*perPack+5)
	before := pagesUsed(t, b)
	c := openHoles(t, b.disk.Root)
	punched := 0
	c.disk.Punch = func(*os.File, int64, int64) error { punched++; return nil }
	deleteTexts(t, c, 1, 10)
	if punched > 0 {
		t.Errorf("%d holes in an open row of another process", punched)
	}
	c = openHoles(t, b.disk.Root)
	createTexts(t, c, 2*perPack+6, 2*perPack+6)
	deleteTexts(t, c, 11, 2*perPack+5)
	wantFreed(t, c, before, 2*perPack+5)
	wantTexts(t, c, 2*perPack+5, 2*perPack+6)
	wantTexts(t, openHoles(t, c.disk.Root), 2*perPack+5, 2*perPack+6)
}

// TestHolesAtFront: where all records are deleted from the oldest on, there are no
// holes, and files are used again. So it is in version 1, and if most records are kept.
func TestHolesAtFront(t *testing.T) {
	for _, test := range []struct {
		level int
		keep  func(n uint64) bool
	}{
		{2, func(uint64) bool { return false }},
		{1, func(n uint64) bool { return n == 0 || n%7 == 0 }},
		{2, func(n uint64) bool { return n == 0 || n%7 < 5 }},
	} {
		b := openHoles(t, t.TempDir())
		b.SetLevel(test.level)
		b.disk.Punch = func(f *os.File, off, n int64) error {
			t.Errorf("level %d: a hole of %d at %d of %s", test.level, n, off, f.Name())
			return nil
		}
		createTexts(t, b, 0, 3*perPack+5)
		for n := uint64(1); n <= 3*perPack; n++ {
			if !test.keep(n) {
				if err := b.Delete(t.Context(), slot(1, n)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if !test.keep(1) && test.level == 2 && len(b.spares) != 3 {
			t.Errorf("%d of 3 files are used again", len(b.spares))
		}
	}
}

// TestHolesAfterCrash: a process that ended between the mark and the hole leaves the
// space in use. The next process gives it back when it deletes, or fills a row of its own.
func TestHolesAfterCrash(t *testing.T) {
	needsHoles(t)
	for _, fills := range []bool{false, true} {
		b := openHoles(t, t.TempDir())
		b.disk.Punch = func(*os.File, int64, int64) error { return unix.ENOSPC }
		createTexts(t, b, 0, 3*perPack+5)
		before := pagesUsed(t, b)
		deleteTexts(t, b, 1, 3*perPack)
		wantFreed(t, b, before, 0)
		c := openHoles(t, b.disk.Root)
		createTexts(t, c, 3*perPack+6, 3*perPack+6) // closes the row
		if fills {
			for n := range uint64(2) {
				if err := c.Create(t.Context(), slot(2, n), text(n)); err != nil {
					t.Fatal(err)
				}
			}
			c.wg.Wait() // sweepOthers was begun with the first pack
		} else {
			deleteTexts(t, c, 3*perPack+1, 3*perPack+1) // most of the last pack is kept
		}
		wantFreed(t, c, before, 3*perPack)
		r := c.rows["0000/log/"+formatNumber(1)]
		for _, p := range r.packs { // as in a process that has just started
			p.deleted = true
		}
		c.disk.Punch = func(*os.File, int64, int64) error {
			t.Error("holes that are there are punched again")
			return nil
		}
		if err := r.punchHoles(); err != nil {
			t.Error(err)
		}
	}
}

// TestHoleFaults: a hole is punched only when the mark is durable. A hole that cannot be
// punched harms nothing.
func TestHoleFaults(t *testing.T) {
	honest := func(f *os.File, off, n int64) error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, off, n)
	}
	for _, test := range []struct {
		name  string
		sync  error // of gone-N
		punch error
		calls string // how many times Punch is called
	}{
		{"the mark is not durable", unix.EIO, nil, "never"},
		{"no holes", nil, unix.EOPNOTSUPP, "once"},
		{"the disk fails", nil, unix.EIO, "once"},
		{"no room for metadata", nil, unix.ENOSPC, "again"},
	} {
		for _, applied := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, applied %v", test.name, applied), func(t *testing.T) {
				b := openHoles(t, t.TempDir())
				createTexts(t, b, 0, 2*perPack+5)
				calls := 0
				b.disk.Punch = func(f *os.File, off, n int64) error {
					calls++
					if applied {
						_ = honest(f, off, n)
					}
					return test.punch
				}
				data := b.disk.Data
				b.disk.Data = func(f *os.File) error {
					if test.sync == nil || applied {
						_ = data(f)
					}
					if test.sync != nil {
						return test.sync
					}
					return nil
				}
				var failed error
				for n := uint64(1); n <= perPack && failed == nil; n++ {
					if !kept(n) {
						failed = b.Delete(t.Context(), slot(1, n))
					}
				}
				if errors.Is(failed, storage.ErrUnknown) != (test.sync != nil) {
					t.Errorf("Delete: %v", failed)
				}
				if ok := map[string]bool{"never": calls == 0, "once": calls == 1, "again": calls > 1}[test.calls]; !ok {
					t.Errorf("Punch was called %d times, want %s", calls, test.calls)
				}
				if b.noHoles.Load() != (test.calls == "once") {
					t.Errorf("no more holes are tried: %v", b.noHoles.Load())
				}
				c := openHoles(t, b.disk.Root)
				deleteTexts(t, c, 1, 2*perPack)
				createTexts(t, c, 2*perPack+6, 2*perPack+6)
				wantTexts(t, c, 2*perPack, 2*perPack+6)
			})
		}
	}
}

// TestHoleGetRemoved: a Get that has read zeros from a hole finds out that the record is
// deleted, even if all of the pack was removed meanwhile, with the marks.
func TestHoleGetRemoved(t *testing.T) {
	needsHoles(t)
	b := openHoles(t, t.TempDir())
	createTexts(t, b, 0, perPack+1)
	deleteTexts(t, b, 1, perPack-2)
	reader := openHoles(t, b.disk.Root)
	if _, err := reader.Get(t.Context(), slot(1, 7), 0, -1); err != nil {
		t.Fatal(err)
	}
	r := reader.rows["0000/log/"+formatNumber(1)]
	at := r.index[perPack-1]
	deleteTexts(t, b, perPack-1, perPack-1)
	got, err := r.read(at, page, page)
	if err != nil || !bytes.Equal(got, make([]byte, page)) {
		t.Fatalf("the file has %d bytes there, %v; want zeros", len(got), err)
	}
	if err := b.Delete(t.Context(), slot(1, 7), slot(1, perPack)); err != nil {
		t.Fatal(err)
	}
	if all := files(t, b, 1, "*-"); len(all) != 1 {
		t.Fatalf("left are %q", all)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, found, err := r.find(perPack - 1); found || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
}

// TestHoleOrReuse: no file gets holes while it becomes another pack, and none becomes
// one while it gets holes.
func TestHoleOrReuse(t *testing.T) {
	for _, reused := range []bool{false, true} {
		b := openHoles(t, t.TempDir())
		createTexts(t, b, 0, perPack+1)
		f, err := os.Open(files(t, b, 1, packStem)[0])
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		how, punched := unix.LOCK_SH, 0
		if reused {
			how = unix.LOCK_EX
		}
		if locked, err := disk.TryLock(f, how); !locked || err != nil {
			t.Fatalf("lock: %v, %v", locked, err)
		}
		b.disk.Punch = func(*os.File, int64, int64) error { punched++; return nil }
		if reused {
			deleteTexts(t, b, 1, perPack)
		} else {
			for n := range uint64(perPack) {
				if err := b.Delete(t.Context(), slot(1, n+1)); err != nil {
					t.Fatal(err)
				}
			}
		}
		if punched > 0 || len(b.spares) > 0 {
			t.Errorf("file in use by another process (%v): %d holes, used again %d times", reused, punched, len(b.spares))
		}
	}
}

// TestHolesLater: a pack whose last record is kept gets its holes when deletion has come
// to a later pack, even if that one is removed. A hole that could not be punched is punched by
// the next Delete.
func TestHolesLater(t *testing.T) {
	for _, later := range []uint64{1, perPack} { // records of the second pack that are deleted
		b := openHoles(t, t.TempDir())
		createTexts(t, b, 0, 2*perPack+5)
		full, punched := true, 0
		b.disk.Punch = func(*os.File, int64, int64) error {
			if full {
				return unix.ENOSPC
			}
			punched++
			return nil
		}
		remove := func(from, to uint64) {
			t.Helper()
			var keys []string
			for n := from; n <= to; n++ {
				keys = append(keys, slot(1, n))
			}
			if err := b.Delete(t.Context(), keys...); err != nil {
				t.Fatal(err)
			}
		}
		full = false
		remove(1, perPack-1)
		if punched > 0 {
			t.Errorf("%d holes before deletion has passed the record that is kept", punched)
		}
		full = true
		remove(perPack+1, perPack+later)
		full = false
		remove(1, 1) // already deleted
		if punched != perPack-1 {
			t.Errorf("%d holes, want %d", punched, perPack-1)
		}
	}
}

// TestHolesAtOnce: one Delete is enough.
func TestHolesAtOnce(t *testing.T) {
	b := openHoles(t, t.TempDir())
	createTexts(t, b, 0, 2*perPack+1)
	punched := 0
	b.disk.Punch = func(*os.File, int64, int64) error { punched++; return nil }
	keys := []string{slot(1, 2*perPack+1)}
	for n := range uint64(perPack - 1) {
		keys = append(keys, slot(1, perPack+1+n))
	}
	for _, some := range [][]string{{slot(1, 0)}, keys} { // first the first pack stays
		if err := b.Delete(t.Context(), some...); err != nil {
			t.Fatal(err)
		}
	}
	if punched != perPack-1 {
		t.Errorf("%d holes, want %d", punched, perPack-1)
	}
}

// TestHolePages: holes are whole pages, and contain no part of a record that is kept, nor
// of the head of a group.
func TestHolePages(t *testing.T) {
	// A group has 3 records whose bodies are back to back; another one has a record.
	const head, second = groupHeadSize + 3*entrySize, page + 8*page
	p := &pack{records: []record{
		{id: page + 16, off: page + head, size: 2 * page},
		{id: page + 32, off: page + head + 2*page, size: 3 * page},
		{id: page + 48, off: page + head + 5*page, size: 2*page - 1},
		{id: second + 16, off: second + 32, size: 100},
	}}
	for _, test := range []struct {
		gone []int
		want []hole
	}{
		{nil, nil},
		{[]int{0}, []hole{{2 * page, 3 * page}}},
		{[]int{1}, []hole{{4 * page, 6 * page}}},
		{[]int{2}, []hole{{7 * page, 9 * page}}}, // with the zeros after it
		{[]int{0, 1}, []hole{{2 * page, 6 * page}}},
		{[]int{0, 2}, []hole{{2 * page, 3 * page}, {7 * page, 9 * page}}},
		{[]int{0, 1, 2, 3}, []hole{{2 * page, 9 * page}}},
		{[]int{3}, nil}, // all of it is in the page of its head
	} {
		p.gone = nil
		for _, i := range test.gone {
			p.gone = p.gone.with(extent{p.records[i].id, p.records[i].id + entrySize})
		}
		if got := p.holes(); !slices.Equal(got, test.want) {
			t.Errorf("without %v: holes %v, want %v", test.gone, got, test.want)
		}
	}
}

// TestHolesRace creates, deletes and reads at once, through several handles. Whoever
// reads gets the whole record, or hears that it does not exist if it was to be deleted.
func TestHolesRace(t *testing.T) {
	b := openHoles(t, t.TempDir())
	b.disk.Sync = func(*os.File) error { return nil }
	b.disk.Data = b.disk.Sync
	const last, lag = 600, 3 * perPack
	var made, deleting atomic.Uint64
	var wg sync.WaitGroup
	wg.Go(func() {
		for n := range uint64(last + 1) {
			if err := b.Create(t.Context(), slot(1, n), text(n)); err != nil {
				t.Error(err)
			}
			made.Store(n + 1)
			if n < lag || kept(n-lag) {
				continue
			}
			deleting.Store(n - lag)
			if err := b.Delete(t.Context(), slot(1, n-lag)); err != nil {
				t.Error(err)
			}
		}
	})
	for i := range 4 {
		reader := b
		if i%2 == 0 {
			reader = openHoles(t, b.disk.Root)
		}
		rng := rand.New(rand.NewPCG(uint64(i), 0))
		wg.Go(func() {
			for made.Load() <= last && !t.Failed() {
				n := deleting.Load() + rng.Uint64N(4) // most likely about to be deleted
				if n >= made.Load() {
					runtime.Gosched()
					continue
				}
				got, err := reader.Get(t.Context(), slot(1, n), 0, -1)
				if errors.Is(err, fs.ErrNotExist) && n <= deleting.Load() && !kept(n) {
					continue
				}
				if err != nil || !bytes.Equal(got, text(n)) {
					t.Errorf("Get of %d: %d bytes, %v", n, len(got), err)
				}
			}
		})
	}
	wg.Wait()
}
