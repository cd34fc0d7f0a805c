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

// disk is the log's access to its disk. Everything that writes, syncs or removes calls
// do, so that a test can make it fail before or after it happens, or lie.
type disk struct {
	do   func(s step, path string, f func() error) error
	free func(dir string) (int64, error) // bytes free on the disk

	// boot identifies one start of the machine: within it, what was written is still
	// there even if it was not synced. 0: not known.
	boot uint32
}

// defaults fills in the real disk.
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

// mkdir creates a directory, which may exist already, and makes its name durable.
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

// replace replaces the content of path by data, durably. At any moment, even after a
// power cut, the file has its old content or all of the new.
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

// removeDir removes a directory from its parent, durably, and then frees its content.
// A crash in between leaves a name that ends in .gone, which the next Open removes.
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
