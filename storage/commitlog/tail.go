package commitlog

import (
	"sync"

	"github.com/weirmq/weir/storage/commitlog/state"
)

// cacheKey names a run by its partition and its first offset.
type cacheKey struct {
	place state.Place
	base  int64
}

// cache keeps runs in memory, bounded by their bytes, and evicts the oldest first. What
// it returns is shared and never changed.
type cache struct {
	limit int64

	mu    sync.Mutex
	runs  map[cacheKey]cached // guarded by mu
	order []cacheKey          // guarded by mu; oldest first
	bytes int64               // guarded by mu
}

// cached is a run in memory.
type cached struct {
	data   []byte
	memory *memory // that data is part of; held
}

// cachedRun is about the memory that a run in the cache takes besides its bytes.
const cachedRun = 160

func newCache(limit int64) *cache {
	return &cache{limit: limit, runs: make(map[cacheKey]cached)}
}

// add keeps a run, which lies in the memory of a slot unless m is nil. It does not if the
// run is there, or will never fit.
func (c *cache) add(key cacheKey, data []byte, m *memory) {
	size := int64(len(data)) + cachedRun
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[key].data != nil || size > c.limit {
		return
	}
	for c.bytes+size > c.limit {
		oldest := c.order[0]
		run := c.runs[oldest]
		c.bytes -= int64(len(run.data)) + cachedRun
		run.memory.drop()
		delete(c.runs, oldest)
		c.order = c.order[1:]
	}
	m.hold()
	c.runs[key] = cached{data, m}
	c.order = append(c.order, key)
	c.bytes += size
}

// get returns nil if the run is not there. lease, if any, takes hold of its memory; else
// the garbage collector does.
func (c *cache) get(key cacheKey, lease *Lease) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	run := c.runs[key]
	run.memory.hold()
	if lease != nil {
		lease.add(run.memory)
	}
	return run.data
}
