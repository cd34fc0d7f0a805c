package queue

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/record"
)

// pages are messages of a vhost that were read, the newest ones last. The consumers of
// different queues often want the same ones. They are dropped after a while, see free, so
// that a vhost that nobody uses takes no memory.
type pages struct {
	mu    sync.Mutex
	all   []*page // guarded by mu
	bytes int     // guarded by mu
}

// page is the messages of one read. It does not change.
type page struct {
	base, next int64            // the offsets that it covers
	batches    []*record.Opened // in order
	bytes      int
}

// pageBytes and mostPages bound the pages of a vhost. A read asks for readBytes.
const (
	pageBytes = 8 << 20
	mostPages = 64
	readBytes = 256 << 10
)

// find returns the page that covers an offset, nil if there is none.
func (p *pages) find(id int64) *page {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := len(p.all) - 1; i >= 0; i-- {
		if g := p.all[i]; g.base <= id && id < g.next {
			return g
		}
	}
	return nil
}

// add adds a page, and drops the oldest ones.
func (p *pages) add(g *page) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = append(p.all, g)
	p.bytes += g.bytes
	drop := 0
	for (p.bytes > pageBytes || len(p.all)-drop > mostPages) && drop < len(p.all)-1 {
		p.bytes -= p.all[drop].bytes
		drop++
	}
	p.all = slices.Delete(p.all, 0, drop)
}

// drop drops all pages.
func (p *pages) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all, p.bytes = nil, 0
}

// decode decodes a message of the page into r, false if it is not there.
func (g *page) decode(id int64, r *record.Record) (bool, error) {
	i := sort.Search(len(g.batches), func(i int) bool { return g.batches[i].NextOffset() > id })
	if i == len(g.batches) {
		return false, nil
	}
	return g.batches[i].Decode(id, r)
}

// mostRead is the size of the messages from which on a read ends.
const mostRead = 1 << 20

// read reads messages by their ids, and returns those of the first n that are there, in
// the order of ids. n is less than len(all) if they are large, but not 0.
func (h *host) read(ctx context.Context, all []int64) (found []message, n int, err error) {
	found = make([]message, 0, len(all))
	size := 0
	var g *page
	var r record.Record
	var c copier
	for i, id := range all {
		if size >= mostRead {
			return found, i, nil
		}
		if g == nil || id < g.base || id >= g.next {
			if g, err = h.page(ctx, id); err != nil {
				return nil, 0, err
			}
		}
		if g == nil {
			continue
		}
		ok, err := g.decode(id, &r)
		if err != nil {
			return nil, 0, fmt.Errorf("read message %d of vhost %s: %w", id, h.name, err)
		}
		if ok {
			found = append(found, c.message(&r, len(all)-i))
			size += found[len(found)-1].size()
		}
	}
	return found, len(all), nil
}

// page returns the page that covers an offset, from memory or from the log; nil if the
// log has nothing there.
func (h *host) page(ctx context.Context, id int64) (*page, error) {
	if g := h.pages.find(id); g != nil {
		return g, nil
	}
	f, err := h.engine.log.Fetch(ctx, h.topic, 0, id, readBytes)
	if err != nil {
		return nil, fmt.Errorf("read message %d of vhost %s: %w", id, h.name, err)
	}
	defer f.Lease.Release()
	if len(f.Batches) == 0 || id < record.Batch(f.Batches[0]).BaseOffset() {
		return nil, nil
	}
	g := &page{base: record.Batch(f.Batches[0]).BaseOffset()}
	for _, b := range f.Batches {
		o, err := record.Batch(b).Open(state.MaxInflated)
		if err != nil {
			return nil, fmt.Errorf("read message %d of vhost %s: %w", id, h.name, err)
		}
		g.batches, g.next = append(g.batches, o), o.NextOffset()
		g.bytes += o.Size()
	}
	h.pages.add(g)
	e := h.engine
	e.mu.Lock()
	h.free()
	e.mu.Unlock()
	return g, nil
}
