package reader

import (
	"container/list"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/segment"
)

// Object names the object that a piece lies in.
type Object struct {
	Epoch, Number uint64
	Shard         uint32 // that it belongs to
	Slot          bool   // it is a slot of the journal; its pieces have no index
	Leader        int32  // of a slot: leader epoch of all batches of the piece
}

// Place is a piece and the object that it lies in.
type Place struct {
	Object Object
	Piece  segment.Piece // as Builder.End returned it, or of a slot with Index 0
}

// key names what is cached: a block of a piece by its number, or the index.
type key struct {
	Place
	block int
}

const index = -1

// item is what is cached under a key. What it points to is never changed.
type item struct {
	key     key
	batches []record.Batch  // of a block
	blocks  []segment.Block // of an index
	size    int64           // of all that it keeps in memory, about
	ahead   int64           // guarded by Reader.mu: its bytes, if it was read ahead and not asked for yet
}

// What an item takes besides its bytes: itself with its places in map and list,
// and for each batch or entry.
const (
	itemSize  = 512
	batchSize = 24
	entrySize = 40
)

// cache keeps items up to a limit of bytes; what was not used for longest leaves
// first. Reader.mu guards it.
type cache struct {
	limit    int64
	items    map[key]*list.Element
	order    list.List // of *item, the last used in front
	used     int64     // bytes of the items, and what is reserved
	reserved int64     // for what is being read ahead
	ahead    int64     // bytes that are being read ahead, or were and are not asked for yet
}

func newCache(limit int64) cache {
	return cache{limit: limit, items: make(map[key]*list.Element)}
}

func (c *cache) has(k key) bool { return c.items[k] != nil }

// get returns nil if there is no such item.
func (c *cache) get(k key) *item {
	e := c.items[k]
	if e == nil {
		return nil
	}
	c.order.MoveToFront(e)
	it := e.Value.(*item)
	c.asked(it)
	return it
}

// asked notes that an item that was read ahead has been used, or never will be.
func (c *cache) asked(it *item) {
	c.ahead -= it.ahead
	it.ahead = 0
}

// add keeps an item, unless it is there already or does not fit.
func (c *cache) add(it *item) {
	if c.has(it.key) || !c.room(it.size) {
		it.ahead = 0
		return
	}
	c.used += it.size
	c.ahead += it.ahead
	c.items[it.key] = c.order.PushFront(it)
}

// room removes items until n more bytes fit. If they never will, it removes nothing.
func (c *cache) room(n int64) bool {
	if n > c.limit-c.reserved {
		return false
	}
	for c.used+n > c.limit {
		oldest := c.order.Remove(c.order.Back()).(*item)
		delete(c.items, oldest.key)
		c.used -= oldest.size
		c.asked(oldest)
	}
	return true
}

// reserve takes n bytes for what is going to be read ahead, until release.
func (c *cache) reserve(n int64) bool {
	if !c.room(n) {
		return false
	}
	c.used += n
	c.reserved += n
	c.ahead += n
	return true
}

func (c *cache) release(n int64) {
	c.used -= n
	c.reserved -= n
	c.ahead -= n
}
