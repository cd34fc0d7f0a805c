package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
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

// page is the messages of one read, in order. It does not change.
type page struct {
	base, next int64 // the offsets that it covers
	messages   []message
	bytes      int
}

// pageBytes and mostPages bound the pages of a vhost. A read asks for readBytes.
const (
	pageBytes = 4 << 20
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

// message returns a message of the page, nil if it is not there.
func (g *page) message(id int64) *message {
	i, found := slices.BinarySearchFunc(g.messages, id, func(m message, id int64) int { return cmp.Compare(m.id, id) })
	if !found {
		return nil
	}
	return &g.messages[i]
}

// mostRead is the size of the messages from which on a read ends.
const mostRead = 1 << 20

// read reads messages by their ids, and returns those of the first n that are there, in
// the order of ids. n is less than len(all) if they are large, but not 0.
func (h *host) read(ctx context.Context, all []int64) (found []message, n int, err error) {
	found = make([]message, 0, len(all))
	size := 0
	var g *page
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
		if m := g.message(id); m != nil {
			found = append(found, *m)
			size += m.size()
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
		if err := g.add(b); err != nil {
			return nil, fmt.Errorf("read message %d of vhost %s: %w", id, h.name, err)
		}
	}
	h.pages.add(g)
	e := h.engine
	e.mu.Lock()
	h.free()
	e.mu.Unlock()
	return g, nil
}

// add copies the messages of a batch to the end of the page.
func (g *page) add(b record.Batch) error {
	g.messages = slices.Grow(g.messages, int(b.Count()))
	g.next = b.NextOffset()
	return b.Each(state.MaxInflated, func(r *record.Record) error {
		g.messages = append(g.messages, decodeMessage(r))
		g.bytes += g.messages[len(g.messages)-1].size()
		return nil
	})
}
