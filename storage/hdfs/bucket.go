// Package hdfs is a bucket in a folder of an HDFS, which it reaches through WebHDFS:
// plain HTTP to the namenode, and to the datanodes for the content. An object is a file
// that was written under a temporary name, closed, and then renamed: the namenode
// refuses to rename to a name that is taken.
//
// Any number of processes may use one folder at the same time. Besides the objects the
// folder has .tmp, with the temporary names.
package hdfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"path"
	"strconv"
	"sync"
	"time"

	"github.com/weirmq/weir/storage"
)

const (
	filePerm = "640"
	dirPerm  = "750"
)

// Bucket is a storage.Bucket in a folder of an HDFS.
type Bucket struct {
	client *client
	root   string // absolute path of the folder
}

var _ storage.Bucket = (*Bucket)(nil)

// Create implements storage.Bucket. A failure before the rename leaves at most a
// temporary file, which is never renamed.
//
// If the rename fails, Create deletes the temporary file to learn the outcome. If the
// file was still there, the rename has not happened and never will, even if its request
// is still under way: it will not find its file, because a temporary name is used once.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := storage.CheckKeys(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	temp, target := b.tempName(), b.path(key)
	if err := b.write(ctx, temp, body); err != nil {
		b.drop(ctx, temp)
		return fmt.Errorf("create %s: write %s: %w", key, temp, refusal(err))
	}
	err := b.publish(ctx, temp, target)
	if err == nil {
		return nil
	}
	taken := exception(err) == alreadyExists
	if taken {
		err = b.exists(ctx, target)
	}
	if dropped := b.drop(ctx, temp); taken || dropped {
		return fmt.Errorf("create %s: %w", key, refusal(err))
	}
	return fmt.Errorf("create %s: %w", key, changed(err))
}

// write creates a file with its whole content. On nil it is closed and on the disks of
// the datanodes, as SYNC_BLOCK demands.
func (b *Bucket) write(ctx context.Context, name string, body []byte) error {
	target, err := b.createTarget(ctx, name)
	if err != nil {
		return err
	}
	resp, err := b.client.send(ctx, http.MethodPut, target, body)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusCreated {
		return fmt.Errorf("the datanode answered %s to the content", resp.Status)
	}
	return nil
}

// createTarget asks where to send the content of a new file.
func (b *Bucket) createTarget(ctx context.Context, name string) (string, error) {
	return b.client.datanode(ctx, http.MethodPut, name, "CREATE", params{
		"overwrite": "false", "createflag": "CREATE,SYNC_BLOCK", "permission": filePerm,
	})
}

// folderTries is how often publish makes the folder of a name. More than one try is
// needed if the folder is deleted meanwhile: see Delete.
const folderTries = 3

// publish renames a temporary file to its own name. It makes the folder if the rename
// does not find it, which happens once for each folder.
func (b *Bucket) publish(ctx context.Context, temp, target string) error {
	for try := 0; ; try++ {
		err := b.rename(ctx, temp, target)
		if exception(err) != notFound || try == folderTries {
			return err
		}
		if err := b.makeDir(ctx, path.Dir(target)); err != nil {
			return err
		}
	}
}

// exists returns the error for a name that is taken. A caller that gets ErrExists
// relies on the object being there, but the namenode refuses a rename without waiting
// for its log to reach the disk: a crash can still undo the rename that took the name.
// So exists sets a time on the object. The namenode answers that when it is on disk
// with everything before it, and refuses it if the object is gone again.
func (b *Bucket) exists(ctx context.Context, target string) error {
	p := params{"modificationtime": strconv.FormatInt(time.Now().UnixMilli(), 10)}
	if err := b.client.call(ctx, http.MethodPut, target, "SETTIMES", p, nil); err != nil {
		return fmt.Errorf("the name is taken, but the file may still disappear: %w", err)
	}
	return storage.ErrExists
}

func (b *Bucket) rename(ctx context.Context, from, to string) error {
	return b.client.call(ctx, http.MethodPut, from, "RENAME", params{"destination": to, "renameoptions": "NONE"}, nil)
}

// makeDir creates a folder and its parents, unless they exist.
func (b *Bucket) makeDir(ctx context.Context, dir string) error {
	err := b.client.call(ctx, http.MethodPut, dir, "MKDIRS", params{"permission": dirPerm}, nil)
	if name := exception(err); name == alreadyExists || name == notFolder {
		return fmt.Errorf("%w: a folder in the key is an object: %v", storage.ErrKey, err)
	}
	return err
}

// Get implements storage.Bucket. The namenode refuses a range that begins at or beyond
// the end, with an error that has no name of its own, so Get asks for the size.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := storage.CheckGet(ctx, key, off); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	var body []byte
	var err error
	if n != 0 {
		body, err = b.read(ctx, b.path(key), off, n)
	}
	if n == 0 || off > 0 && exception(err) != "" && exception(err) != notFound {
		status, failed := b.status(ctx, b.path(key))
		switch {
		case failed != nil:
			err = failed
		case status.Type != "FILE":
			err = fs.ErrNotExist
		case n == 0 || off >= status.Length:
			return []byte{}, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, missing(err))
	}
	return body, nil
}

func (b *Bucket) read(ctx context.Context, name string, off, n int64) ([]byte, error) {
	p := params{"offset": strconv.FormatInt(off, 10)}
	if n > 0 {
		p["length"] = strconv.FormatInt(n, 10)
	}
	target, err := b.client.datanode(ctx, http.MethodGet, name, "OPEN", p)
	if err != nil {
		return nil, err
	}
	resp, err := b.client.send(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK || resp.ContentLength < 0 {
		return nil, fmt.Errorf("the datanode answered %s with length %d instead of the content", resp.Status, resp.ContentLength)
	}
	body := make([]byte, resp.ContentLength)
	if _, err := io.ReadFull(resp.Body, body); err != nil {
		return nil, fmt.Errorf("read the content: %w", err)
	}
	return body, nil
}

// status asks the namenode for the status of a file or folder.
func (b *Bucket) status(ctx context.Context, name string) (fileStatus, error) {
	var answer struct{ FileStatus fileStatus }
	err := b.client.call(ctx, http.MethodGet, name, "GETFILESTATUS", nil, &answer)
	return answer.FileStatus, err
}

// deleters is how many deletions are under way at once: the namenode syncs its log for
// several of them with one write.
const deleters = 8

// Delete implements storage.Bucket. Folders usually stay: if a folder goes while a
// Create needs it, that Create must try again. An empty folder with the name of a key
// is deleted.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := storage.CheckKeys(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	errs := make([]error, len(keys))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(deleters, len(keys)) {
		wg.Go(func() {
			for i := range next {
				errs[i] = b.delete(ctx, keys[i])
			}
		})
	}
	for i := range keys {
		next <- i
	}
	close(next)
	wg.Wait()
	return worst(errs)
}

// worst returns an unknown outcome if there is one, else the first error.
func worst(errs []error) (err error) {
	for _, e := range errs {
		if e != nil && (err == nil || errors.Is(e, storage.ErrUnknown)) {
			err = e
		}
	}
	return err
}

func (b *Bucket) delete(ctx context.Context, key string) error {
	_, err := b.remove(ctx, b.path(key))
	switch exception(err) {
	case notFound, notFolder, notEmpty:
		return nil // a folder of other keys is not an object
	}
	if err != nil {
		return fmt.Errorf("delete %s: %w", key, changed(err))
	}
	return nil
}

// remove deletes a file, durably, and reports whether there was one.
func (b *Bucket) remove(ctx context.Context, name string) (removed bool, err error) {
	var answer struct{ Boolean *bool }
	err = b.client.call(ctx, http.MethodDelete, name, "DELETE", params{"recursive": "false"}, &answer)
	if err == nil && answer.Boolean == nil {
		err = errors.New("the answer has no result")
	}
	return err == nil && *answer.Boolean, err
}

// Close closes idle connections.
func (b *Bucket) Close() error {
	b.client.http.CloseIdleConnections()
	return nil
}

func (b *Bucket) path(key string) string { return b.root + "/" + key }
