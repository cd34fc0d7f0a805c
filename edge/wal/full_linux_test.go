package wal

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/weirmq/weir/storage/weir"
	"golang.org/x/sys/unix"
)

// TestFullDisk fills a real file system to its last block, reserve and quota
// switched off: what is stored stays readable, the log boots, and works again
// when there is room.
func TestFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := unix.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"); err != nil {
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" && os.Geteuid() == 0 {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("SKIPPED LOUDLY: a full disk needs the right to mount one: %v", err)
	}
	defer unix.Unmount(disk, unix.MNT_DETACH)
	dir := filepath.Join(disk, "edge")
	l := mustOpen(t, small(dir))
	first := l.Current()
	n := 0
	for {
		_, _, err := l.Append(weir.Live, recs(n, 4))
		if errors.Is(err, syscall.ENOSPC) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		n += 4
	}
	for range 5 {
		if id, _, err := l.Append(weir.Live, recs(n, 40)); err == nil {
			t.Fatalf("stored in %v on a full disk", id)
		}
	}
	checkItems(t, readAll(t, l, first, weir.Live), recs(0, n))
	abandon(l)
	l = mustOpen(t, small(dir))
	checkItems(t, readAll(t, l, first, weir.Live), recs(0, n))
	if err := l.Trim(first, weir.Live, uint64(n)); err != nil {
		t.Fatal(err)
	}
	if err := l.Retire(first); err != nil {
		t.Fatal(err)
	}
	id, _ := mustAppend(t, l, weir.Live, recs(0, 40))
	checkItems(t, readAll(t, l, id, weir.Live), recs(0, 40))
	if _, err := l.Read(first, weir.Live, 1); !errors.Is(err, ErrUnknown) || err == io.EOF {
		t.Fatal(err)
	}
}
