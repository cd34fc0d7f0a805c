package row

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
)

// TestRowFullDisk: on a full disk Create returns an error and has done nothing, Delete
// makes room, and then Create works again.
func TestRowFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=4m"); err != nil {
		text := fmt.Sprintf("NO FULL DISK: a file system of its own cannot be mounted (%v): run as root", err)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	b := mustOpen(t, dir)
	defer b.Close()
	text := make([]byte, 60_000)
	fill := func(n uint64) uint64 {
		for ; ; n++ {
			err := b.Create(t.Context(), slot(1, n), text)
			if err == nil {
				continue
			}
			if !errors.Is(err, unix.ENOSPC) || errors.Is(err, storage.ErrUnknown) || errors.Is(err, storage.ErrExists) {
				t.Fatalf("Create of %d on a full disk: %v, want ENOSPC alone", n, err)
			}
			if _, err := b.Get(t.Context(), slot(1, n), 0, -1); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("Get of what was not created: %v", err)
			}
			return n
		}
	}
	end := fill(0)
	if used := end * uint64(len(text)); used < 3<<20 {
		t.Errorf("full after %d bytes", used)
	}
	var keys []string
	for n := range end - 3 {
		keys = append(keys, slot(1, n))
	}
	if err := b.Delete(t.Context(), keys...); err != nil {
		t.Fatalf("Delete on a full disk: %v", err)
	}
	if more := fill(end) - end; more < 20 {
		t.Errorf("room for %d more after %d were deleted", more, len(keys))
	}
	for n := end - 3; n < end; n++ {
		if _, err := b.Get(t.Context(), slot(1, n), 0, -1); err != nil {
			t.Error(err)
		}
	}
}
