// Package file is a bucket in a folder of a local file system. An object is a
// file that was written and synced under no name and then linked to its own:
// link(2) refuses a name that is taken, where rename(2) would overwrite it.
//
// The objects of a row, log/<number>/<number>, are mostly not files: the handle
// that makes the row appends them to packs there, which takes one write and one
// sync for all that wait. FORMAT.md says how.
//
// Any number of processes may use one folder at the same time. What it holds
// besides the objects begins with a dot: .tmp, for temporary names, .lock, which
// is held only while those are cleaned up or in use, and the files of rows.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
)

const (
	filePerm   = 0o640
	secretPerm = 0o600 // of an object that holds a secret, see storage.Secret
	dirPerm    = 0o750
)

// Bucket is a storage.Bucket in a folder.
type Bucket struct {
	root      string               // absolute
	named     bool                 // the file system has no O_TMPFILE: temp files have names in .tmp
	fsync     func(*os.File) error // tests make it fail
	datasync  func(*os.File) error // the same for the files of rows
	sizes     []int64              // packSizes; tests make them small
	level     atomic.Int64         // see SetLevel
	mutations mutations
	wg        sync.WaitGroup // what appenders do in the background

	mu     sync.Mutex
	dirs   map[string]bool // guarded by mu: folders, relative to root, whose names are known to be on disk
	broken error           // guarded by mu: the first sync that must not be repeated and failed
	spares []*blank        // guarded by mu: files of deleted packs
	shut   bool            // guarded by mu: Close was called

	rowsMu sync.Mutex      // held while a row is made
	rows   map[string]*row // guarded by rowsMu: by folder
}

var _ storage.Bucket = (*Bucket)(nil)

// Create implements storage.Bucket. A crash before the link leaves nothing (or,
// on a file system without O_TMPFILE, a file in .tmp that the next Open
// removes); one after it leaves the whole object.
//
// Between the link and the sync of the folder others can read an object that a
// power cut may still take away. It is not acked then, and whoever creates a
// name in the same folder, or hears ErrExists for this one, has synced it too.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := b.create(key, body, perm(ctx)); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}

func perm(ctx context.Context) fs.FileMode {
	if storage.IsSecret(ctx) {
		return secretPerm
	}
	return filePerm
}

func (b *Bucket) create(key string, body []byte, mode fs.FileMode) error {
	if err := b.health(); err != nil {
		return err
	}
	if folder, number, ok := splitRow(key); ok {
		return b.createInRow(key, folder, number, body)
	}
	return b.createFile(key, body, mode)
}

// createFile is create for an object that is a file.
func (b *Bucket) createFile(key string, body []byte, mode fs.FileMode) error {
	dir, err := b.openDir(path.Dir(key))
	if err != nil {
		return err
	}
	defer dir.Close()
	target := b.path(key)

	// A look first saves the loser of a race, and every repeated Create, the
	// write. It decides nothing: the link does.
	if _, err := os.Lstat(target); err == nil {
		return b.exists(dir, target)
	}
	switch err := b.place(dir, target, body, mode); {
	case errors.Is(err, unix.EEXIST):
		return b.exists(dir, target)
	case err != nil:
		return err
	}
	if err := b.syncDir(dir); err != nil {
		return fmt.Errorf("%w: %w", storage.ErrUnknown, err)
	}
	return nil
}

// place writes and syncs a file and links it to target, whose folder is to be
// synced then. Errors: EEXIST, ErrUnknown, or nothing happened.
func (b *Bucket) place(dir *os.File, target string, body []byte, mode fs.FileMode) error {
	temp, err := b.newTemp(dir.Name())
	if err != nil {
		return err
	}
	defer temp.close()
	if mode != filePerm {
		if err := temp.file.Chmod(mode); err != nil {
			return err
		}
	}
	if err := temp.write(body); err != nil {
		return err
	}
	if err := b.fsync(temp.file); err != nil {
		return err // the pages may be lost, but so is the file
	}
	switch err := temp.link(target); {
	case err == nil || errors.Is(err, unix.EEXIST):
		return err
	case refused(err):
		return fmt.Errorf("link: %w", err)
	default:
		return fmt.Errorf("link: %w: %w", storage.ErrUnknown, err)
	}
}

// exists is the answer for a name that is taken. Whoever hears ErrExists
// builds on the object being there, so its name is synced first: its creator
// may not have got that far, and may never.
func (b *Bucket) exists(dir *os.File, target string) error {
	if info, err := os.Lstat(target); err == nil && info.IsDir() {
		return fmt.Errorf("%w: it is a folder of other keys", storage.ErrKey)
	}
	if err := b.syncDir(dir); err != nil {
		return err
	}
	return storage.ErrExists
}

// refused reports whether err is an answer of link(2) with which it certainly
// did nothing; an I/O error, or a time-out on a network file system, is not.
func refused(err error) bool {
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

// Get implements storage.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := check(ctx, key); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	if storage.IsSecret(ctx) {
		if err := b.hide(key); err != nil {
			return nil, fmt.Errorf("get %s: %w", key, err)
		}
	}
	body, err := b.get(ctx, key, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return body, nil
}

// hide takes from others the right to read a secret that an earlier version stored,
// if the file is this process's own.
func (b *Bucket) hide(key string) error {
	info, err := os.Lstat(b.path(key))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&^secretPerm == 0 {
		return nil // Get says what there is to say
	}
	if err := os.Chmod(b.path(key), secretPerm); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func (b *Bucket) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if folder, number, ok := splitRow(key); ok {
		return b.getFromRow(ctx, key, folder, number, off, n)
	}
	return b.getFile(key, off, n)
}

// getFile is get for an object that is a file.
func (b *Bucket) getFile(key string, off, n int64) ([]byte, error) {
	f, err := os.Open(b.path(key))
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

// Delete implements storage.Bucket. Folders stay: one that goes while another
// process creates in it would be a race for nothing.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := b.health(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	rest, err := b.deleteFromRows(ctx, keys)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	dirs := make(map[string]bool)
	for _, key := range rest {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete: %w: %w", storage.ErrUnknown, err)
		}
		switch err := unix.Unlink(b.path(key)); {
		case err == nil, errors.Is(err, unix.ENOENT):
			dirs[path.Dir(key)] = true
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		case refused(err):
			return fmt.Errorf("delete %s: %w", key, err)
		default:
			return fmt.Errorf("delete %s: %w: %w", key, storage.ErrUnknown, err)
		}
	}
	for name := range dirs {
		if err := b.syncDeleted(name); err != nil {
			return fmt.Errorf("delete from %s: %w: %w", name, storage.ErrUnknown, err)
		}
	}
	return nil
}

// Close ends appending to packs and lets go of all files. It waits for what is
// under way. Whoever calls Create afterwards closes the row.
func (b *Bucket) Close() error {
	b.mu.Lock()
	b.shut = true
	spares := b.spares
	b.spares = nil
	b.mu.Unlock()
	for _, s := range spares {
		s.drop()
	}
	b.rowsMu.Lock()
	for _, r := range b.rows {
		if r.writer != nil {
			r.writer.shut()
		}
	}
	b.rowsMu.Unlock()
	b.wg.Wait()
	return nil
}

func (b *Bucket) syncDeleted(name string) error {
	dir, err := os.Open(b.path(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return b.syncDir(dir)
}

// openDir opens the folder for a key, and creates it when it is missing. When
// it returns, the folder's own name is on disk: a new one's parents are synced
// here, and so are those of a folder that this handle meets for the first time,
// because the process that made it may not have got that far.
func (b *Bucket) openDir(name string) (*os.File, error) {
	if !b.known(name) {
		for _, folder := range parents(name) {
			if err := b.makeDir(folder); err != nil {
				return nil, err
			}
		}
		b.learn(name, true)
	}
	dir, err := os.Open(b.path(name))
	if err != nil {
		b.learn(name, false) // removed by hand: it is made again next time
		return nil, err
	}
	return dir, nil
}

func (b *Bucket) makeDir(name string) error {
	dir := b.path(name)
	if err := os.Mkdir(dir, dirPerm); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if info, err := os.Stat(dir); err == nil && !info.IsDir() {
		return fmt.Errorf("%w: %s is an object and no folder", storage.ErrKey, name)
	}
	parent, err := os.Open(filepath.Dir(dir))
	if err != nil {
		return err
	}
	defer parent.Close()
	return b.syncDir(parent)
}

// parents returns a/b/c and all folders above it, but not the root, from the
// top down: a, a/b, a/b/c.
func parents(name string) []string {
	if name == "." {
		return nil
	}
	var all []string
	for i, c := range []byte(name) {
		if c == '/' {
			all = append(all, name[:i])
		}
	}
	return append(all, name)
}

// syncDir makes the names in a folder durable. After a sync that failed the
// kernel may have dropped what it could not write, and the next one may claim
// success: so the first failure ends all writing through this handle.
func (b *Bucket) syncDir(dir *os.File) error {
	err := b.fsync(dir)
	if err == nil {
		return nil
	}
	return b.broke(fmt.Errorf("sync folder %s: %w", dir.Name(), err))
}

// broke ends all writing through this handle, and returns err.
func (b *Bucket) broke(err error) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken == nil {
		b.broken = err
	}
	return err
}

func (b *Bucket) health() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.broken != nil {
		return fmt.Errorf("bucket takes no writes any more, check the disk and start again: %w", b.broken)
	}
	return nil
}

func (b *Bucket) known(dir string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.dirs[dir]
}

func (b *Bucket) learn(dir string, durable bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if durable {
		b.dirs[dir] = true
	} else {
		delete(b.dirs, dir)
	}
}

func (b *Bucket) path(key string) string {
	return filepath.Join(b.root, filepath.FromSlash(key))
}

func check(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := storage.CheckKey(key); err != nil {
			return err
		}
		if folder, name := path.Split(key); reserved(name) && isRow(strings.TrimSuffix(folder, "/")) {
			return fmt.Errorf("%w %q: the bucket keeps a file of its own there", storage.ErrKey, key)
		}
	}
	return ctx.Err()
}

// hidden reports whether a name in the folder is the bucket's own.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }
