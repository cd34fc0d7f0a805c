// Package freelist keeps memory for reuse that the garbage collector would otherwise have
// to find: a busy node handles its size in records every second.
package freelist

import (
	"math/bits"
	"slices"
	"sync"
	"time"
)

// List keeps buffers that were used, by size. It gives up those that nobody has needed for
// a fifth of a second. Unlike a sync.Pool it is bounded, and it is not emptied by the garbage
// collector, which runs up to fifty times a second on a busy node. A nil *List keeps
// nothing. It may be used by many goroutines.
type List struct {
	limit int

	mu     sync.Mutex
	kept   [classes][][]byte // guarded by mu: buffers of sizeOf(class) bytes, empty
	unused [classes]int      // guarded by mu: how many of kept nobody has needed since the last trim
	bytes  int               // guarded by mu: of all buffers
	trims  bool              // guarded by mu: trim is due, within pause
}

// New returns a list that keeps limit bytes at most.
func New(limit int) *List { return &List{limit: limit} }

// pause is the time between two trims.
const pause = time.Second / 10

// Classes of buffers: four sizes for each power of two, from least to most bytes.
const (
	leastBits = 13 // 8 KiB
	mostBits  = 24 // 16 MiB
	classes   = (mostBits-leastBits)*4 + 1
)

// sizeOf returns the size of the buffers of a class.
func sizeOf(class int) int { return (4 + class%4) << (leastBits - 2 + class/4) }

// classOf returns the class of the smallest buffers with room for n bytes; classes or
// more, if there is none.
func classOf(n int) int {
	if n <= 1<<leastBits {
		return 0
	}
	exponent := bits.Len(uint(n-1)) - 1      // 1<<exponent < n <= 2<<exponent
	quarter := (n - 1) >> (exponent - 2) & 3 // of the way from the one to the other
	return (exponent-leastBits)*4 + quarter%4 + 1
}

// small is a size of which buffers are made as they are needed, and not kept: they would
// have to be larger than that.
const small = 6 << 10

// Get returns an empty buffer with room for n bytes: new ones have a third more at most,
// kept ones three quarters. Its contents up to its capacity are whatever they were.
func (l *List) Get(n int) []byte {
	if p := l.Kept(n); p != nil {
		return p
	}
	if class := classOf(n); l != nil && n > small && class < classes {
		n = sizeOf(class)
	}
	return make([]byte, 0, n)
}

// wider is how many classes above the right one a buffer may be of.
const wider = 2

// Kept is Get if there is such a buffer already, else nil.
func (l *List) Kept(n int) []byte {
	class := classOf(n)
	if l == nil || n <= small {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := class; c <= min(class+wider, classes-1); c++ {
		if last := len(l.kept[c]) - 1; last >= 0 {
			p := l.kept[c][last]
			l.kept[c][last], l.kept[c] = nil, l.kept[c][:last]
			l.unused[c] = min(l.unused[c], last)
			l.bytes -= cap(p)
			return p
		}
	}
	return nil
}

// Put returns a buffer to which nobody refers any more. The buffer need not come from
// Get; one of a size that is not kept, or that would be too much, is left to the garbage
// collector.
func (l *List) Put(p []byte) {
	class := classOf(cap(p))
	if l == nil || class >= classes || cap(p) != sizeOf(class) {
		return
	}
	spoil(p[:cap(p)])
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.bytes+cap(p) <= l.limit {
		l.kept[class] = append(l.kept[class], p[:0])
		l.bytes += cap(p)
		l.due()
	}
}

// due makes sure that trim runs. The caller holds mu.
func (l *List) due() {
	if !l.trims && l.bytes > 0 {
		l.trims = true
		time.AfterFunc(pause, l.trim)
	}
}

// trim gives up the buffers that nobody has needed since the last trim.
func (l *List) trim() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c, n := range l.unused {
		l.kept[c] = slices.Delete(l.kept[c], 0, n)
		l.bytes -= n * sizeOf(c)
		l.unused[c] = len(l.kept[c])
	}
	l.trims = false
	l.due()
}
