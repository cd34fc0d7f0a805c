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
	runs  map[cacheKey][]byte // guarded by mu
	order []cacheKey          // guarded by mu; oldest first
	bytes int64               // guarded by mu
}

// cachedRun is about the memory that a run in the cache takes besides its bytes.
const cachedRun = 160

func newCache(limit int64) *cache {
	return &cache{limit: limit, runs: make(map[cacheKey][]byte)}
}

// add keeps a run, unless it is there or will never fit.
func (c *cache) add(key cacheKey, data []byte) {
	size := int64(len(data)) + cachedRun
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.runs[key] != nil || size > c.limit {
		return
	}
	for c.bytes+size > c.limit {
		oldest := c.order[0]
		c.bytes -= int64(len(c.runs[oldest])) + cachedRun
		delete(c.runs, oldest)
		c.order = c.order[1:]
	}
	c.runs[key] = data
	c.order = append(c.order, key)
	c.bytes += size
}

// get returns nil if the run is not there.
func (c *cache) get(key cacheKey) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.runs[key]
}
