package engine

import (
	"context"
	"strings"
	"sync"

	"github.com/weirmq/weir/storage"
)

// requests is what a bucket was asked. A Delete of up to 1,000 keys and a List of
// up to 1,000 are one request each, as in S3.
type requests struct {
	Puts, Gets, Lists, Deletes int64
	PutBytes, GetBytes         int64
	Slots, SlotBytes           int64 // of the Puts, those into the log
	Checkpoints                int64 // of the Puts
	CheckpointBytes            int64
}

func (r requests) minus(s requests) requests {
	return requests{
		r.Puts - s.Puts, r.Gets - s.Gets, r.Lists - s.Lists, r.Deletes - s.Deletes,
		r.PutBytes - s.PutBytes, r.GetBytes - s.GetBytes, r.Slots - s.Slots, r.SlotBytes - s.SlotBytes,
		r.Checkpoints - s.Checkpoints, r.CheckpointBytes - s.CheckpointBytes,
	}
}

func (r requests) plus(s requests) requests { return r.minus(requests{}.minus(s)) }

// page is how many keys one request lists or deletes.
const page = 1000

// counter is a bucket that counts what it is asked, those calls too that fail:
// they are paid for.
type counter struct {
	below storage.Bucket

	mu sync.Mutex
	n  requests // guarded by mu
}

func (c *counter) add(n requests) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n = c.n.plus(n)
}

// count is what was asked until now.
func (c *counter) count() requests {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n
}

func (c *counter) Create(ctx context.Context, key string, body []byte) error {
	n := requests{Puts: 1, PutBytes: int64(len(body))}
	if strings.Contains(key, "/log/") {
		n.Slots, n.SlotBytes = 1, int64(len(body))
	}
	if strings.Contains(key, "/checkpoint/") {
		n.Checkpoints, n.CheckpointBytes = 1, n.PutBytes
	}
	c.add(n)
	return c.below.Create(ctx, key, body)
}

func (c *counter) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	body, err := c.below.Get(ctx, key, off, n)
	c.add(requests{Gets: 1, GetBytes: int64(len(body))})
	return body, err
}

func (c *counter) List(ctx context.Context, prefix, after string, max int) ([]string, error) {
	keys, err := c.below.List(ctx, prefix, after, max)
	c.add(requests{Lists: 1 + int64(len(keys)/(page+1))})
	return keys, err
}

func (c *counter) Delete(ctx context.Context, keys ...string) error {
	c.add(requests{Deletes: int64(len(keys)+page-1) / page})
	return c.below.Delete(ctx, keys...)
}

func (c *counter) Close() error { return storage.Close(c.below) }

func (c *counter) Unwrap() storage.Bucket { return c.below }
