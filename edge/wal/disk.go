package wal

import (
	"errors"
	"os"
	"path/filepath"

	"github.com/weirmq/weir/storage/durable"
)

// step names what the log is about to do to its disk. The fault matrix in the
// tests fails each of them in turn.
type step string

const (
	stepMkdir     step = "create directory"
	stepDirSync   step = "sync directory"
	stepSegment   step = "create segment"
	stepWrite     step = "write segment"
	stepSync      step = "sync segment"
	stepCell      step = "write cell"
	stepCellSync  step = "sync cell"
	stepList      step = "append to list"
	stepListSync  step = "sync list"
	stepTemp      step = "write temporary file"
	stepRename    step = "rename"
	stepRemove    step = "remove"
	stepRemoveAll step = "remove directory"
)

// disk is how the log touches its disk: everything that writes, syncs or
// removes goes through do, so that a test can make it fail before it happens,
// after it happened, or lie.
type disk struct {
	do   func(s step, path string, f func() error) error
	free func(dir string) (int64, error) // bytes that the disk has left

	// boot tells one start of the machine from another: what was written and not
	// synced is still there in the same one. 0: not known.
	boot uint32
}

// defaults is the real disk.
func (d *disk) defaults() {
	if d.do == nil {
		d.do = func(_ step, _ string, f func() error) error { return f() }
	}
	if d.free == nil {
		d.free = freeBytes
	}
	if d.boot == 0 {
		d.boot = bootID()
	}
}

// mkdir creates a directory that may be there already, and makes its name
// durable.
func (d *disk) mkdir(path string) error {
	err := d.do(stepMkdir, path, func() error {
		if err := os.Mkdir(path, 0o750); err != nil && !errors.Is(err, os.ErrExist) {
			return err
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

// syncDir makes the names in a directory durable.
func (d *disk) syncDir(path string) error {
	return d.do(stepDirSync, path, func() error { return durable.SyncDir(path) })
}

// replace puts data at path: at any moment, a power cut included, the file has
// its old content or all of the new. Durable on return.
func (d *disk) replace(path string, data []byte) error {
	temp := path + ".new"
	err := d.do(stepTemp, temp, func() error { return writeFile(temp, data) })
	if err == nil {
		err = d.do(stepRename, path, func() error { return os.Rename(temp, path) })
	}
	if err != nil {
		os.Remove(temp)
		return err
	}
	return d.syncDir(filepath.Dir(path))
}

// writeFile writes a file and syncs it.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o640)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return f.Close()
}

// removeDir takes a directory out of its parent, durably, and then frees what
// it held. A crash in between leaves a name that ends in .gone, which the next
// Open removes.
func (d *disk) removeDir(path string) error {
	gone := path + goneSuffix
	if err := d.do(stepRename, path, func() error { return os.Rename(path, gone) }); err != nil {
		return err
	}
	if err := d.syncDir(filepath.Dir(path)); err != nil {
		return err
	}
	return d.do(stepRemoveAll, gone, func() error { return os.RemoveAll(gone) })
}

// goneSuffix marks a directory that is being removed.
const goneSuffix = ".gone"
