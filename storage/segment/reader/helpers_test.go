package reader

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

const shard = 7

// noise is what records are filled with: nothing of it compresses or is equal.
var noise = func() []byte {
	p := make([]byte, 1<<20)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(p)
	return p
}()

// batch returns a batch of n offsets with one record of about size bytes.
func batch(t testing.TB, base int64, n int32, size int) record.Batch {
	t.Helper()
	builder := record.NewBuilder(record.None)
	value := slices.Clone(noise[int(base)%1000:][:size])
	copy(value, fmt.Sprint(base))
	if err := builder.Append(&record.Record{Timestamp: base, Value: value}); err != nil {
		t.Fatal(err)
	}
	b, err := builder.Build()
	if err != nil {
		t.Fatal(err)
	}
	if n > 1 { // as if the others had been compacted away
		binary.BigEndian.PutUint32(b[23:], uint32(n-1))
		b.SetLogAppendTime(base) // for the CRC
	}
	b.SetBaseOffset(base)
	return b
}

// row returns count batches of so many bytes, one offset each, from base on.
func row(t testing.TB, base int64, count, size int) []record.Batch {
	t.Helper()
	batches := make([]record.Batch, count)
	for i := range batches {
		batches[i] = batch(t, base+int64(i), 1, size)
	}
	return batches
}

// object is a segment of one piece in a bucket.
type object struct {
	epoch, number uint64
	piece         segment.Piece
	batches       []record.Batch
}

// put makes a segment of batches and stores it. The piece ends behind the last
// batch.
func put(t testing.TB, b storage.Bucket, number uint64, batches []record.Batch) object {
	t.Helper()
	o := object{epoch: 5, number: number, batches: batches}
	builder := segment.NewBuilder(shard, o.epoch, number)
	builder.Begin([16]byte{9}, 0, 0) // lies in front of it
	for _, b := range row(t, 0, 3, 100) {
		if err := builder.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	builder.End(3)
	base, next := int64(0), int64(1)
	if len(batches) > 0 {
		base, next = batches[0].BaseOffset(), batches[len(batches)-1].NextOffset()
	}
	builder.Begin([16]byte{1}, int32(number), base)
	for _, b := range batches {
		if err := builder.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	o.piece = builder.End(next)
	body, _, err := builder.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Create(t.Context(), o.key(), body); err != nil {
		t.Fatal(err)
	}
	return o
}

func (o object) place() Place {
	return Place{Object{Epoch: o.epoch, Number: o.number}, o.piece}
}

// named returns the key of a segment of the tests' shard.
func named(o Object) string { return segment.Key(shard, o.Epoch, o.Number) }

func (o object) key() string { return segment.Key(shard, o.epoch, o.number) }

func (o object) read(r *Reader, ctx context.Context, offset int64, maxBytes int) ([]record.Batch, error) {
	return r.Read(ctx, []Place{o.place()}, offset, maxBytes)
}

// try reads what has to be there.
func (o object) try(t testing.TB, r *Reader, offset int64, maxBytes int) []record.Batch {
	t.Helper()
	batches, err := o.read(r, t.Context(), offset, maxBytes)
	if err != nil {
		t.Errorf("read from %d: %v", offset, err)
		return nil
	}
	o.check(t, batches, offset, maxBytes)
	return batches
}

// must is try for the test's own goroutine.
func (o object) must(t testing.TB, r *Reader, offset int64, maxBytes int) []record.Batch {
	t.Helper()
	batches := o.try(t, r, offset, maxBytes)
	if t.Failed() {
		t.FailNow()
	}
	return batches
}

// check compares what a read gave with what it had to give.
func (o object) check(t testing.TB, got []record.Batch, offset int64, maxBytes int) {
	t.Helper()
	first := slices.IndexFunc(o.batches, func(b record.Batch) bool { return b.NextOffset() > offset })
	if first < 0 {
		if len(got) > 0 {
			t.Errorf("%d batches from %d on, where there are none", len(got), offset)
		}
		return
	}
	size := 0
	for i, b := range got {
		size += len(b)
		if first+i >= len(o.batches) || !bytes.Equal(b, o.batches[first+i]) {
			t.Errorf("batch %d from %d on is at %d", i, offset, b.BaseOffset())
			return
		}
	}
	if len(got) == 0 || len(got) > 1 && size > maxBytes {
		t.Errorf("%d batches of %d bytes from %d on, asked for %d", len(got), size, offset, maxBytes)
	}
}

// counted notes the Gets that pass through it.
type counted struct {
	storage.Bucket
	mu   sync.Mutex
	gets []int64 // guarded by mu: bytes asked for
}

func (c *counted) Get(ctx context.Context, key string, off, n int64) ([]byte, error) {
	c.mu.Lock()
	c.gets = append(c.gets, n)
	c.mu.Unlock()
	return c.Bucket.Get(ctx, key, off, n)
}

// taken returns the Gets since the last time.
func (c *counted) taken() []int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	gets := c.gets
	c.gets = nil
	return gets
}

func newCounted() *counted { return &counted{Bucket: mem.New()} }

// sound checks what the reader counts for itself.
func sound(t testing.TB, r *Reader) {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	c := &r.cache
	used, ahead := c.reserved, c.reserved
	for e := c.order.Front(); e != nil; e = e.Next() {
		it := e.Value.(*item)
		used, ahead = used+it.size, ahead+it.ahead
		if c.items[it.key] != e {
			t.Error("list and map of the cache differ")
		}
	}
	if used != c.used || ahead != c.ahead || len(c.items) != c.order.Len() {
		t.Errorf("%d used, %d ahead, counted %d, %d", used, ahead, c.used, c.ahead)
	}
	if c.used > c.limit || c.ahead > c.limit/aheadShare || len(r.streams.ends) > maxStreams {
		t.Errorf("%d used, %d ahead with limit %d; %d streams", c.used, c.ahead, c.limit, len(r.streams.ends))
	}
}

// idle checks that nothing is left under way.
func idle(t testing.TB, r *Reader) {
	t.Helper()
	sound(t, r)
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.fetches) > 0 || r.cache.reserved != 0 {
		t.Errorf("%d fetches, %d bytes reserved", len(r.fetches), r.cache.reserved)
	}
}
