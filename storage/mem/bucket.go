// Package mem is a bucket in memory, for tests and trials. It is lost when the process
// ends. No call does I/O, starts a goroutine or reads a clock, so it works inside a
// testing/synctest bubble.
package mem

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/weirmq/weir/storage"
)

// Bucket is a storage.Bucket in memory. All users of one *Bucket share its objects.
type Bucket struct {
	mu      sync.RWMutex
	objects map[string][]byte // guarded by mu
	keys    []string          // guarded by mu: the keys of objects in byte order
}

var _ storage.Bucket = (*Bucket)(nil)

// New returns an empty bucket.
func New() *Bucket {
	return &Bucket{objects: make(map[string][]byte)}
}

// Create implements storage.Bucket. No outcome is unknown here.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := storage.CheckKeys(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if _, taken := b.objects[key]; taken {
		return fmt.Errorf("create %s: %w", key, storage.ErrExists)
	}
	b.objects[key] = slices.Clone(body)
	i, _ := slices.BinarySearch(b.keys, key)
	b.keys = slices.Insert(b.keys, i, key)
	return nil
}

// Get implements storage.Bucket.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := storage.CheckKeys(ctx, key); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	body, found := b.objects[key]
	if !found {
		return nil, fmt.Errorf("get %s: %w", key, fs.ErrNotExist)
	}
	off, n, err := storage.Range(int64(len(body)), off, n)
	if err != nil {
		return nil, fmt.Errorf("get %s: %w", key, err)
	}
	return append([]byte{}, body[off:off+n]...), nil
}

// List implements storage.Bucket.
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	if err := storage.CheckList(prefix, after); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	b.mu.RLock()
	defer b.mu.RUnlock()
	i, found := slices.BinarySearch(b.keys, after)
	if found {
		i++
	}
	if j, _ := slices.BinarySearch(b.keys, prefix); j > i {
		i = j
	}
	var keys []string
	for ; i < len(b.keys) && len(keys) < max && strings.HasPrefix(b.keys[i], prefix); i++ {
		keys = append(keys, b.keys[i])
	}
	return keys, nil
}

// Delete implements storage.Bucket.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := storage.CheckKeys(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, key := range keys {
		if i, found := slices.BinarySearch(b.keys, key); found {
			b.keys = slices.Delete(b.keys, i, i+1)
			delete(b.objects, key)
		}
	}
	return nil
}
