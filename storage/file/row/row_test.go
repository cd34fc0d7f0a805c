package row

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/storagetest"
)

// slot returns the key of an object in a row.
func slot(row, number uint64) string {
	return "0000/log/" + formatNumber(row) + "/" + formatNumber(number)
}

// small makes a bucket's packs so small that new ones are begun and old ones used again all
// the time, and makes its syncs do nothing, for tests without power cuts.
func small(b *folder) *folder {
	b.smallest, b.largest = 3*page, 5*page
	b.disk.Sync = func(*os.File) error { return nil }
	b.disk.Data = b.disk.Sync
	return b
}

// names maps every key of the suite to a number of a row.
type names struct {
	mu      sync.Mutex
	numbers map[string]uint64 // guarded by mu
	keys    []string          // guarded by mu: by number
}

func (n *names) key(key string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	number, ok := n.numbers[key]
	if !ok {
		number = uint64(len(n.keys))
		n.numbers[key] = number
		n.keys = append(n.keys, key)
	}
	return slot(7, number)
}

// inRow is a bucket all of whose objects are in one row.
type inRow struct {
	*names
	below storage.Bucket
}

func (b inRow) Create(ctx context.Context, key string, body []byte) error {
	if err := storage.CheckKey(key); err != nil {
		return err
	}
	return b.below.Create(ctx, b.key(key), body)
}

func (b inRow) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := storage.CheckKey(key); err != nil {
		return nil, err
	}
	return b.below.Get(ctx, b.key(key), off, n)
}

func (b inRow) Delete(ctx context.Context, keys ...string) error {
	var in []string
	for _, key := range keys {
		if err := storage.CheckKey(key); err != nil {
			return err
		}
		in = append(in, b.key(key))
	}
	return b.below.Delete(ctx, in...)
}

func (b inRow) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := storage.CheckList(prefix, after); err != nil {
		return nil, err
	}
	in, err := b.below.List(ctx, "0000/log/", "", 1<<30)
	if err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	var keys []string
	for _, key := range in {
		_, number, _ := splitRow(key)
		if key := b.keys[number]; strings.HasPrefix(key, prefix) && key > after {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys[:min(max, len(keys))], nil
}

// TestRowBucket tests the whole contract with all objects in a row.
func TestRowBucket(t *testing.T) {
	for name, prepare := range map[string]func(*folder) *folder{
		"as it is":    func(b *folder) *folder { return b },
		"small packs": small,
		"version 1":   func(b *folder) *folder { b.SetLevel(1); return small(b) },
	} {
		t.Run(name, func(t *testing.T) {
			eachMethod(t, func(t *testing.T, open func(*testing.T, string) *folder) {
				pair := func(t *testing.T) (*folder, *folder, *names) {
					dir := t.TempDir()
					a, b := prepare(open(t, dir)), prepare(open(t, dir))
					t.Cleanup(func() { a.Close(); b.Close() })
					return a, b, &names{numbers: make(map[string]uint64)}
				}
				storagetest.RunShared(t, func(t *testing.T) (storage.Bucket, storage.Bucket) {
					a, b, n := pair(t)
					return inRow{n, a}, inRow{n, b}
				})
			})
		})
	}
}

// TestRowBucketAlone does the same through one handle, which stays the appender.
func TestRowBucketAlone(t *testing.T) {
	storagetest.Run(t, func(t *testing.T) storage.Bucket {
		b := mustOpen(t, t.TempDir())
		t.Cleanup(func() { b.Close() })
		return inRow{&names{numbers: make(map[string]uint64)}, b}
	})
}

// TestRowModel does the same things at random to a bucket in memory and to a
// folder, through several handles that come and go, and compares all answers.
func TestRowModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for round := range 60 {
		m := &model{t: t, rng: rng, want: mem.New(), dir: t.TempDir(), large: round%2 == 1}
		m.handles = []*folder{m.open(), m.open()}
		for range 150 {
			m.step()
		}
		for _, b := range m.handles {
			b.Close()
		}
	}
}

type model struct {
	t       *testing.T
	rng     *rand.Rand
	dir     string
	want    *mem.Bucket
	handles []*folder
	large   bool // packs have so many records that parts of them are given back
	made    int
}

func (m *model) open() *folder {
	b := small(mustOpen(m.t, m.dir))
	if m.large {
		b.smallest, b.largest = 24*page, 24*page
	}
	return b
}

func (m *model) key() string { return slot(uint64(m.rng.IntN(2)), uint64(m.rng.IntN(25))) }

func (m *model) step() {
	m.t.Helper()
	ctx := m.t.Context()
	b := m.handles[0]
	if m.rng.IntN(12) == 0 {
		b = m.handles[1] // closes the row that it creates in
	}
	switch m.rng.IntN(20) {
	default:
		m.made++
		key, body := m.key(), storagetest.Content(fmt.Sprint(m.made), m.rng.IntN(3*page))
		m.same("Create "+key, b.Create(ctx, key, body), m.want.Create(ctx, key, body))
	case 0, 1, 2, 3:
		keys := []string{m.key(), m.key(), m.key()}
		m.same("Delete", b.Delete(ctx, keys...), m.want.Delete(ctx, keys...))
	case 4, 5, 6:
		key, off, n := m.key(), int64(m.rng.IntN(page)), int64(m.rng.IntN(page)-1)
		got, err := m.handles[m.rng.IntN(2)].Get(ctx, key, off, n)
		want, wantErr := m.want.Get(ctx, key, off, n)
		m.same("Get "+key, err, wantErr)
		if !bytes.Equal(got, want) {
			m.t.Fatalf("Get(%s): %d bytes, want %d", key, len(got), len(want))
		}
	case 7, 8:
		prefix, after, most := m.key(), m.key(), 1+m.rng.IntN(30)
		prefix, after = prefix[:m.rng.IntN(len(prefix))], after[:m.rng.IntN(len(after))]
		got, err := m.handles[m.rng.IntN(2)].List(ctx, prefix, after, most)
		want, wantErr := m.want.List(ctx, prefix, after, most)
		m.same("List", err, wantErr)
		if !slices.Equal(got, want) {
			m.t.Fatalf("List(%q, %q, %d) = %q, want %q", prefix, after, most, got, want)
		}
	case 9:
		if i := m.rng.IntN(6); i < 2 {
			m.handles[i].Close()
			m.handles[i] = m.open()
		}
	}
}

func (m *model) same(what string, got, want error) {
	m.t.Helper()
	if (got == nil) != (want == nil) || errors.Is(got, storage.ErrExists) != errors.Is(want, storage.ErrExists) ||
		errors.Is(got, fs.ErrNotExist) != errors.Is(want, fs.ErrNotExist) || errors.Is(got, storage.ErrUnknown) {
		m.t.Fatalf("%s: %v, want %v", what, got, want)
	}
}

// files returns the names in the folder of a row that begin with stem.
func files(t *testing.T, b *folder, row uint64, stem string) []string {
	t.Helper()
	all, err := filepath.Glob(filepath.Join(b.disk.Path(filepath.Dir(slot(row, 0))), stem+"*"))
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func mustCreate(t *testing.T, b *folder, row uint64, numbers ...uint64) {
	t.Helper()
	for _, n := range numbers {
		if err := b.Create(t.Context(), slot(row, n), body(slot(row, n))); err != nil {
			t.Fatal(err)
		}
	}
}

// wantSlots checks that a row has those numbers and no others.
func wantSlots(t *testing.T, b *folder, row uint64, numbers ...uint64) {
	t.Helper()
	keys, err := b.List(t.Context(), filepath.Dir(slot(row, 0))+"/", "", 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for _, n := range numbers {
		want = append(want, slot(row, n))
		if got, err := b.Get(t.Context(), slot(row, n), 0, -1); err != nil || !bytes.Equal(got, body(slot(row, n))) {
			t.Errorf("Get(%s): %d bytes, %v", slot(row, n), len(got), err)
		}
	}
	if !slices.Equal(keys, want) {
		t.Errorf("row %d has %q, want %q", row, keys, want)
	}
}

func upTo(n uint64) (all []uint64) {
	for i := range n {
		all = append(all, i)
	}
	return all
}

// TestRowFiles checks which files hold the objects of a row, from the first one on.
func TestRowFiles(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	count := func(stem string, want int) {
		t.Helper()
		if got := files(t, b, 1, stem); len(got) != want {
			t.Errorf("%d files %s*, want %d: %q", len(got), stem, want, got)
		}
	}
	mustCreate(t, b, 1, 0)
	count(packStem, 0)
	count("0", 1)
	mustCreate(t, b, 1, 1, 2, 3)
	count(packStem, 1)
	count("0", 1)
	other := mustOpen(t, b.disk.Root)
	if err := other.Create(t.Context(), slot(1, 2), nil); !errors.Is(err, storage.ErrExists) {
		t.Error(err)
	}
	count(closeName, 0) // finding that a number is taken closes nothing
	mustCreate(t, other, 1, 4)
	count(closeName, 1)
	count(endName, 1)
	mustCreate(t, b, 1, 5)
	count("0", 3)
	wantSlots(t, mustOpen(t, b.disk.Root), 1, upTo(6)...)
	if err := b.Delete(t.Context(), slot(1, 1), slot(1, 2)); err != nil {
		t.Fatal(err)
	}
	count(goneStem, 1)
	for number, deleted := range []bool{true, true, true, false, false, false, false} {
		for _, handle := range []*folder{b, other} {
			from := slot(1, uint64(number))
			got, err := handle.Deleted(t.Context(), filepath.Dir(from)+"/", from)
			if err != nil || deleted != (got >= from) {
				t.Errorf("known to be deleted, from slot %d on: %q, %v", number, got, err)
			}
		}
	}
	if err := other.Delete(t.Context(), slot(1, 3)); err != nil {
		t.Fatal(err)
	}
	count(packStem, 0)
	count(goneStem, 0)
	wantSlots(t, b, 1, 0, 4, 5)
}

// TestRowUnion: objects that a bucket had as files before it had packs stay where they
// are, and their numbers stay taken.
func TestRowUnion(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	dir := b.disk.Path(filepath.Dir(slot(1, 0)))
	if err := os.MkdirAll(dir, disk.DirPerm); err != nil {
		t.Fatal(err)
	}
	for _, n := range []uint64{0, 1, 3} {
		if err := os.WriteFile(b.disk.Path(slot(1, n)), body(slot(1, n)), disk.FilePerm); err != nil {
			t.Fatal(err)
		}
	}
	wantSlots(t, b, 1, 0, 1, 3)
	mustCreate(t, b, 1, 2, 4, 5)
	for n := range uint64(6) {
		if err := b.Create(t.Context(), slot(1, n), nil); !errors.Is(err, storage.ErrExists) {
			t.Errorf("Create of %d, which is taken: %v", n, err)
		}
	}
	wantSlots(t, mustOpen(t, b.disk.Root), 1, upTo(6)...)
}

// TestRowRecycles: the files of deleted packs are written again, and what an
// earlier use left in them is not taken for records.
func TestRowRecycles(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	b.smallest, b.largest = 2*page, 4*page
	reused := 0
	for n := range uint64(60) {
		mustCreate(t, b, 1, n)
		b.spareMu.Lock()
		reused = max(reused, len(b.spares))
		b.spareMu.Unlock()
		if n < 5 {
			continue
		}
		if err := b.Delete(t.Context(), slot(1, n-5)); err != nil {
			t.Fatal(err)
		}
		wantSlots(t, mustOpen(t, b.disk.Root), 1, upTo(n + 1)[n-4:]...)
	}
	if reused == 0 {
		t.Error("no pack was kept for reuse")
	}
	if all := files(t, b, 1, packStem); len(all) > 8 {
		t.Errorf("%d packs are left", len(all))
	}
}

// TestRowRemoved: removing the folder of a row below a running
// bucket ends its appender; the next Create makes both again.
func TestRowRemoved(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	mustCreate(t, b, 1, 0, 1, 2)
	if err := os.RemoveAll(b.disk.Path("0000")); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), slot(1, 3), nil); err == nil || errors.Is(err, storage.ErrUnknown) {
		t.Errorf("the first Create: %v, want an error that says nothing happened", err)
	}
	for n := range uint64(2) { // the folder's name was cached, too
		err := b.Create(t.Context(), slot(1, 3), nil)
		if err == nil {
			break
		}
		if n == 1 || errors.Is(err, storage.ErrUnknown) {
			t.Fatal(err)
		}
	}
}

// TestRowGroups: Creates that wait for a sync share the next one.
func TestRowGroups(t *testing.T) {
	const waiting = 20
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	for n := range uint64(2) {
		if err := b.Create(t.Context(), slot(1, n), nil); err != nil {
			t.Fatal(err)
		}
	}
	w := b.rows["0000/log/"+formatNumber(1)].writer
	syncs, entered := 0, make(chan struct{})
	data := b.disk.Data
	b.disk.Data = func(f *os.File) error {
		if syncs++; syncs == 1 {
			close(entered)
		}
		for first := syncs == 1; first; runtime.Gosched() {
			w.mu.Lock()
			first = len(w.queue) < waiting
			w.mu.Unlock()
		}
		return data(f)
	}
	var wg sync.WaitGroup
	for n := range uint64(waiting + 1) {
		wg.Go(func() {
			if err := b.Create(t.Context(), slot(1, 2+n), []byte("small")); err != nil {
				t.Error(err)
			}
		})
		<-entered // so that the first one is alone
	}
	wg.Wait()
	if syncs != 2 {
		t.Errorf("%d syncs, want one for the first and one for all that came meanwhile", syncs)
	}
	if keys, err := mustOpen(t, b.disk.Root).List(t.Context(), "", "", 100); err != nil || len(keys) != waiting+3 {
		t.Errorf("%d objects (%v), want %d", len(keys), err, waiting+3)
	}
}

// TestRowReusesMany: the packs of a log whose upkeep was behind are deleted at once, and used
// again one after the other.
func TestRowReusesMany(t *testing.T) {
	const packs = 10
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	b.smallest, b.largest = 2*page, 2*page
	next := uint64(1)
	fill := func() (keys []string) {
		for range packs {
			keys = append(keys, slot(1, next))
			mustCreateSmall(t, b, next)
			next++
		}
		return keys
	}
	spares := func() int {
		b.spareMu.Lock()
		defer b.spareMu.Unlock()
		return len(b.spares)
	}
	mustCreateSmall(t, b, 0)
	first := fill()
	mustCreateSmall(t, b, next)
	next++
	if err := b.Delete(t.Context(), first...); err != nil {
		t.Fatal(err)
	}
	if n := spares(); n != packs {
		t.Errorf("%d of %d packs are kept", n, packs)
	}
	fill()
	if n := spares(); n > 1 { // the last one may have been taken for the pack that is prepared
		t.Errorf("%d packs were not used again", n)
	}
}

func mustCreateSmall(t *testing.T, b *folder, n uint64) {
	t.Helper()
	if err := b.Create(t.Context(), slot(1, n), []byte("small")); err != nil {
		t.Fatal(err)
	}
}

// TestPackSize: packs grow with what the row holds, and with its groups.
func TestPackSize(t *testing.T) {
	rows := New(nil)
	for _, test := range []struct{ held, group, want int64 }{
		{0, page, 256 << 10},
		{256 << 10, page, 512 << 10},
		{768 << 10, page, 1 << 20},
		{8<<20 - 1, page, 1 << 20},
		{8 << 20, page, 2 << 20},
		{24 << 20, page, 4 << 20},
		{128 << 20, page, 32 << 20},
		{1 << 40, page, 32 << 20},
		{0, 256 << 10, 1 << 20},
		{8 << 20, 256 << 10, 16 << 20},
		{16 << 20, 256 << 10, 32 << 20},
		{0, 512 << 10, 8 << 20},
		{0, 8 << 20, 32 << 20},
	} {
		if got := rows.packSize(test.held, test.group); got != test.want {
			t.Errorf("with %d bytes and groups of %d: %d, want %d", test.held, test.group, got, test.want)
		}
	}
}

// TestSpareSizes: the larger files are kept, and one that is too small is not used.
func TestSpareSizes(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	b.smallest, b.largest = page, 1<<50 // so that only minSpares are kept
	for i, size := range []int64{3, 1, 5, 2, 6, 4} {
		f, err := os.Create(b.disk.TempName())
		if err != nil {
			t.Fatal(err)
		}
		s := &blank{file: f, size: size * page, name: f.Name()}
		if !b.wantsSpare(s.size) && i < minSpares {
			t.Errorf("%d is not wanted", size)
		}
		b.keepSpare(s)
	}
	if b.wantsSpare(3 * page) {
		t.Error("one that is not larger than the smallest is wanted")
	}
	if s := b.takeSpare(7 * page); s != nil {
		t.Errorf("%d is used for 7", s.size/page)
	}
	var got []int64
	for s := b.takeSpare(page); s != nil; s = b.takeSpare(page) {
		got = append(got, s.size/page)
		s.drop()
	}
	if !slices.Equal(got, []int64{6, 5, 4, 3}) {
		t.Errorf("kept are %v", got)
	}
	if left, err := os.ReadDir(b.disk.TempDir()); err != nil || len(left) > 0 {
		t.Errorf("%d files are left (%v)", len(left), err)
	}
}

// TestSpareLimit: files that wait to be used again do not fill a disk.
func TestSpareLimit(t *testing.T) {
	for free, want := range map[int64]int{0: 4, 15 << 20: 4, 28 << 20: 7, 64 << 20: 16, 1 << 40: 16} {
		if got := spareLimit(free, 1<<20); got != want {
			t.Errorf("%d of 1 MiB with %d MiB free, want %d", got, free>>20, want)
		}
	}
}

// TestRowOldReader: a reader that has found a record before its pack was deleted, and
// reads it when the file is another pack, gets no bytes of that one.
func TestRowOldReader(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	b.smallest, b.largest = 2*page, 2*page
	text := func(n uint64) []byte { return []byte(fmt.Sprintf("this is %d", n)) }
	for n := range uint64(3) {
		if err := b.Create(t.Context(), slot(1, n), text(n)); err != nil {
			t.Fatal(err)
		}
	}
	old := mustOpen(t, b.disk.Root)
	if _, err := old.Get(t.Context(), slot(1, 1), 0, -1); err != nil {
		t.Fatal(err)
	}
	r := old.rows["0000/log/"+formatNumber(1)]
	at := r.index[1]
	f, err := os.Open(r.packPath(at.pack.number))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := r.same(f, at.pack); err != nil {
		t.Fatal(err)
	}
	if err := b.Delete(t.Context(), slot(1, 1)); err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), slot(1, 3), text(3)); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, at.size)
	if _, err := f.ReadAt(got, at.off); err != nil || string(got) != "this is 3" {
		t.Fatalf("the file has %q (%v): it was not used again", got, err)
	}
	if err := r.same(f, at.pack); !errors.Is(err, errPackRemoved) {
		t.Errorf("a file that has become another pack: %v, want errPackRemoved", err)
	}
	if _, err := old.Get(t.Context(), slot(1, 1), 0, -1); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Get of what was deleted: %v", err)
	}
}
