package row

import (
	"bytes"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// diskWrites returns how many bytes this process has given to disks, which are all
// pages that it made dirty.
func diskWrites(t *testing.T) int64 {
	t.Helper()
	p, err := os.ReadFile("/proc/self/io")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(p)) {
		if digits, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(digits), 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("no write_bytes in %q", p)
	return 0
}

// TestRowWrites: what is created in large groups is written once. Before small ones the
// file is written with zeros.
func TestRowWrites(t *testing.T) {
	for _, test := range []struct {
		size, count int
		least, most float64 // bytes to the disk for each byte created
	}{
		{512 << 10, 128, 1, 1.1},
		{1 << 20, 64, 1, 1.1},
		{60 << 10, 256, 1.9, math.Inf(1)}, // a page that is written again may count as a larger piece
	} {
		t.Run(fmt.Sprint(test.size), func(t *testing.T) {
			dir := t.TempDir()
			var fs unix.Statfs_t
			if err := unix.Statfs(dir, &fs); err != nil || fs.Type == unix.TMPFS_MAGIC || fs.Type == unix.OVERLAYFS_SUPER_MAGIC {
				t.Skipf("SKIPPED: the file system of %s does not count what is written to it (%v)", dir, err)
			}
			b := mustOpen(t, dir)
			body := bytes.Repeat([]byte("0123456789abcde\n"), test.size/16)
			before := diskWrites(t)
			for n := range uint64(test.count) {
				if err := b.Create(t.Context(), slot(1, n), body); err != nil {
					t.Fatal(err)
				}
			}
			b.Close()
			got := float64(diskWrites(t)-before) / float64(test.size*test.count)
			t.Logf("%.2f bytes written for each byte created", got)
			if got < test.least || got > test.most {
				t.Errorf("%.2f bytes written for each byte created, want %v to %v", got, test.least, test.most)
			}
		})
	}
}

// TestRowPadded: where large groups left room that was never written, a small one brings
// zeros for those behind it, and nothing else changes.
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
