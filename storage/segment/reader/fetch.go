package reader

import (
	"bytes"
	"context"
	"fmt"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// fetch is one Get of a range, and the readers that wait for it.
type fetch struct {
	keys     []key
	cancel   context.CancelFunc
	reserved int64 // bytes in the cache, if it reads ahead

	waiters int          // guarded by Reader.mu
	asked   map[key]bool // guarded by Reader.mu: what has been waited for

	done  chan struct{} // closed when the rest is there
	items map[key]*item // of the keys that could be read, and perhaps of more
	errs  map[key]error // of the other keys
}

// want is an item that a read needs: it is here, or on its way.
type want struct {
	key   key
	item  *item
	fetch *fetch
}

// requestIndex finds the index of a piece, or sees that it is fetched.
func (r *Reader) requestIndex(at Place) (want, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return want{}, ErrClosed
	}
	w := r.look(key{at, index})
	if w.item == nil && w.fetch == nil {
		f := r.start([]key{w.key}, 0, func(ctx context.Context, f *fetch) { r.getIndex(ctx, f, at) })
		w.join(f)
	}
	return w, nil
}

// request finds the blocks from first to last of a piece, or sees that they are
// fetched; and those behind them too, if the reader that asks for offset continues from there.
// asked is the first block that was not asked for on its behalf.
func (r *Reader) request(at Place, blocks []segment.Block, first, last int, offset int64) (wanted []want, asked int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, 0, ErrClosed
	}
	wanted = make([]want, last-first)
	for i := range wanted {
		wanted[i] = r.look(key{at, first + i})
	}
	for i := 0; i < len(wanted); i++ {
		if wanted[i].item != nil || wanted[i].fetch != nil {
			continue
		}
		n := r.missing(at, blocks[:last], first+i, maxGet)
		f := r.startBlocks(at, blocks, first+i, n, 0)
		for range n {
			wanted[i].join(f)
			i++
		}
		i--
	}
	before, readsOn := r.streams.take(streamOf(at, offset))
	if asked = last; before.at == at {
		asked = max(asked, before.asked)
	}
	if readsOn && !at.Object.Slot {
		asked = r.readAhead(at, blocks, last, asked)
	}
	return wanted, asked, nil
}

// look finds an item in the cache, or joins its fetch. mu is held.
func (r *Reader) look(k key) want {
	w := want{key: k, item: r.cache.get(k)}
	if w.item != nil {
		r.hits.Add(1)
		return w
	}
	r.misses.Add(1)
	if f := r.fetches[k]; f != nil {
		w.join(f)
	}
	return w
}

// join makes w wait for f. Reader.mu is held.
func (w *want) join(f *fetch) {
	w.fetch = f
	f.waiters++
	f.asked[w.key] = true
}

// missing is how many blocks from first on are neither here nor on their way,
// and fit in a Get of limit bytes; a first one that is larger does. mu is held.
func (r *Reader) missing(at Place, blocks []segment.Block, first int, limit int64) int {
	size := int64(0)
	for i := first; i < len(blocks); i++ {
		k := key{at, i}
		size += int64(blocks[i].Size)
		if i > first && size > limit || r.cache.has(k) || r.fetches[k] != nil {
			return i - first
		}
	}
	return len(blocks) - first
}

// startBlocks begins to fetch n blocks. mu is held.
func (r *Reader) startBlocks(at Place, blocks []segment.Block, first, n int, reserved int64) *fetch {
	keys := make([]key, n)
	for i := range keys {
		keys[i] = key{at, first + i}
	}
	return r.start(keys, reserved, func(ctx context.Context, f *fetch) {
		r.getBlocks(ctx, f, blocks[first:first+n])
	})
}

// start begins a fetch; get fills in items and errs. mu is held, and the reader
// is not closed.
func (r *Reader) start(keys []key, reserved int64, get func(context.Context, *fetch)) *fetch {
	f := &fetch{
		keys: keys, reserved: reserved, asked: make(map[key]bool),
		done: make(chan struct{}), items: make(map[key]*item), errs: make(map[key]error),
	}
	ctx, cancel := context.WithCancel(r.life)
	f.cancel = cancel
	for _, k := range keys {
		r.fetches[k] = f
	}
	r.running.Go(func() {
		defer cancel()
		get(ctx, f)
		r.complete(f)
	})
	return f
}

// getBlocks reads the blocks of f's keys, which lie one behind the other.
func (r *Reader) getBlocks(ctx context.Context, f *fetch, blocks []segment.Block) {
	from, last := blocks[0].At, blocks[len(blocks)-1]
	raw, err := r.get(ctx, f.keys[0].Place, int64(from), int64(last.At-from+last.Size))
	for i, k := range f.keys {
		if err != nil {
			f.errs[k] = err
			continue
		}
		b := blocks[i]
		it, err := r.newBlock(k, b, raw, b.At-from, b.Batches)
		if err != nil {
			f.errs[k] = err
			continue
		}
		if f.reserved > 0 {
			it.ahead = int64(b.Size)
		}
		f.items[k] = it
	}
}

// getIndex reads the index of a piece. A piece that is no larger than a block is
// read as a whole: it will be asked for next, and a Get costs more than its
// bytes.
func (r *Reader) getIndex(ctx context.Context, f *fetch, at Place) {
	p, k := &at.Piece, f.keys[0]
	if at.Object.Slot {
		r.getRun(ctx, f, at)
		return
	}
	if err := p.Check(); err != nil {
		f.errs[k] = r.named(at, err)
		return
	}
	from, n := p.At+p.Size-p.Index, p.Index
	if p.Size <= segment.BlockSize {
		from, n = p.At, p.Size
	}
	raw, err := r.get(ctx, at, int64(from), int64(n))
	if err != nil {
		f.errs[k] = err
		return
	}
	blocks, err := p.Blocks(raw[n-p.Index:])
	if err != nil {
		f.errs[k] = r.named(at, err)
		return
	}
	f.items[k] = &item{key: k, blocks: blocks, size: int64(itemSize + entrySize*len(blocks))}
	if n == p.Index {
		return
	}
	for i, b := range blocks {
		// The read that wants a damaged block reports it.
		if it, err := r.newBlock(key{at, i}, b, raw, b.At-p.At, b.Batches); err == nil {
			f.items[it.key] = it
		}
	}
}

// getRun reads a piece in a slot, as a whole: where its batches begin is known only
// then.
func (r *Reader) getRun(ctx context.Context, f *fetch, at Place) {
	k := f.keys[0]
	raw, err := r.get(ctx, at, int64(at.Piece.At), int64(at.Piece.Size))
	if err != nil {
		f.errs[k] = err
		return
	}
	blocks, err := at.Piece.Run(raw, at.Object.Leader)
	if err != nil {
		f.errs[k] = r.named(at, err)
		return
	}
	it := &item{key: k, blocks: blocks, size: int64(itemSize + entrySize*len(blocks))}
	f.items[k] = it
	for i, b := range blocks {
		it, err := r.newBlock(key{at, i}, b, raw, b.At-at.Piece.At, b.Cut)
		if err != nil {
			f.errs[k] = err
			return
		}
		if f.reserved > 0 {
			it.ahead = int64(b.Size)
		}
		f.items[it.key] = it
	}
}

// get reads a range of a segment that is known to be there.
func (r *Reader) get(ctx context.Context, at Place, from, n int64) ([]byte, error) {
	raw, err := r.bucket.Get(ctx, r.name(at.Object), from, n)
	switch {
	case r.life.Err() != nil:
		return nil, ErrClosed
	case err != nil:
		return nil, fmt.Errorf("read segment: %w", err)
	}
	r.bytesRead.Add(int64(len(raw)))
	if int64(len(raw)) != n {
		return nil, r.named(at, fmt.Errorf("%w: %d bytes from %d on instead of %d", segment.ErrCorrupt, len(raw), from, n))
	}
	return raw, nil
}

// newBlock cuts the block that begins at a place in raw into batches. It is copied,
// unless it fills nearly all of that: else a block in the cache would keep neighbours in
// memory that have left it.
func (r *Reader) newBlock(k key, b segment.Block, raw []byte, at uint32, cut func([]byte) ([]record.Batch, error)) (*item, error) {
	own, size := raw[at:][:b.Size:b.Size], cap(raw)
	if size > len(own)+len(own)/8 {
		own = bytes.Clone(own)
		size = cap(own)
	}
	batches, err := cut(own)
	if err != nil {
		return nil, r.named(k.Place, err)
	}
	return &item{key: k, batches: batches, size: int64(itemSize + size + batchSize*len(batches))}, nil
}

// named adds the key to an error that does not name it.
func (r *Reader) named(at Place, err error) error {
	return fmt.Errorf("segment %s: %w", r.name(at.Object), err)
}

// complete puts what was fetched into the cache and tells the readers that wait. An error
// is for them only: a later reader tries again.
func (r *Reader) complete(f *fetch) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forget(f)
	r.cache.release(f.reserved)
	for k, it := range f.items {
		if f.asked[k] {
			it.ahead = 0
		}
		r.cache.add(it)
	}
	close(f.done)
}

// forget takes a fetch off the list of those that can be joined. mu is held.
func (r *Reader) forget(f *fetch) {
	for _, k := range f.keys {
		if r.fetches[k] == f {
			delete(r.fetches, k)
		}
	}
}

// wait returns the wanted items up to the first that cannot be read, and the error of
// that one.
func (r *Reader) wait(ctx context.Context, wanted []want) ([]*item, error) {
	defer r.leave(wanted)
	items := make([]*item, 0, len(wanted))
	for _, w := range wanted {
		if w.fetch != nil {
			select {
			case <-w.fetch.done:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
			if err := w.fetch.errs[w.key]; err != nil {
				return items, err
			}
			w.item = w.fetch.items[w.key]
		}
		items = append(items, w.item)
	}
	return items, nil
}

// leave ends the wait. When the last reader leaves a fetch, the fetch ends, unless it
// reads ahead; a later reader begins another one.
func (r *Reader) leave(wanted []want) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, w := range wanted {
		if w.fetch == nil {
			continue
		}
		if w.fetch.waiters--; w.fetch.waiters == 0 && w.fetch.reserved == 0 {
			w.fetch.cancel()
			r.forget(w.fetch)
		}
	}
}
