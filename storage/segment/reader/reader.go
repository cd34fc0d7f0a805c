// Package reader reads pieces of segments in ranges, through a cache of blocks.
//
// The way of a read: the index of the piece, then the blocks that it needs
// (reader.go). What is not in the cache (cache.go) is fetched: neighbours in one
// Get, and once for all readers that wait for it (fetch.go). For a reader that continues
// where a read ended, the next blocks are fetched before it asks (ahead.go).
package reader

import (
	"context"
	"errors"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// ErrClosed: the reader was closed.
var ErrClosed = errors.New("segment reader is closed")

// maxGet bounds one Get of several blocks, maxRead one Read, whatever it was
// asked for, and with it the memory and the requests that it takes.
const (
	maxGet  = 4 << 20
	maxRead = 4 * maxGet
)

// Reader reads the segments of one shard. Its methods may be called from many
// goroutines at once.
//
// Its memory is bounded: the cache, with what is being read ahead, by the limit
// that it was made with. Besides that there is what reads are waiting for, 16 MiB
// each or one larger block, twice while it arrives; and what their callers keep.
type Reader struct {
	bucket storage.Bucket
	name   func(Object) string // returns the key of an object

	life    context.Context // of all Gets; Close ends it
	end     context.CancelFunc
	running sync.WaitGroup // Gets under way

	hits, misses, bytesRead atomic.Int64

	mu      sync.Mutex
	closed  bool           // guarded by mu
	cache   cache          // guarded by mu
	fetches map[key]*fetch // guarded by mu: under way; a reader that wants one of these waits for it
	streams streams        // guarded by mu
}

// New returns a reader with a cache of limit bytes for blocks and indexes. With
// 0 it keeps nothing. name returns the key of an object.
func New(b storage.Bucket, name func(Object) string, limit int64) *Reader {
	r := &Reader{
		bucket:  b,
		name:    name,
		cache:   newCache(limit),
		fetches: make(map[key]*fetch),
		streams: newStreams(),
	}
	r.life, r.end = context.WithCancel(context.Background())
	return r
}

// Close ends all Gets and waits for them. Reads that wait return ErrClosed, and
// so do later ones. The bucket stays open.
func (r *Reader) Close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.end()
	r.running.Wait()
}

// Stats are counters since New, and what the cache holds now.
type Stats struct {
	Hits      int64 // blocks and indexes that were in the cache when a read wanted them
	Misses    int64 // those that it had to wait for
	BytesRead int64 // from the bucket, also ahead
	Cached    int64 // bytes in the cache and on their way into it; at most the limit
}

// Stats may be called at any time.
func (r *Reader) Stats() Stats {
	r.mu.Lock()
	cached := r.cache.used
	r.mu.Unlock()
	return Stats{Hits: r.hits.Load(), Misses: r.misses.Load(), BytesRead: r.bytesRead.Load(), Cached: cached}
}

// Read returns batches of a row of pieces of one partition, which follow each other
// without a hole: from the batch on that holds offset, or the first one behind it, since
// offsets may have holes. It returns about maxBytes of them (at most 16 MiB), at least
// one if there is any. offset lies in the first piece. Pieces that maxBytes does not
// reach are read ahead, if they lie in slots and the reader continues where a read
// ended.
//
// The batches alias the cache: others read them too, so they must not be changed.
// Each keeps all of its block in memory.
//
// Errors: fs.ErrNotExist when a segment is gone (it was replaced meanwhile: the
// caller looks again where the offset lies now); segment.ErrCorrupt and
// segment.ErrFormat, naming the key; ErrClosed; ctx's, and the bucket's. An error
// behind the first batches is reported by the read that begins there.
func (r *Reader) Read(ctx context.Context, row []Place, offset int64, maxBytes int) ([]record.Batch, error) {
	var batches []record.Batch
	size := 0
	r.readRuns(row, offset, maxBytes)
	for i := range row {
		got, err := r.readPiece(ctx, row[i], offset, maxBytes-size)
		if err != nil && len(batches) == 0 {
			return nil, err
		}
		if err != nil {
			return batches, nil
		}
		for _, b := range got {
			size += len(b)
		}
		if batches == nil {
			batches = got
		} else {
			batches = append(batches, got...)
		}
		if n := len(got); n > 0 && (size >= maxBytes || got[n-1].NextOffset() < row[i].Piece.Next) {
			return batches, nil
		}
		offset = row[i].Piece.Next
	}
	return batches, nil
}

// readPiece is Read for one piece.
func (r *Reader) readPiece(ctx context.Context, at Place, offset int64, maxBytes int) ([]record.Batch, error) {
	blocks, err := r.Blocks(ctx, at)
	if err != nil {
		return nil, err
	}
	first, last := span(blocks, offset, maxBytes)
	if first == last {
		return nil, nil
	}
	wanted, asked, err := r.request(at, blocks, first, last, offset)
	if err != nil {
		return nil, err
	}
	items, err := r.wait(ctx, wanted)
	if len(items) == 0 {
		return nil, err
	}
	batches := trim(items, offset, maxBytes)
	r.mu.Lock()
	r.streams.put(streamOf(at, batches[len(batches)-1].NextOffset()), end{at: at, asked: asked})
	r.mu.Unlock()
	return batches, nil
}

// Blocks returns the index of a piece. It is shared and must not be changed. Of a piece
// in a slot it is made when the piece is read.
//
// Errors: as Read.
func (r *Reader) Blocks(ctx context.Context, at Place) ([]segment.Block, error) {
	wanted, err := r.requestIndex(at)
	if err != nil {
		return nil, err
	}
	items, err := r.wait(ctx, []want{wanted})
	if err != nil {
		return nil, err
	}
	return items[0].blocks, nil
}

// span returns the blocks from the one that has the first batch at or behind
// offset, about maxBytes of them, and at least one if there is any.
func span(blocks []segment.Block, offset int64, maxBytes int) (first, last int) {
	first = sort.Search(len(blocks), func(i int) bool { return blocks[i].Next > offset })
	size := int64(0)
	for last = first; last < len(blocks); last++ {
		next := size + int64(blocks[last].Size)
		if last > first && (size >= int64(maxBytes) || next > maxRead) {
			break
		}
		size = next
	}
	return first, last
}

// trim leaves out the batches before offset, and those that are too much.
func trim(items []*item, offset int64, maxBytes int) []record.Batch {
	var batches []record.Batch
	size := 0
	for _, it := range items {
		for _, b := range it.batches {
			if b.NextOffset() <= offset {
				continue
			}
			if size += len(b); len(batches) > 0 && size > maxBytes {
				return batches
			}
			batches = append(batches, b)
		}
	}
	return slices.Clip(batches)
}
