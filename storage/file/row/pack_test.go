package row

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/file/disk"
)

// appendGroup encodes a whole group.
func appendGroup(identity [16]byte, off int64, creates []*creation) ([]byte, group) {
	p, g := appendHead(nil, identity, off, creates)
	for _, c := range creates {
		p = append(p, c.body...)
	}
	return append(p, make([]byte, g.next-off-int64(len(p)))...), g
}

func fuzzGroup(bodies ...string) []byte {
	var creates []*creation
	for i, b := range bodies {
		creates = append(creates, &creation{number: uint64(i) * 7, body: []byte(b), sum: crc.Sum([]byte(b))})
	}
	p, _ := appendGroup([16]byte{1}, page, creates)
	return p
}

// FuzzGroup: bytes that decode as a group are what that group encodes to.
func FuzzGroup(f *testing.F) {
	f.Add(fuzzGroup(""))
	f.Add(fuzzGroup("one", "", "three"))
	f.Add(fuzzGroup(strings.Repeat("x", 3*page)))
	f.Add(fuzzGroup(make([]string, 300)...))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, p []byte) {
		g, ok := decodeGroup(p, [16]byte{1}, page, 1<<40)
		if !ok {
			return
		}
		var creates []*creation
		for _, rec := range g.records {
			if rec.off < page || rec.size > 1<<32 || rec.off+rec.size > g.next {
				t.Fatalf("%+v is not within %d…%d", rec, g.off, g.next)
			}
			if rec.off-page+rec.size > int64(len(p)) {
				return // only its head
			}
			creates = append(creates, &creation{number: rec.number, body: p[rec.off-page:][:rec.size], sum: rec.crc})
		}
		_, h := appendGroup([16]byte{1}, page, creates)
		if h.next != g.next || len(h.records) != len(g.records) {
			t.Fatalf("%+v became %+v", g, h)
		}
		for i, rec := range h.records { // except for the checksums of bodies
			if rec.number != g.records[i].number || rec.off != g.records[i].off || rec.id != g.records[i].id {
				t.Fatalf("%+v became %+v", g, h)
			}
		}
	})
}

// FuzzRowFiles: the small files of a row.
func FuzzRowFiles(f *testing.F) {
	id := [16]byte{2}
	head := packHead{row: id, identity: [16]byte{3}, number: 4, before: page, size: 2 * page}
	gone := appendGone(appendGone(nil, id, extent{16, 32}), id, extent{48, 80})
	for _, p := range [][]byte{encodeRow(id, 1), encodeRow(id, 2), appendMark(appendMark(appendMark(nil, id, markBegun, 3), id, markRemoved, 1), id, aloneKind(3*page), 3), encodeEnd(rowEnd{3, 8192}, id), encodePackHead(head), gone, gone[5:], {}} {
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if row, v, err := decodeRow(p); err == nil && !bytes.Equal(encodeRow(row, v), p[:rowSize]) {
			t.Error("not the same .row")
		}
		if end, err := decodeEnd(p, id); err == nil && !bytes.Equal(encodeEnd(end, id), p[:endSize]) {
			t.Error("not the same .end")
		}
		if h, err := decodePackHead(p); err == nil && !bytes.Equal(encodePackHead(h)[:packHeadSize], p[:packHeadSize]) {
			t.Error("not the same head")
		}
		if m, _ := decodeMarks(p, id, marks{}); len(p) < markSize && (m.begun > 0 || m.removed > 0 || m.alone != nil) {
			t.Errorf("%v in %d bytes", m, len(p))
		}
		found, used := decodeGone(p, id)
		if used > len(p) || used < len(found)*goneSize {
			t.Errorf("%d extents in %d of %d bytes", len(found), used, len(p))
		}
		var all extents
		for _, s := range found {
			all = all.with(s)
			if !all.has(s.from) || !all.has(s.to-1) {
				t.Errorf("%v lacks %v", all, s)
			}
		}
		if !slices.IsSortedFunc(all, func(a, b extent) int { return int(a.to - b.from) }) {
			t.Errorf("%v touch", all)
		}
	})
}

// TestGroupElsewhere: the bytes of a group are not a group in another place, which they
// can get to in an object that contains a copy of a pack, nor in another pack.
func TestGroupElsewhere(t *testing.T) {
	p := fuzzGroup("one", "two")
	if _, ok := decodeGroup(p, [16]byte{1}, page, 1<<20); !ok {
		t.Error("not decoded where it is")
	}
	if _, ok := decodeGroup(p, [16]byte{1}, 2*page, 1<<20); ok {
		t.Error("decoded at another offset")
	}
	if _, ok := decodeGroup(p, [16]byte{2}, page, 1<<20); ok {
		t.Error("decoded with another identity")
	}
	if _, ok := decodeGroup(p, [16]byte{1}, page, 2*page-1); ok {
		t.Error("decoded beyond the end")
	}
}

// TestGoneTorn: half an entry, written by a process that died, hides none of the entries
// after it.
func TestGoneTorn(t *testing.T) {
	id := [16]byte{9}
	a, b := extent{16, 32}, extent{64, 80}
	p := appendGone(nil, id, a)
	p = append(p, appendGone(nil, id, extent{32, 48})[:11]...)
	p = appendGone(p, id, b)
	p = append(p, appendGone(nil, id, extent{96, 128})[:20]...)
	found, used := decodeGone(p, id)
	if !slices.Equal(found, []extent{a, b}) || used != len(p)-20 {
		t.Errorf("%v in %d of %d bytes", found, used, len(p))
	}
	if found, _ := decodeGone(p, [16]byte{8}); len(found) != 0 {
		t.Errorf("another pack's: %v", found)
	}
}

// spoilt returns a bucket with a row of one group for each of the numbers 1 to 5 in the
// first pack, closes it, and changes the pack.
func spoilt(t *testing.T, freeze bool, change func(p []byte, groups []record)) *folder {
	t.Helper()
	b := mustOpen(t, t.TempDir())
	mustCreate(t, b, 1, 0)
	var groups []record
	for n := range uint64(5) {
		if err := b.Create(t.Context(), slot(1, n+1), []byte(strings.Repeat("x", 100))); err != nil {
			t.Fatal(err)
		}
	}
	r, err := b.row("0000/log/" + formatNumber(1))
	if err != nil {
		t.Fatal(err)
	}
	for n := range uint64(5) {
		groups = append(groups, r.index[n+1].record)
	}
	b.Close()
	if freeze {
		mustCreate(t, mustOpen(t, b.disk.Root), 1, 6)
	}
	name := r.packPath(1)
	p, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	change(p, groups)
	if err := os.WriteFile(name, p, disk.FilePerm); err != nil {
		t.Fatal(err)
	}
	return mustOpen(t, b.disk.Root)
}

// TestDamage: a torn end is not a record. Other damage is never taken
// for a number that was not there.
func TestDamage(t *testing.T) {
	head := func(rec record) int64 { return rec.id - groupHeadSize }
	for _, test := range []struct {
		name   string
		freeze bool
		change func(p []byte, g []record)
		want   [5]string // of 1…5: "ok", "bytes" (others), "hole" or "error"
	}{
		{"nothing", false, func([]byte, []record) {}, [5]string{"ok", "ok", "ok", "ok", "ok"}},
		{"body of the last", false, func(p []byte, g []record) { p[g[4].off]++ }, [5]string{"ok", "ok", "ok", "ok", "hole"}},
		{"head of the last", false, func(p []byte, g []record) { p[head(g[4])+5]++ }, [5]string{"ok", "ok", "ok", "ok", "hole"}},
		{"last not written", false, func(p []byte, g []record) { clear(p[head(g[4]):]) }, [5]string{"ok", "ok", "ok", "ok", "hole"}},
		{"body in the middle", false, func(p []byte, g []record) { p[g[2].off]++ }, [5]string{"ok", "ok", "bytes", "ok", "ok"}},
		{"body of the one before", false, func(p []byte, g []record) { p[g[3].off]++ }, [5]string{"ok", "ok", "ok", "bytes", "ok"}},
		{"head in the middle", false, func(p []byte, g []record) { p[g[2].id]++ }, [5]string{"ok", "ok", "error", "ok", "ok"}},
		{"page in the middle", false, func(p []byte, g []record) { clear(p[head(g[1]):head(g[3])]) }, [5]string{"ok", "error", "error", "ok", "ok"}},
		{"frozen, body of the last", true, func(p []byte, g []record) { p[g[4].off]++ }, [5]string{"ok", "ok", "ok", "ok", "bytes"}},
		{"frozen, head of the last", true, func(p []byte, g []record) { p[g[4].id]++ }, [5]string{"ok", "ok", "ok", "ok", "error"}},
		{"frozen, all", true, func(p []byte, g []record) { clear(p[page:]) }, [5]string{"error", "error", "error", "error", "error"}},
		{"head of the pack", false, func(p []byte, g []record) { p[20]++ }, [5]string{"error", "error", "error", "error", "error"}},
		{"magic of the pack", true, func(p []byte, g []record) { p[0]++ }, [5]string{"error", "error", "error", "error", "error"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := spoilt(t, test.freeze, test.change)
			whole := true
			for i, want := range test.want {
				got, err := b.Get(t.Context(), slot(1, uint64(i+1)), 0, -1)
				is := "ok"
				switch {
				case errors.Is(err, fs.ErrNotExist):
					is = "hole"
				case err != nil:
					is, whole = "error", false
				case string(got) != strings.Repeat("x", 100):
					is = "bytes"
				}
				if is != want {
					t.Errorf("Get of %d: %s (%v), want %s", i+1, is, err, want)
				}
				if is == "error" {
					err := b.Create(t.Context(), slot(1, uint64(i+1)), nil)
					if err == nil || errors.Is(err, storage.ErrExists) || errors.Is(err, storage.ErrUnknown) {
						t.Errorf("Create of %d: %v, want another error", i+1, err)
					}
				}
			}
			if _, err := b.List(t.Context(), "", "", 10); (err == nil) != whole {
				t.Errorf("List: %v", err)
			}
		})
	}
}
