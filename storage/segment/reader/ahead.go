package reader

import (
	"context"

	"github.com/weirmq/weir/storage/segment"
)

// All that was read ahead and not asked for yet takes at most 1/aheadShare of the
// cache. One Get ahead takes at most 1/groupShare of it, and at most maxGet.
const (
	aheadShare = 4
	groupShare = 16
)

// readAhead fetches blocks ahead of a reader. next is the block after those that the
// reader gets now, asked the first one that was not asked for yet. It fetches more when
// one Get or less is ahead, so there are at most two. It returns the new asked. mu is
// held.
//
// What was fetched for a reader that stops stays in the cache until it is evicted.
func (r *Reader) readAhead(at Place, blocks []segment.Block, next, asked int) int {
	group := min(maxGet, r.cache.limit/groupShare)
	unread := sizeOf(blocks[next:asked])
	for unread <= group && asked < len(blocks) {
		left := r.cache.limit/aheadShare - r.cache.ahead
		n := r.missing(at, blocks, asked, min(group, left))
		size := sizeOf(blocks[asked : asked+n])
		switch {
		case n == 0: // it is in the cache, or is being fetched
			n, size = 1, int64(blocks[asked].Size)
		case size > left || !r.cache.reserve(size):
			return asked
		default:
			r.startBlocks(at, blocks, asked, n, size)
		}
		asked, unread = asked+n, unread+size
	}
	return asked
}

func sizeOf(blocks []segment.Block) (size int64) {
	for i := range blocks {
		size += int64(blocks[i].Size)
	}
	return size
}

// readRuns fetches the pieces of a row that lie in slots: at once those that a read of
// maxBytes from offset on needs, which would else be fetched one after the other, and
// ahead of a reader that continues where a read ended those that follow.
func (r *Reader) readRuns(row []Place, offset int64, maxBytes int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(row) == 0 {
		return
	}
	readsOn := r.streams.has(streamOf(row[0], offset))
	ahead := min(maxGet, r.cache.limit/groupShare)
	for i, size := 0, int64(0); i < len(row) && row[i].Object.Slot; i++ {
		at, bytes := row[i], int64(row[i].Piece.Size)
		needed := size < int64(min(maxBytes, maxRead))
		if !needed && (!readsOn || ahead <= 0) {
			return
		}
		if size += bytes; !needed {
			ahead -= bytes
		}
		k := key{at, index}
		if i == 0 || r.cache.has(k) || r.fetches[k] != nil {
			continue // the read itself fetches the first
		}
		reserved := int64(0)
		if !needed {
			if bytes > r.cache.limit/aheadShare-r.cache.ahead || !r.cache.reserve(bytes) {
				return
			}
			reserved = bytes
		}
		r.start([]key{k}, reserved, func(ctx context.Context, f *fetch) { r.getIndex(ctx, f, at) })
	}
}

// stream is a reader that reads a partition in order: it is going to ask for offset.
type stream struct {
	topic     [16]byte
	partition int32
	offset    int64
}

func streamOf(at Place, offset int64) stream {
	return stream{at.Piece.Topic, at.Piece.Partition, offset}
}

// maxStreams is how many readers are remembered.
const maxStreams = 1024

// streams remembers where reads ended, the newest maxStreams of them, and how far
// blocks were asked for there. Reader.mu guards it.
type streams struct {
	ends map[stream]end
	ring []stream // in the order of put; some have been taken or put anew
	next int      // place in the ring
}

type end struct {
	at    Place
	asked int // block of it
	slot  int // in the ring
}

func newStreams() streams { return streams{ends: make(map[stream]end)} }

func (s *streams) put(at stream, e end) {
	if len(s.ring) < maxStreams {
		s.ring = append(s.ring, stream{})
	} else if old := s.ring[s.next]; s.ends[old].slot == s.next {
		delete(s.ends, old)
	}
	s.ring[s.next] = at
	e.slot = s.next
	s.ends[at] = e
	s.next = (s.next + 1) % maxStreams
}

// take removes a stream, because its reader goes on.
func (s *streams) take(at stream) (e end, found bool) {
	e, found = s.ends[at]
	delete(s.ends, at)
	return e, found
}

// has reports whether there is a stream that take would find.
func (s *streams) has(at stream) bool {
	_, found := s.ends[at]
	return found
}
