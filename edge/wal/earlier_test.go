package wal

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/weirmq/weir/storage/weir"
)

// TestEarlierVersion opens what the version before latest and ended left: a
// buffer whose process was killed and that was drained in part, one that was
// closed, and the newest, whose process was killed.
func TestEarlierVersion(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "log")
	if err := os.CopyFS(dir, os.DirFS("testdata/earlier")); err != nil {
		t.Fatal(err)
	}
	want := map[uint32]map[weir.Lane][]Record{
		2: {weir.Live: recs(10, 20), weir.Alarm: recs(40, 2)},
		3: {weir.Bulk: recs(50, 5)},
		4: {weir.Live: recs(60, 12)},
	}
	for range 2 {
		l := mustOpen(t, small(dir))
		infos := l.Buffers()
		if len(infos) != 4 {
			t.Fatalf("%d buffers: %+v", len(infos), infos)
		}
		for _, info := range infos[:3] {
			for ln := range weir.Lane(weir.Lanes) {
				recs := want[info.ID.Counter()][ln]
				next := info.Lanes[ln].First
				if next > 1 && (info.ID.Counter() != 2 || ln != weir.Live || next != 13) {
					t.Fatalf("%v lane %v begins at %d", info.ID, ln, next)
				}
				checkItems(t, renumber(readAll(t, l, info.ID, ln), next), recs[next-1:])
			}
		}
		if rows, err := l.Rows(infos[0].ID); err != nil || len(rows) != 1 {
			t.Fatalf("rows %+v, %v", rows, err)
		}
		abandon(l)
	}
}

// renumber makes items begin at 1, for checkItems.
func renumber(items []Item, first uint64) []Item {
	for i := range items {
		items[i].Seq -= first - 1
	}
	return items
}
