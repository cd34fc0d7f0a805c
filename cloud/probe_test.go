package cloud

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// swapped is a bucket in whose place comes one that overwrites.
type swapped struct {
	storage.Bucket
	overwrites atomic.Bool
	probes     atomic.Int64 // objects made by probes
	early      atomic.Int64 // of those, before another object was read or made
	met        atomic.Bool
}

func (b *swapped) Create(ctx context.Context, key string, body []byte) error {
	if strings.HasPrefix(key, "probe/") {
		b.probes.Add(1)
		if !b.met.Load() {
			b.early.Add(1)
		}
	}
	err := b.Bucket.Create(ctx, key, body)
	if b.overwrites.Load() && errors.Is(err, storage.ErrExists) && strings.HasPrefix(key, "probe/") {
		return nil
	}
	return err
}

func (b *swapped) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	if key == "authority" {
		b.met.Store(true)
	}
	return b.Bucket.Get(ctx, key, off, n)
}

// TestProbeIsRemembered: the second start does not wait for the probe, and makes it all the
// same: if another store has come to the address, the node ends.
func TestProbeIsRemembered(t *testing.T) {
	b := &swapped{Bucket: mem.New()}
	data := t.TempDir()
	open := func(url string) running {
		b.probes.Store(0)
		b.early.Store(0)
		b.met.Store(false)
		return openNode(t, b, "n", data, func(o *Options) { o.BucketURL = url })
	}
	run := func(r running) error {
		r.run(t)
		r.says(t, "leading")
		r.stop()
		<-r.ended
		return *r.err
	}
	r := open("s3://weir?endpoint=http://a")
	if b.early.Load() == 0 {
		t.Error("a bucket was used before it was probed")
	}
	if err := run(r); err != nil {
		t.Error(err)
	}
	r = open("s3://weir?endpoint=http://b")
	if b.early.Load() == 0 {
		t.Error("a bucket at another address was used before it was probed")
	}
	if err := run(r); err != nil {
		t.Error(err)
	}

	r = open("s3://weir?endpoint=http://b")
	if b.early.Load() != 0 {
		t.Error("the node has waited for a probe that the bucket had passed")
	}
	b.overwrites.Store(true)
	r.run(t)
	<-r.ended
	if err := *r.err; !errors.Is(err, storage.ErrNoCreate) {
		t.Errorf("a node whose bucket was replaced ended with %v", err)
	}
	if a, b := probeName("redis://u:secret@h/1"), probeName("redis://u:other@h/1"); a != b {
		t.Error("the name depends on the password")
	}
}
