// Package file is a bucket in a folder of a local file system. An object is a file (see
// disk), unless it comes in sequence: most of those are records in larger files (see
// row). FORMAT.md describes the folder.
//
// Any number of processes may use one folder at the same time.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/file/disk"
	"github.com/weirmq/weir/storage/file/row"
)

// Bucket is a storage.Bucket in a folder.
type Bucket struct {
	disk *disk.Disk
	rows *row.Rows
}

var _ storage.Bucket = (*Bucket)(nil)

// Create implements storage.Bucket. A crash before the link leaves nothing (or, on a
// file system without O_TMPFILE, a file in .tmp that the next Open removes); a crash
// after it leaves the whole object.
//
// Between the link and the sync of the folder others can read an object that a power
// cut may still take away. It is not acknowledged then. Any call that creates a name in
// the same folder, or returns ErrExists for this one, syncs it too.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := check(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err := b.create(ctx, key, body); err != nil {
		return fmt.Errorf("create %s: %w", key, err)
	}
	return nil
}

func perm(ctx context.Context) fs.FileMode {
	if storage.IsSecret(ctx) {
		return disk.SecretPerm
	}
	return disk.FilePerm
}

func (b *Bucket) create(ctx context.Context, key string, body []byte) error {
	if err := b.disk.Health(); err != nil {
		return err
	}
	if row.MayHave(key) {
		return b.rows.Create(ctx, key, body, perm(ctx))
	}
	return b.disk.Create(key, body, perm(ctx), storage.Pace(ctx))
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

// hide makes a secret that an earlier version stored unreadable for others, if the file
// belongs to this process's user.
func (b *Bucket) hide(key string) error {
	info, err := os.Lstat(b.disk.Path(key))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&^disk.SecretPerm == 0 {
		return nil // Get reports the error
	}
	if err := os.Chmod(b.disk.Path(key), disk.SecretPerm); err != nil && !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return nil
}

func (b *Bucket) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if row.MayHave(key) {
		return b.rows.Get(ctx, key, off, n)
	}
	return b.disk.Get(key, off, n)
}

// Delete implements storage.Bucket. Folders stay: removing one would race with a
// process that creates in it, for no gain.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := check(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	if err := b.disk.Health(); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	rest, err := b.rows.Delete(ctx, keys)
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	dirs := make(map[string]bool)
	for _, key := range rest {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("delete: %w: %w", storage.ErrUnknown, err)
		}
		switch err := unix.Unlink(b.disk.Path(key)); {
		case err == nil, errors.Is(err, unix.ENOENT):
			dirs[path.Dir(key)] = true
		case errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EISDIR):
		case disk.Refused(err):
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

func (b *Bucket) syncDeleted(name string) error {
	dir, err := os.Open(b.disk.Path(name))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	defer dir.Close()
	return b.disk.SyncDir(dir)
}

// deleted returns the key of a row with that prefix, not less than from, that was
// deleted from a pack that still exists; "" if there is none. See storage.Deleted.
func (b *Bucket) deleted(ctx context.Context, prefix, from string) (string, error) {
	if err := check(ctx, from); err != nil {
		return "", fmt.Errorf("look for what is gone: %w", err)
	}
	return b.rows.Deleted(ctx, prefix, from)
}

// verify compares what the packs below prefix keep twice: see storage.Verify.
func (b *Bucket) verify(ctx context.Context, prefix string) error {
	names, err := (&listing{b: b, prefix: prefix}).names(prefix)
	for _, name := range names {
		if folder := prefix + strings.TrimSuffix(name, "/"); row.MayBe(folder) && strings.HasSuffix(name, "/") {
			err = errors.Join(err, b.rows.Verify(ctx, folder))
		}
	}
	return err
}

// Traits returns what the rows report and are told. Sequences: rows are made only below
// that prefix. SetLevel: from level 2 on, new rows are of version 2, which older
// programs do not know.
func (b *Bucket) Traits() storage.Traits {
	return storage.Traits{Sequences: b.rows.Sequences, SetLevel: b.rows.SetLevel, Deleted: b.deleted, Verify: b.verify}
}

// Close ends appending to packs and closes all files. It waits for calls under way. A
// Create after Close closes the row.
func (b *Bucket) Close() error {
	b.rows.Close()
	return nil
}

func check(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if folder, name := path.Split(key); row.Reserved(name) && row.MayBe(strings.TrimSuffix(folder, "/")) {
			return fmt.Errorf("%w %q: the bucket keeps a file of its own there", storage.ErrKey, key)
		}
	}
	return storage.CheckKeys(ctx, keys...)
}

// hidden reports whether a name in the folder is not an object but a file of the bucket
// itself.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }
