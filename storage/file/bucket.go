// Package file is a bucket in a folder of a local file system. An object is a
// file (see disk). Objects that come in sequence are mostly not files of their own,
// but records of larger ones (see row). FORMAT.md says what is in the
// folder.
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
	return b.disk.Create(key, body, perm(ctx))
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
	info, err := os.Lstat(b.disk.Path(key))
	if err != nil || !info.Mode().IsRegular() || info.Mode().Perm()&^disk.SecretPerm == 0 {
		return nil // Get says what there is to say
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

// Delete implements storage.Bucket. Folders stay: one that goes while another
// process creates in it would be a race for nothing.
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

// deleted returns a key, that of a row with that prefix and not less than from, which was
// deleted from a pack that is there still; "" if there is none. See storage.Deleted.
func (b *Bucket) deleted(ctx context.Context, prefix, from string) (string, error) {
	if err := check(ctx, from); err != nil {
		return "", fmt.Errorf("look for what is gone: %w", err)
	}
	return b.rows.Deleted(ctx, prefix, from)
}

// Traits are what rows know and are told. Sequences: rows are made below that prefix
// only. SetLevel: rows that are made from then on are
// of version 2 from level 2 on, which older programs do not know.
func (b *Bucket) Traits() storage.Traits {
	return storage.Traits{Sequences: b.rows.Sequences, SetLevel: b.rows.SetLevel, Deleted: b.deleted}
}

// Close ends appending to packs and lets go of all files. It waits for what is
// under way. Whoever calls Create afterwards closes the row.
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

// hidden reports whether a name in the folder is the bucket's own.
func hidden(name string) bool { return strings.HasPrefix(name, ".") }
