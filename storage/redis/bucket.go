// Package redis is a bucket in a Redis server, or in one that speaks its
// protocol. Create-if-absent is SET … NX. The server has to run with
// "appendonly yes" and "appendfsync always": Warnings says what is missing.
package redis

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/weirmq/weir/storage"
)

// Bucket is a storage.Bucket in one database of a Redis server, under a prefix. Every
// object is a string under "{prefix}/" and its key. The keys are also members of the
// sorted set "{prefix}", all with score 0, which sorts them in byte order: a listing is
// a range of that set, and nothing is ever scanned.
//
// One transaction or script changes both. Redis applies it, and writes it to its
// append-only file, as a whole: if the file has only its beginning, nothing of it is
// applied. The braces make both keys hash to one slot, for proxies that spread keys
// over several servers.
type Bucket struct {
	client *redis.Client
	prefix string

	mu     sync.Mutex
	closed bool           // guarded by mu
	calls  sync.WaitGroup // calls that talk to the server, also those whose caller has given up
}

var _ storage.Bucket = (*Bucket)(nil)

const (
	maxObject   = 512 << 20 // bytes; Redis refuses a longer string by hanging up
	deleteBatch = 1000      // keys to a script: the server does nothing else meanwhile
)

func (b *Bucket) index() string            { return "{" + b.prefix + "}" }
func (b *Bucket) object(key string) string { return "{" + b.prefix + "}/" + key }

// Create implements storage.Bucket: one transaction, one round trip. With "appendfsync
// always" Redis answers no client, readers included, before the data in the answer is
// on disk.
func (b *Bucket) Create(ctx context.Context, key string, body []byte) error {
	if err := storage.CheckKeys(ctx, key); err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if len(body) > maxObject {
		return fmt.Errorf("create %s: the body has %d bytes, a Redis string at most %d", key, len(body), maxObject)
	}
	// A call that was given up may still be sending after Create has returned.
	body = bytes.Clone(body)
	answers, nothing, err := b.transaction(ctx,
		[]any{"ZADD", b.index(), "NX", "0", key},
		[]any{"SET", b.object(key), body, "NX"},
	)
	switch {
	case err != nil:
		return fmt.Errorf("create %s: %w", key, changed(nothing, err))
	case answers[1] == nil:
		return fmt.Errorf("create %s: %w", key, storage.ErrExists)
	case answers[0] == int64(0):
		// The name was taken, its object was gone, and now it is this one.
		return fmt.Errorf("create %s: %w: %w", key, storage.ErrUnknown, errLost)
	}
	return nil
}

// Get implements storage.Bucket. Redis reads a missing object as an empty one, so a
// second request tells the two apart.
func (b *Bucket) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if err := storage.CheckGet(ctx, key, off); err != nil {
		return nil, fmt.Errorf("get: %w", err)
	}
	first, last := span(off, n)
	for {
		body, err := wait(ctx, b, func() ([]byte, error) {
			return b.client.GetRange(ctx, b.object(key), first, last).Bytes()
		})
		if err == nil && len(body) > 0 {
			return body, nil
		}
		var size int64
		if err == nil {
			size, err = b.size(ctx, key)
		}
		if err != nil {
			return nil, fmt.Errorf("get %s: %w", key, read(err))
		}
		if n == 0 || off >= size {
			return []byte{}, nil
		}
		// It was created between the two looks.
	}
}

// size returns the size of an object in bytes, or fs.ErrNotExist.
func (b *Bucket) size(ctx context.Context, key string) (int64, error) {
	answer, _, err := b.script(ctx, `
		local n = redis.call('STRLEN', KEYS[2])
		if n > 0 or redis.call('EXISTS', KEYS[2]) == 1 then return n end
		if redis.call('ZSCORE', KEYS[1], ARGV[1]) then return -2 end
		return -1`, key)
	if err != nil {
		return 0, err
	}
	switch n, ok := answer.(int64); {
	case !ok:
		return 0, errAnswer
	case n == -1:
		return 0, fs.ErrNotExist
	case n < 0:
		return 0, errLost
	default:
		return n, nil
	}
}

// span returns the first and the last byte of a range as GETRANGE counts them:
// the last one belongs to it, and -1 is the end of the object.
func span(off, n int64) (first, last int64) {
	switch {
	case n < 0:
		return off, -1
	case n == 0:
		return 1, 0
	case off > math.MaxInt64-n:
		return off, math.MaxInt64
	}
	return off, off + n - 1
}

// List implements storage.Bucket: one range of the index.
func (b *Bucket) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	err := storage.CheckList(prefix, after)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return nil, fmt.Errorf("list: %w", err)
	}
	from, to := bounds(prefix, after)
	keys, err := b.page(ctx, from, to, max)
	if err != nil {
		return nil, fmt.Errorf("list %q: %w", prefix, read(err))
	}
	return keys, nil
}

func (b *Bucket) page(ctx context.Context, from, to string, max int) ([]string, error) {
	return wait(ctx, b, func() ([]string, error) {
		return b.client.ZRangeArgs(ctx, redis.ZRangeArgs{
			Key: b.index(), ByLex: true, Start: from, Stop: to, Count: int64(max),
		}).Result()
	})
}

// bounds returns the ends of a listing as ZRANGE BYLEX wants them: "[x" with x,
// "(x" without, "-" and "+" for all.
func bounds(prefix, after string) (from, to string) {
	from, to = "-", "+"
	switch {
	case after >= prefix && after != "":
		from = "(" + after
	case prefix != "":
		from = "[" + prefix
	}
	if prefix != "" {
		// No byte of a key is the last one there is, so a next one exists.
		next := []byte(prefix)
		next[len(next)-1]++
		to = "(" + string(next)
	}
	return from, to
}

// Delete implements storage.Bucket with a script, because Redis runs scripts even if it
// is out of memory, and then deletion helps.
func (b *Bucket) Delete(ctx context.Context, keys ...string) error {
	if err := storage.CheckKeys(ctx, keys...); err != nil {
		return fmt.Errorf("delete: %w", err)
	}
	for batch := range slices.Chunk(keys, deleteBatch) {
		_, nothing, err := b.script(ctx, `
			for i = 1, #ARGV do
				redis.call('DEL', KEYS[i + 1])
				redis.call('ZREM', KEYS[1], ARGV[i])
			end
			return #ARGV`, batch...)
		if err != nil {
			return fmt.Errorf("delete %d keys: %w", len(batch), changed(nothing, err))
		}
	}
	return nil
}

// preferredSize is the largest size that objects should have, in bytes. Redis has one
// thread for all writers, and larger objects delay each other: at 256 KiB, eight
// writers stored 1.5 times as much as one; at 1 MiB little more than half, and each
// object took 40 ms instead of 2.5 (Redis 7.0, two cores).
const preferredSize = 256 << 10

// Traits returns the Warnings and the preferred size of objects.
func (b *Bucket) Traits() storage.Traits {
	return storage.Traits{Warnings: b.Warnings, PreferredSize: preferredSize}
}

// Close closes the connections and waits for the calls that use them; calls under way
// fail.
func (b *Bucket) Close() error {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	err := b.client.Close()
	b.calls.Wait()
	if err != nil && !errors.Is(err, redis.ErrClosed) {
		return fmt.Errorf("close redis bucket: %w", err)
	}
	return nil
}
