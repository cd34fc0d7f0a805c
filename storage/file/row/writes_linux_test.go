package row

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// written returns how many bytes this process has passed to write calls. What Linux
// reports as written to disks does not help here: it counts the pieces in which it caches a
// file, up to 2 MiB each.
func written(t *testing.T) int64 {
	t.Helper()
	p, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(p)) {
		if digits, ok := strings.CutPrefix(line, "wchar: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no wchar in %q", p)
	return 0
}

// TestRowWrites: records created in large groups are written once. Before small ones the
// file is filled with zeros, hardly more than are needed, and only once if old packs
// are deleted as new ones are made.
func TestRowWrites(t *testing.T) {
	for _, test := range []struct {
		size, count int
		keep        int     // the others are deleted, as many at a time; 0: all are kept
		least, most float64 // bytes written for each byte created
	}{
		{512 << 10, 128, 0, 1, 1.1},
		{1 << 20, 64, 0, 1, 1.1},
		{60 << 10, 256, 0, 1.9, 3.3},
		{12_000, 2_000, 0, 1.9, 2.5},
		{12_000, 4_000, 300, 1, 1.35},
	} {
		t.Run(fmt.Sprint(test.size, "/", test.keep), func(t *testing.T) {
			b := mustOpen(t, t.TempDir())
			b.disk.Sync = func(*os.File) error { return nil }
			b.disk.Data = b.disk.Sync
			body := bytes.Repeat([]byte("0123456789abcde\n"), test.size/16)
			before := written(t)
			var old []string
			for n := range uint64(test.count) {
				if err := b.Create(t.Context(), slot(1, n), body); err != nil {
					t.Fatal(err)
				}
				if old = append(old, slot(1, n)); test.keep > 0 && len(old) == 2*test.keep {
					if err := b.Delete(t.Context(), old[:test.keep]...); err != nil {
						t.Fatal(err)
					}
					old = slices.Delete(old, 0, test.keep)
				}
			}
			b.Close()
			got := float64(written(t)-before) / float64(test.size*test.count)
			t.Logf("%.2f bytes written for each byte created", got)
			if got < test.least || got > test.most {
				t.Errorf("%.2f bytes written for each byte created, want %v to %v", got, test.least, test.most)
			}
		})
	}
}

// TestRowPadded: where large groups left space that was never written, a small one writes
// zeros for those after it, and nothing else changes.
func TestRowPadded(t *testing.T) {
	b := mustOpen(t, t.TempDir())
	defer b.Close()
	create := func(n uint64, size int) {
		t.Helper()
		if err := b.Create(t.Context(), slot(1, n), bytes.Repeat([]byte{byte(n)}, size)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range uint64(10) {
		create(n, 1<<20)
	}
	w := b.rows["0000/log/"+formatNumber(1)].writer
	if w.wrote != w.end || w.wrote > w.pack.size-padding {
		t.Fatalf("of %d bytes %d were written, with groups up to %d", w.pack.size, w.wrote, w.end)
	}
	create(10, 100)
	wrote := w.wrote
	if wrote != w.end+padding {
		t.Errorf("with a small group at %d all bytes up to %d were written", w.end, wrote)
	}
	create(11, 100)
	if w.wrote != wrote {
		t.Errorf("the next one has written up to %d", w.wrote)
	}
	create(12, 1<<20)
	if w.wrote != max(wrote, w.end) {
		t.Errorf("with a large group up to %d all bytes up to %d were written", w.end, w.wrote)
	}
	other := mustOpen(t, b.disk.Root)
	for n := range uint64(13) {
		size := 1 << 20
		if n == 10 || n == 11 {
			size = 100
		}
		if got, err := other.Get(t.Context(), slot(1, n), 0, -1); err != nil || !bytes.Equal(got, bytes.Repeat([]byte{byte(n)}, size)) {
			t.Errorf("Get of %d: %d bytes, %v", n, len(got), err)
		}
	}
}
