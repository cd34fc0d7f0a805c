package disk

import (
	"bytes"
	"fmt"
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

// TestPaced: an object that is written slowly is whole, and pace is told of all of it.
func TestPaced(t *testing.T) {
	d, err := Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{0, 10, part, part + 1, 3*part + 7} {
		body := bytes.Repeat([]byte("slowly"), size/6+1)[:size]
		key, told := fmt.Sprint("a/", size), 0
		err := d.Create(key, body, FilePerm, func(n int) {
			if n > part {
				t.Errorf("a part of %d bytes", n)
			}
			told += n
		})
		got, getErr := d.Get(key, 0, -1)
		if err != nil || getErr != nil || !bytes.Equal(got, body) || told != size {
			t.Errorf("%d bytes: %v, %v, %d are read, pace was told of %d", size, err, getErr, len(got), told)
		}
	}
}
