// Package s3 is a bucket in an object store that speaks the S3 protocol: AWS, MinIO and
// others. Create-if-absent is a PUT with "If-None-Match: *". A store that ignores this
// header cannot be used; storage.Probe detects that.
package s3

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/pause"
)

// Bucket is a storage.Bucket in an S3 bucket. It repeats nothing by itself, except what
// the store asks to be repeated: see Create.
type Bucket struct {
	client    *minio.Core
	transport *http.Transport
	name      string
}

var _ storage.Bucket = (*Bucket)(nil)

// conflictTries is how often Create answers a 409 with another try.
const conflictTries = 6

// Create implements storage.Bucket: one PUT, never in parts. The body's CRC32C
// goes with it, and the store refuses a body that does not match.
//
// A 409 says that another conditional request for the name was under way and that this
// one did nothing: it is sent again. No other answer is: after a lost answer a second
// PUT would find the object of the first.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := storage.CheckKeys(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	for try := 1; ; try++ {
		err := b.put(ctx, key, body)
		if err == nil {
			return nil
		}
		if status(err) != http.StatusConflict || try == conflictTries {
			return fmt.Errorf("create %s: %w", key, changed(err))
		}
		if err := pause.For(ctx, rand.N(10*time.Millisecond<<try)); err != nil {
			return fmt.Errorf("create %s: %w", key, err)
		}
	}
}

func (b *Bucket) put(ctx context.Context, key string, body []byte) error {
	sum := storage.Sum(ctx, body)
	opts := minio.PutObjectOptions{
		DisableMultipart: true,
		ContentType:      "application/octet-stream",
		UserMetadata: map[string]string{
			"x-amz-checksum-crc32c": base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, sum)),
		},
	}
	opts.SetMatchETagExcept("*")
	_, err := b.client.Client.PutObject(ctx, b.name, key, bytes.NewReader(body), int64(len(body)), opts)
	return err
}

// Get implements storage.Bucket. HTTP has no empty range: Get asks for the first byte
// instead and drops it.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := storage.CheckGet(ctx, key, off); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	body, err := b.get(ctx, key, off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return body, nil
}

func (b *Bucket) get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	var opts minio.GetObjectOptions
	switch {
	case n < 0 && off > 0:
		opts.Set("Range", fmt.Sprintf("bytes=%d-", off))
	case n >= 0:
		last := off + max(n, 1) - 1
		if last < off {
			last = math.MaxInt64
		}
		opts.Set("Range", fmt.Sprintf("bytes=%d-%d", off, last))
	}
	r, info, header, err := b.client.GetObject(ctx, b.name, key, opts)
	if err != nil {
		if status(err) == http.StatusRequestedRangeNotSatisfiable {
			return []byte{}, nil // the object is there, and ends before off
		}
		return nil, read(err)
	}
	defer r.Close()
	body := make([]byte, max(info.Size, 0))
	if _, err := io.ReadFull(r, body); err != nil {
		return nil, err
	}
	if header.Get("Content-Range") != "" {
		off = 0 // the store has already cut the range, though it need not
	}
	off, n, err = storage.Range(int64(len(body)), off, n)
	return body[off : off+n : off+n], err
}

// pageKeys is how many keys each request of List asks for: always the most that S3
// gives. MinIO counts keys before start-after against the limit where it meets them out
// of order (a-b when it lists from within a/), so a small page can lose keys.
const pageKeys = 1000

// List implements storage.Bucket. Each page starts after the last key of the
// one before: the continuation tokens of MinIO skip a key when the first page
// started after a key that does not exist (minio/minio#21463).
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := storage.CheckList(prefix, after); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	var keys []string
	for len(keys) < max {
		page, err := b.page(ctx, prefix, after)
		if err != nil {
			return nil, fmt.Errorf("list %q: %w", prefix, err)
		}
		keys = append(keys, page[:min(len(page), max-len(keys))]...)
		if len(page) < pageKeys {
			break
		}
		after = page[len(page)-1]
	}
	return keys, nil
}

func (b *Bucket) page(ctx context.Context, prefix, after string) ([]string, error) {
	var keys []string
	owner := false
	for object := range b.client.ListObjectsIter(ctx, b.name, minio.ListObjectsOptions{
		Prefix: prefix, StartAfter: after, MaxKeys: pageKeys, Recursive: true, FetchOwner: &owner,
	}) {
		if object.Err != nil {
			return nil, object.Err
		}
		if keys = append(keys, object.Key); len(keys) == pageKeys {
			break
		}
	}
	// A listing that was cancelled just ends, as if there were no more.
	return keys, ctx.Err()
}

// Delete implements storage.Bucket, with a thousand keys per request. Objects that the
// store does not report as deleted may still be there.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := storage.CheckKeys(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	left := make(map[string]bool, len(keys))
	for _, key := range keys {
		left[key] = true
	}
	results, err := b.client.RemoveObjectsWithIter(ctx, b.name, func(yield func(minio.ObjectInfo) bool) {
		for key := range left {
			if !yield(minio.ObjectInfo{Key: key}) {
				return
			}
		}
	}, minio.RemoveObjectsOptions{})
	if err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	var deleted []string
	for result := range results {
		switch {
		case result.Err == nil:
			deleted = append(deleted, result.ObjectName)
		case err == nil:
			err = fmt.Errorf("delete %s: %w", result.ObjectName, changed(result.Err))
		}
	}
	for _, key := range deleted {
		delete(left, key)
	}
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("delete: %w: no answer for %d of %d keys", storage.ErrUnknown, len(left), len(keys))
	}
	return err
}

// Traits says that requests cost money. There is no way to tell which S3 stores charge
// nothing.
func (b *Bucket) Traits() storage.Traits { return storage.Traits{Billed: true} }

// Close closes idle connections.
func (b *Bucket) Close() error {
	b.transport.CloseIdleConnections()
	return nil
}
