package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Open opens the folder dir and creates it, durably, if it is missing. It finds out how
// nameless files are made on the file system, and removes temporary files that a crash
// left behind.
func Open(dir string) (*Disk, error) {
	root, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("open bucket folder: %w", err)
	}
	d := &Disk{Root: root, Sync: (*os.File).Sync, Data: datasync, Punch: punch, dirs: map[string]bool{".": true}}
	if err := d.makeRoot(root); err != nil {
		return nil, fmt.Errorf("open bucket folder: %w", err)
	}
	if err := os.Mkdir(d.TempDir(), DirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("open bucket folder: %w", err)
	}
	if err := d.probe(); err != nil {
		return nil, fmt.Errorf("open bucket folder %s: %w", root, err)
	}
	if err := d.clean(); err != nil {
		return nil, fmt.Errorf("clean bucket folder %s: %w", root, err)
	}
	return d, nil
}

// makeRoot creates the bucket's folder and its parents, and syncs the names of all that
// it created.
func (d *Disk) makeRoot(dir string) error {
	err := os.Mkdir(dir, DirPerm)
	if errors.Is(err, fs.ErrNotExist) {
		if err := d.makeRoot(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, DirPerm)
	}
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		info, err := os.Stat(dir)
		if err != nil {
			return err
		}
		if !info.IsDir() {
			return fmt.Errorf("%s is not a folder", dir)
		}
	} else if err != nil {
		return err
	}
	parent, err := os.Open(filepath.Dir(dir))
	if errors.Is(err, fs.ErrPermission) && !made {
		return nil // an existing folder whose parent this process may not read
	}
	if err != nil {
		return err
	}
	defer parent.Close()
	return d.SyncDir(parent)
}

// probe makes a file with the first method that works here. It holds the shared lock,
// so that no other process removes the file meanwhile.
func (d *Disk) probe() error {
	lock, err := d.lock(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer lock.Close()
	if d.try() == nil {
		return nil
	}
	d.Named = true
	return d.try()
}

func (d *Disk) try() error {
	temp, err := d.NewTemp(d.TempDir())
	if err != nil {
		return err
	}
	defer temp.Close()
	name := d.TempName()
	if err := temp.Link(name); err != nil {
		return fmt.Errorf("the file system makes no hard links: %w", err)
	}
	return os.Remove(name)
}

// clean removes what a crash left in .tmp. A process that uses a temporary name holds
// the lock shared, so under the exclusive lock all of them are orphans. If another
// process is at work they stay until the next start.
func (d *Disk) clean() error {
	lock, err := d.lock(unix.LOCK_EX | unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return nil
	}
	if err != nil {
		return err
	}
	defer lock.Close()
	orphans, err := os.ReadDir(d.TempDir())
	if err != nil {
		return err
	}
	for _, orphan := range orphans {
		if err := os.Remove(filepath.Join(d.TempDir(), orphan.Name())); err != nil {
			return err
		}
	}
	return nil
}

// lock locks the folder's lock file; closing the file unlocks it, and so does
// the end of the process.
func (d *Disk) lock(how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(d.Root, ".lock"), os.O_RDWR|os.O_CREATE, FilePerm)
	if err != nil {
		return nil, err
	}
	if err := flock(f, how); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// TryLock locks a file, shared (LOCK_SH) or exclusively (LOCK_EX), unless it is locked.
// Closing the file unlocks it.
func TryLock(f *os.File, how int) (locked bool, err error) {
	err = flock(f, how|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	return err == nil, err
}

func flock(f *os.File, how int) error {
	for {
		err := unix.Flock(int(f.Fd()), how)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		return nil
	}
}
