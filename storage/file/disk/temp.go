package disk

import (
	"crypto/rand"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Temp is a file that has not got its name yet.
type Temp struct {
	File *os.File
	size int64    // written
	lock *os.File // held shared while the file has a name in .tmp; nil for a nameless one
}

// NewTemp makes an empty file on the file system of dir.
func (d *Disk) NewTemp(dir string) (*Temp, error) {
	if !d.Named {
		f, err := openNameless(dir)
		if err != nil {
			return nil, err
		}
		return &Temp{File: f}, nil
	}
	lock, err := d.lock(unix.LOCK_SH)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.TempName(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, FilePerm)
	if err != nil {
		lock.Close()
		return nil, err
	}
	return &Temp{File: f, lock: lock}, nil
}

// stride is how much is written at once. From 2 MiB on, Linux uses huge pages for it.
// In a virtual machine these often have no memory behind them yet, and then the first
// access to each takes eight times as long as the copy.
const stride = 512 << 10

// Write appends to the file.
func (t *Temp) Write(p []byte) error {
	err := WriteAt(t.File, p, t.size)
	if err == nil {
		t.size += int64(len(p))
	}
	return err
}

// WriteAt writes p to a file at off. For a long write, the kernel is told to begin before
// the sync: a sync that has to write everything itself also delays the syncs of other
// files.
func WriteAt(f *os.File, p []byte, off int64) error {
	for len(p) > 0 {
		n, err := f.WriteAt(p[:min(len(p), stride)], off)
		if err != nil {
			return err
		}
		if n == stride {
			writeBack(f, off, int64(n))
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// part is what WriteSlowly writes at once.
const part = 256 << 10

// WriteSlowly writes to an empty file, part by part, and calls pace when the kernel has
// written one. The room is reserved first: a file that grows with each part would also
// make the file system write its own journal.
func (t *Temp) WriteSlowly(p []byte, pace func(bytes int)) error {
	if len(p) > part {
		_ = allocate(t.File, int64(len(p))) // if it cannot, each part does
	}
	for t.size < int64(len(p)) {
		n, err := t.File.WriteAt(p[t.size:min(t.size+part, int64(len(p)))], t.size)
		if err != nil {
			return err
		}
		writeOut(t.File, t.size, int64(n))
		t.size += int64(n)
		pace(n)
	}
	return nil
}

// Allocate reserves n bytes, which read as zeros, for an empty file. Any error other
// than ENOSPC means that the file system cannot do it.
func (t *Temp) Allocate(n int64) error {
	if err := allocate(t.File, n); err != nil {
		return err
	}
	t.size = n
	return nil
}

// WriteZeros appends n zeros to the file.
func (t *Temp) WriteZeros(n int64) error {
	zeros := make([]byte, min(n, stride))
	for ; n > 0; n -= int64(len(zeros)) {
		if err := t.Write(zeros[:min(n, int64(len(zeros)))]); err != nil {
			return err
		}
	}
	return nil
}

// Link gives the file its name. The error is EEXIST if the name is taken.
func (t *Temp) Link(target string) error {
	if t.lock == nil {
		return linkNameless(t.File, target)
	}
	return unix.Link(t.File.Name(), target)
}

// Keep removes the temporary name of a file that has been linked, and returns the file.
func (t *Temp) Keep() *os.File {
	if t.lock != nil {
		_ = os.Remove(t.File.Name()) // else the next start removes it
		t.lock.Close()
	}
	return t.File
}

// Close closes the file. A file that was not linked is gone.
func (t *Temp) Close() {
	t.File.Close()
	if t.lock != nil {
		os.Remove(t.File.Name())
		t.lock.Close()
	}
}

// TempDir is the folder of files with temporary names.
func (d *Disk) TempDir() string { return filepath.Join(d.Root, ".tmp") }

// TempName returns an unused name there.
func (d *Disk) TempName() string { return filepath.Join(d.TempDir(), rand.Text()) }
