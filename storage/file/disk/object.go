package disk

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
)

// Create makes a file of an object. Durable on return. If pace is set, the file is
// written in parts: see storage.WithPace. Errors: those of storage.Bucket.
func (d *Disk) Create(key string, body []byte, mode fs.FileMode, pace func(bytes int)) error {
	dir, err := d.OpenDir(path.Dir(key))
	if err != nil {
		return err
	}
	defer dir.Close()
	target := d.Path(key)

	// Checking first saves the write of a Create that lost a race or is repeated. The
	// check decides nothing: the link does.
	if _, err := os.Lstat(target); err == nil {
		return d.Taken(dir, target)
	}
	switch err := d.Place(dir, target, body, mode, pace); {
	case errors.Is(err, unix.EEXIST):
		return d.Taken(dir, target)
	case err != nil:
		return err
	}
	if err := d.SyncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	return nil
}

// Place writes and syncs a file and links it to target; pace as in Create. The caller
// must then sync target's folder. Errors: EEXIST, ErrUnknown, or nothing happened.
func (d *Disk) Place(dir *os.File, target string, body []byte, mode fs.FileMode, pace func(bytes int)) error {
	temp, err := d.NewTemp(dir.Name())
	if err != nil {
		return err
	}
	defer temp.Close()
	if mode != FilePerm {
		if err := temp.File.Chmod(mode); err != nil {
			return err
		}
	}
	if pace != nil {
		err = temp.WriteSlowly(body, pace)
	} else {
		err = temp.Write(body)
	}
	if err != nil {
		return err
	}
	if err := d.Sync(temp.File); err != nil {
		return err // the pages may be lost, but so is the file
	}
	switch err := temp.Link(target); {
	case err == nil || errors.Is(err, unix.EEXIST):
		return err
	case Refused(err):
		return fmt.Errorf("link: %w", err)
	default:
		return fmt.Errorf("link: %w: %w", storage.ErrUnknown, err)
	}
}

// Taken returns the error for a name that is taken. A caller that gets ErrExists relies
// on the object being there, so its name is synced first: the process that created it
// may not have done that, and may never do it.
func (d *Disk) Taken(dir *os.File, target string) error {
	if info, err := os.Lstat(target); err == nil && info.IsDir() {
		return fmt.Errorf("%w: it is a folder of other keys", storage.ErrKey)
	}
	if err := d.SyncDir(dir); err != nil {
		return err
	}
	return storage.ErrExists
}

// Refused reports whether err is an answer of link(2) that means that nothing happened.
// An I/O error, or a time-out on a network file system, does not mean that.
func Refused(err error) bool {
	for _, errno := range []error{
		unix.EACCES, unix.EPERM, unix.EROFS, unix.ENOSPC, unix.EDQUOT, unix.ENOENT, unix.ENOTDIR,
		unix.EXDEV, unix.EMLINK, unix.ENAMETOOLONG, unix.ENOMEM, unix.EOPNOTSUPP, unix.EINVAL,
	} {
		if errors.Is(err, errno) {
			return true
		}
	}
	return false
}

// Get returns n bytes of a file from off on, as storage.Bucket does.
func (d *Disk) Get(key string, off, n int64) ([]byte, error) {
	f, err := os.Open(d.Path(key))
	if errors.Is(err, unix.ENOTDIR) {
		return nil, fs.ErrNotExist
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.IsDir() {
		return nil, fs.ErrNotExist
	}
	off, n, err = storage.Range(info.Size(), off, n)
	if err != nil {
		return nil, err
	}
	body := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(f, off, n), body); err != nil {
		return nil, err
	}
	return body, nil
}

// Exists reports whether there is a file of that name.
func Exists(name string) (bool, error) {
	err := unix.Access(name, unix.F_OK)
	if err == nil || errors.Is(err, unix.ENOENT) {
		return err == nil, nil
	}
	return false, &fs.PathError{Op: "access", Path: name, Err: err}
}

// Used returns how many bytes of disk space a file takes.
func Used(f *os.File) (int64, error) {
	var s unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &s); err != nil {
		return 0, &fs.PathError{Op: "stat", Path: f.Name(), Err: err}
	}
	return int64(s.Blocks) * 512, nil
}
