package uplink

import (
	"sync"
	"time"
)

// silenceTime is after how long without an answer a shard is silent: its owner is frozen
// or cut off, and another node has not taken the shard yet.
const silenceTime = 2 * time.Second

// Window bounds the bytes of batches that shards have not answered. No shard has more of
// them than are left for the others, so one whose log takes nothing does not hold up the
// others.
type Window struct {
	size   int64
	silent time.Duration // 0: Take waits as long as it takes

	mu     sync.Mutex // guards what follows
	freed  sync.Cond
	free   int64
	heard  time.Time // when something was answered, or was taken while nothing was
	taken  map[uint32]share
	closed bool
}

// share is what a shard has of a Window.
type share struct {
	bytes int64
	heard time.Time // as Window.heard
}

// NewWindow makes a Window of size bytes. After two seconds without an answer a shard is
// silent, unless patient is set.
func NewWindow(size int64, patient bool) *Window {
	w := &Window{free: size, size: size, taken: make(map[uint32]share)}
	if !patient {
		w.silent = silenceTime
	}
	w.freed.L = &w.mu
	return w
}

// Take waits for n bytes for a shard, or for the whole window if n is more. It returns how
// many it has taken; none after Close. It reports false, and has taken none, if there is no
// room and the shard is silent, or all shards are that have what it waits for.
func (w *Window) Take(shard uint32, n int64) (taken int64, ok bool) {
	n = min(n, w.size)
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.taken[shard].bytes+n > w.free && !w.closed {
		if w.silent == 0 {
			w.freed.Wait()
			continue
		}
		heard := w.heard
		if s := w.taken[shard]; s.bytes > 0 {
			heard = s.heard
		}
		left := w.silent - time.Since(heard)
		if left <= 0 {
			return 0, false
		}
		late := time.AfterFunc(left, w.look)
		w.freed.Wait()
		late.Stop()
	}
	if w.closed {
		return 0, true
	}
	s := w.taken[shard]
	if s.bytes == 0 {
		s.heard = time.Now()
	}
	if w.free == w.size {
		w.heard = time.Now()
	}
	w.free -= n
	s.bytes += n
	w.taken[shard] = s
	return n, true
}

// look makes those that wait look at the time. It has mu, so that it does not come between
// a look and the waiting after it.
func (w *Window) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.freed.Broadcast()
}

// Give gives back what a batch has taken, because it was answered.
func (w *Window) Give(shard uint32, n int64) {
	if n == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.taken[shard]
	w.heard = time.Now()
	w.free += n
	s.bytes, s.heard = s.bytes-n, w.heard
	if w.taken[shard] = s; s.bytes == 0 {
		delete(w.taken, shard)
	}
	w.freed.Broadcast()
}

// Close ends waiting.
func (w *Window) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.freed.Broadcast()
}
