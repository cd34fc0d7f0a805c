package commitlog

import (
	"sync/atomic"

	"github.com/weirmq/weir/storage/freelist"
	"github.com/weirmq/weir/storage/journal"
)

// keptSlots is how many bytes of memory are kept for slots to come, at most.
const keptSlots = 16 << 20

// memory is the memory of a slot, which is used again when nobody refers to it. Those who
// do hold it: the slot until it was applied, the tail cache for each run that it keeps,
// and whoever reads a run. A holder that never calls drop is safe: the garbage collector
// then finds the memory as it finds any other. A nil *memory is that of a slot whose
// memory is not used again.
type memory struct {
	laid    journal.Laid
	holders atomic.Int64
	list    *freelist.List // where it goes
}

// newMemory returns memory for a slot of size bytes, held once.
func newMemory(list *freelist.List, size int) *memory {
	m := &memory{list: list}
	m.laid.Bytes = list.Get(size)
	m.holders.Store(1)
	return m
}

// hold adds a holder. The caller must be sure that there is one.
func (m *memory) hold() {
	if m != nil {
		m.holders.Add(1)
	}
}

// drop ends what hold or newMemory began.
func (m *memory) drop() {
	if m != nil && m.holders.Add(-1) == 0 {
		m.list.Put(m.laid.Bytes)
	}
}

// Lease holds the memory in which the batches of a Fetched lie, so that it is not used
// again. A nil *Lease holds nothing.
type Lease struct{ held []*memory }

// add takes over a hold.
func (l *Lease) add(m *memory) {
	if m != nil {
		l.held = append(l.held, m)
	}
}

// Release says that nobody refers to the batches any more. It must not be called
// concurrently; only the first call counts. Without a call the garbage collector does the
// work.
func (l *Lease) Release() {
	if l == nil {
		return
	}
	for _, m := range l.held {
		m.drop()
	}
	l.held = nil
}
