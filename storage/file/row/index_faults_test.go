//go:build weirtest

package row

import (
	"os"
	"testing"
)

// TestIndexWriteFails: records are created and found although no index can be written,
// or only a part of one.
func TestIndexWriteFails(t *testing.T) {
	for _, applied := range []bool{false, true} {
		dir := t.TempDir()
		b := small(mustOpen(t, dir))
		b.smallest, b.largest = 5*page, 5*page
		b.mutations.step = func(step string) {
			w := b.rows["0000/log/"+formatNumber(1)].writer
			if step != "index" {
				return
			}
			if applied {
				if _, err := w.file.WriteAt([]byte("WIDX"), w.pack.size); err != nil {
					t.Error(err)
				}
			}
			f, err := os.Open(w.r.packPath(w.pack.number))
			if err != nil {
				t.Error(err)
				return
			}
			w.file.Close()
			w.file = f // which cannot be written to
		}
		for n := range uint64(9) {
			if err := b.Create(t.Context(), slot(1, n), make([]byte, page)); err != nil {
				t.Fatal(err)
			}
		}
		b.Close()
		wantIndexed(t, dir)
	}
}
