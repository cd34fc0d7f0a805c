package reader

import "github.com/weirmq/weir/storage/segment"

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
func (r *Reader) readAhead(at place, blocks []segment.Block, next, asked int) int {
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

// stream is a reader that reads a piece in order: it is going to ask for offset.
type stream struct {
	place
	offset int64
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
	asked int // block
	slot  int // in the ring
}

func newStreams() streams { return streams{ends: make(map[stream]end)} }

func (s *streams) put(at stream, asked int) {
	if len(s.ring) < maxStreams {
		s.ring = append(s.ring, stream{})
	} else if old := s.ring[s.next]; s.ends[old].slot == s.next {
		delete(s.ends, old)
	}
	s.ring[s.next] = at
	s.ends[at] = end{asked, s.next}
	s.next = (s.next + 1) % maxStreams
}

// take removes a stream, because its reader goes on.
func (s *streams) take(at stream) (asked int, found bool) {
	e, found := s.ends[at]
	delete(s.ends, at)
	return e.asked, found
}
