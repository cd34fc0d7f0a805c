//go:build weirtest

package row

import (
	"bytes"
	"errors"
	"io/fs"
	"testing"
)

// TestHoleGet: a Get that has found a record, and reads it when its space was given
// back, gets no zeros.
func TestHoleGet(t *testing.T) {
	needsHoles(t)
	for _, sound := range []bool{true, false} {
		b := openHoles(t, t.TempDir())
		createTexts(t, b, 0, perPack+1)
		deleteTexts(t, b, 1, perPack-2)
		reader := openHoles(t, b.disk.Root)
		reader.mutations.readsLast = !sound
		reader.mutations.step = func(at string) {
			if at == "get" {
				deleteTexts(t, b, perPack-1, perPack-1)
			}
		}
		got, err := reader.Get(t.Context(), slot(1, perPack-1), page, page)
		switch {
		case sound && !errors.Is(err, fs.ErrNotExist):
			t.Errorf("got %d bytes, %v; want that it does not exist", len(got), err)
		case !sound && (err != nil || !bytes.Equal(got, make([]byte, page))):
			t.Errorf("without the check: %d bytes, %v; want zeros", len(got), err)
		}
	}
}
