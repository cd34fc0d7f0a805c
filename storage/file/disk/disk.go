// Package disk makes files durable in a folder of a local file system. A file is
// written and synced under no name and then linked to its own: link(2) refuses a
// name that is taken, where rename(2) would overwrite it.
//
// Any number of processes may use one folder at the same time. Where the file system
// has no nameless files, unfinished files are in .tmp; .lock is held only while those
// are cleaned up or in use.
package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
)

// Modes of new files and folders.
const (
	FilePerm   = 0o640
	SecretPerm = 0o600 // of an object that holds a secret, see storage.Secret
	DirPerm    = 0o750
)

// Disk is a folder, and the way to make files durable in it. After the first failed
// sync that must not be repeated, it accepts no more writes: see Health.
type Disk struct {
	Root  string               // absolute
	Named bool                 // the file system has no O_TMPFILE: temp files have names in .tmp
	Sync  func(*os.File) error // fsync(2); tests make it fail
	Data  func(*os.File) error // fdatasync(2); tests make it fail

	// Punch gives back the space of n bytes of a file, which then reads as zeros there.
	// The size of the file stays.
	Punch func(f *os.File, off, n int64) error

	mu     sync.Mutex
	dirs   map[string]bool // guarded by mu: folders, relative to Root, whose names are known to be durable
	broken error           // guarded by mu: the first failed sync that must not be repeated
}

// Path returns the path of a file; name is relative to the root, with slashes.
func (d *Disk) Path(name string) string {
	return filepath.Join(d.Root, filepath.FromSlash(name))
}

// SyncDir makes the names in a folder durable. After a failed sync the kernel may have
// dropped what it could not write, and the next sync may report success. So the first
// failure ends all writing through this handle.
func (d *Disk) SyncDir(dir *os.File) error {
	err := d.Sync(dir)
	if err == nil {
		return nil
	}
	return d.Broke(fmt.Errorf("sync folder %s: %w", dir.Name(), err))
}

// Broke ends all writing through this handle because of err, and returns err.
func (d *Disk) Broke(err error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken == nil {
		d.broken = err
	}
	return err
}

// Health returns an error after Broke.
func (d *Disk) Health() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.broken != nil {
		return fmt.Errorf("bucket refuses writes after a failed sync, check the disk and restart: %w", d.broken)
	}
	return nil
}
