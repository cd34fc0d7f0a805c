package file

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// temp is a file that is being written, before it has its name.
type temp struct {
	file *os.File
	size int64    // written
	lock *os.File // held shared while the file has a name in .tmp; nil for a nameless one
}

// newTemp makes an empty file on the file system of dir.
func (b *Bucket) newTemp(dir string) (*temp, error) {
	if !b.named {
		f, err := openNameless(dir)
		if err != nil {
			return nil, err
		}
		return &temp{file: f}, nil
	}
	lock, err := b.lock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(b.tempName(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &temp{file: f, lock: lock}, nil
}

// stride is how much is written at once: from 2 MiB on, Linux takes huge pages for
// it. In a virtual machine those are often not backed by memory yet, and the first
// touch of each costs eight times what the copy does.
const stride = 512 << 10

// write appends to the file. What is long is on its way to the disk before the sync
// that waits for it: one that finds all of it to do keeps other files' syncs
// waiting as well.
func (t *temp) write(p []byte) error {
	for len(p) > 0 {
		n, err := t.file.Write(p[:min(len(p), stride)])
		if err != nil {
			return err
		}
		if n == stride {
			writeBack(t.file, t.size, int64(n))
		}
		t.size += int64(n)
		p = p[n:]
	}
	return nil
}

// link gives the file its name, or EEXIST.
func (t *temp) link(target string) error {
	if t.lock == nil {
		return linkNameless(t.file, target)
	}
	return unix.Link(t.file.Name(), target)
}

// keep lets go of the temporary name of a file that has been linked, and returns
// the file.
func (t *temp) keep() *os.File {
	if t.lock != nil {
		_ = os.Remove(t.file.Name()) // or at the next start
		t.lock.Close()
	}
	return t.file
}

// close lets go of the file. What was not linked is gone.
func (t *temp) close() {
	t.file.Close()
	if t.lock != nil {
		os.Remove(t.file.Name())
		t.lock.Close()
	}
}

func (b *Bucket) tempDir() string { return filepath.Join(b.root, ".tmp") }

func (b *Bucket) tempName() string { return filepath.Join(b.tempDir(), rand.Text()) }
