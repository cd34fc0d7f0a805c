package disk

import (
	"os"
	"testing"
)

func mustOpen(t *testing.T, dir string) *Disk {
	t.Helper()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestClean: what a crash left in .tmp is removed, but not under the hands of a
// process that is using it.
func TestClean(t *testing.T) {
	root := t.TempDir()
	d := mustOpen(t, root)
	d.Named = true
	temp, err := d.NewTemp(root)
	if err != nil {
		t.Fatal(err)
	}
	left := func() int {
		mustOpen(t, root)
		entries, err := os.ReadDir(d.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		return len(entries)
	}
	if n := left(); n != 1 {
		t.Errorf("%d temporary files while one is in use, want 1", n)
	}
	temp.File.Close()
	temp.lock.Close() // as the end of a process would
	if n := left(); n != 0 {
		t.Errorf("%d temporary files after the crash and an Open, want 0", n)
	}
}
