package row

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/crc"
)

// indexed makes a row of four packs of two groups each, see pages. It returns the paths
// of the packs.
func indexed(t *testing.T, dir string) []string {
	t.Helper()
	pages(t, dir, 8).Close()
	packs, err := filepath.Glob(filepath.Join(dir, "0000/log/*/pack-*"))
	if err != nil || len(packs) != 4 {
		t.Fatalf("packs are %q, %v", packs, err)
	}
	return packs
}

// wantIndexed checks that a new handle finds all slots of indexed, and of which packs it
// has read the index.
func wantIndexed(t *testing.T, dir string, want ...uint64) *folder {
	t.Helper()
	b := small(mustOpen(t, dir))
	wantPages(t, b, 8, func(uint64) bool { return true })
	r := b.rows["0000/log/"+formatNumber(1)]
	var got []uint64
	for _, p := range r.packs {
		if p.indexRead {
			got = append(got, p.number)
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("the indexes of packs %d were read, want %d", got, want)
	}
	return b
}

// TestIndex: a process that opens a row reads the index of each full pack, and the groups
// of the last one. It finds the same records.
func TestIndex(t *testing.T) {
	for _, closed := range []bool{false, true} {
		dir := t.TempDir()
		packs := indexed(t, dir)
		if closed {
			r, err := small(mustOpen(t, dir)).row("0000/log/" + formatNumber(1))
			if err != nil {
				t.Fatal(err)
			}
			if taken, err := r.takenOrClosed(9); taken || err != nil {
				t.Fatal(taken, err)
			}
		}
		with := wantIndexed(t, dir, 1, 2, 3).rows["0000/log/"+formatNumber(1)]
		if err := wantIndexed(t, dir, 1, 2, 3).Verify(t.Context(), "0000/log/"+formatNumber(1)); err != nil {
			t.Error(err)
		}
		for _, name := range packs {
			cutIndex(t, name)
		}
		without := wantIndexed(t, dir).rows["0000/log/"+formatNumber(1)]
		for i, p := range with.packs {
			if q := without.packs[i]; p.end != q.end || !slices.Equal(p.records, q.records) {
				t.Errorf("pack %d: with index %+v up to %d, without %+v up to %d", p.number, p.records, p.end, q.records, q.end)
			}
		}
	}
}

// cutIndex removes the index of a pack: the file is then as it was made before packs had
// one.
func cutIndex(t *testing.T, name string) {
	t.Helper()
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	h, err := decodePackHead(p)
	if err == nil {
		err = os.Truncate(name, h.size)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestIndexSpoilt: an index that is missing, torn, changed or another pack's is harmless,
// and hides no damage.
func TestIndexSpoilt(t *testing.T) {
	type change func(index, other []byte) []byte
	at := func(i int) change {
		return func(index, _ []byte) []byte { index[i]++; return index }
	}
	// resum gives a changed index a checksum that is right.
	resum := func(edit func(index []byte) []byte) func(index []byte, identity [16]byte) []byte {
		return func(index []byte, identity [16]byte) []byte {
			index = edit(index)
			binary.BigEndian.PutUint32(index[4:], indexSum(index, identity))
			return index
		}
	}
	cases := map[string]func(index, other []byte, identity [16]byte) []byte{
		"another pack's": func(_, other []byte, _ [16]byte) []byte { return other },
		"zeros":          func(index, _ []byte, _ [16]byte) []byte { return make([]byte, len(index)) },
		"too long": func(index, _ []byte, identity [16]byte) []byte {
			return resum(func(p []byte) []byte { binary.BigEndian.PutUint64(p[8:], 1<<62); return p })(index, identity)
		},
		"older": func(index, _ []byte, identity [16]byte) []byte {
			// Of the first group only.
			return resum(func(p []byte) []byte {
				p = p[:indexHeadSize+groupHeadSize+entrySize]
				binary.BigEndian.PutUint64(p[8:], groupHeadSize+entrySize)
				return p
			})(index, identity)
		},
		"newer": func(index, _ []byte, identity [16]byte) []byte {
			// A third group behind the end.
			return resum(func(p []byte) []byte {
				p = appendEntries(p, identity, 5*page, []record{{number: 99}})
				binary.BigEndian.PutUint64(p[8:], uint64(len(p)-indexHeadSize))
				return p
			})(index, identity)
		},
	}
	for i := range indexHeadSize + 2*(groupHeadSize+entrySize) {
		cases["byte "+formatNumber(uint64(i))] = func(index, other []byte, _ [16]byte) []byte { return at(i)(index, other) }
		cases["torn at "+formatNumber(uint64(i))] = func(index, _ []byte, _ [16]byte) []byte { return index[:i] }
	}
	dir := t.TempDir()
	packs := indexed(t, dir)
	raw := func(name string) ([]byte, packHead) {
		p, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		h, err := decodePackHead(p)
		if err != nil {
			t.Fatal(err)
		}
		return p, h
	}
	whole, h := raw(packs[1])
	other, o := raw(packs[2])
	if len(whole[h.size:]) != indexHeadSize+2*(groupHeadSize+entrySize) {
		t.Fatalf("the index has %d bytes", len(whole[h.size:]))
	}
	for name, edit := range cases {
		t.Run(name, func(t *testing.T) {
			p := append(bytes.Clone(whole[:h.size]), edit(bytes.Clone(whole[h.size:]), bytes.Clone(other[o.size:]), h.identity)...)
			write(t, packs[1], p)
			wantIndexed(t, dir, 1, 3)
			p[page+8]++ // the head of the first group
			write(t, packs[1], p)
			if _, err := small(mustOpen(t, dir)).Get(t.Context(), slot(1, 3), 0, -1); !errors.Is(err, storage.ErrDamaged) {
				t.Errorf("Get of a record whose group is damaged: %v", err)
			}
		})
	}
}

func write(t *testing.T, name string, p []byte) {
	t.Helper()
	if err := os.WriteFile(name, p, 0o640); err != nil {
		t.Fatal(err)
	}
}

// TestIndexVerify: a damaged head of a group is no loss while the index is whole, and
// Verify finds it. A damaged body is found by whoever reads it.
func TestIndexVerify(t *testing.T) {
	for _, at := range []int64{0, 5, 11, groupHeadSize, groupHeadSize + entrySize - 1} {
		dir := t.TempDir()
		packs := indexed(t, dir)
		p, err := os.ReadFile(packs[1])
		if err != nil {
			t.Fatal(err)
		}
		p[page+at]++
		p[3*page+groupHeadSize+entrySize]++ // the body of the other group
		write(t, packs[1], p)
		b := wantIndexed(t, dir, 1, 2, 3)
		for n := uint64(3); n <= 4; n++ {
			body, err := b.Get(t.Context(), slot(1, n), 0, -1)
			if err != nil || (crc.Sum(body) == crc.Sum(make([]byte, page))) != (n == 3) {
				t.Errorf("byte %d: Get of %d: a body with checksum %08x, %v", at, n, crc.Sum(body), err)
			}
		}
		if err := b.Verify(t.Context(), "0000/log/"+formatNumber(1)); !errors.Is(err, storage.ErrDamaged) {
			t.Errorf("byte %d of a group is changed: Verify returns %v", at, err)
		}
	}
}

// TestIndexBefore: testdata/unindexed was made before packs had an index. It is read, and
// records are deleted from it, as before.
func TestIndexBefore(t *testing.T) {
	dir := t.TempDir()
	b := mustOpen(t, dir)
	if err := os.CopyFS(b.disk.Path("0000/log/"+formatNumber(1)), os.DirFS("testdata/unindexed")); err != nil {
		t.Fatal(err)
	}
	for _, deleted := range [][]uint64{{2}, {2, 1}, {2, 1, 3, 4, 5}} {
		b := mustOpen(t, dir)
		for _, n := range deleted {
			if err := b.Delete(t.Context(), slot(1, n)); err != nil {
				t.Fatal(err)
			}
		}
		b = mustOpen(t, dir)
		for n := range uint64(9) {
			body, err := b.Get(t.Context(), slot(1, n), 0, -1)
			if slices.Contains(deleted, n) {
				if !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("Get of %d, which was deleted: %q, %v", n, body, err)
				}
			} else if err != nil || string(body) != fmt.Sprintf("slot %d", n) {
				t.Errorf("Get of %d: %q, %v", n, body, err)
			}
		}
		if err := b.Verify(t.Context(), "0000/log/"+formatNumber(1)); err != nil {
			t.Error(err)
		}
	}
}

// TestIndexOld: rows of version 1 get no index.
func TestIndexOld(t *testing.T) {
	dir := t.TempDir()
	b := small(mustOpen(t, dir))
	b.SetLevel(1)
	b.smallest, b.largest = 5*page, 5*page
	for n := range uint64(9) {
		if err := b.Create(t.Context(), slot(1, n), make([]byte, page)); err != nil {
			t.Fatal(err)
		}
	}
	b.Close()
	packs, err := filepath.Glob(filepath.Join(dir, "0000/log/*/.pack-*"))
	if err != nil || len(packs) != 4 {
		t.Fatalf("packs are %q, %v", packs, err)
	}
	for _, name := range packs {
		if info, err := os.Stat(name); err != nil || info.Size() != 5*page {
			t.Errorf("%s has %d bytes, %v", name, info.Size(), err)
		}
	}
	wantIndexed(t, dir)
}

// FuzzIndex: an index that is accepted is what its records encode to.
func FuzzIndex(f *testing.F) {
	id := [16]byte{4}
	one := []record{{number: 1, id: page + groupHeadSize, size: 10}}
	two := append(slices.Clone(one), record{number: 2, id: 2*page + groupHeadSize, size: page}, record{number: 3, id: 2*page + groupHeadSize + entrySize})
	f.Add(appendIndex(nil, id, one), int64(2*page))
	f.Add(appendIndex(nil, id, two), int64(4*page))
	f.Add([]byte{}, int64(0))
	f.Fuzz(func(t *testing.T, p []byte, limit int64) {
		all, ok := decodeIndex(p, id, limit)
		if !ok {
			return
		}
		if again := appendIndex(nil, id, all); !bytes.Equal(again, p[:len(again)]) {
			t.Errorf("%x became %x", p, again)
		}
	})
}
