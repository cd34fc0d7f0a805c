package commitlog

import (
	"sort"
	"sync"
	"sync/atomic"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// damages are the pieces and runs that could not be read because the bytes at rest are
// damaged or missing. Each is reported once.
type damages struct {
	count atomic.Int32 // of known

	mu    sync.Mutex
	known map[cacheKey]bool // guarded by mu; by partition and first offset
}

// maxDamages bounds what is remembered; further damages are not reported.
const maxDamages = 10_000

// add reports whether a piece is new among the damaged ones.
func (d *damages) add(key cacheKey) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.known[key] || len(d.known) == maxDamages {
		return false
	}
	if d.known == nil {
		d.known = make(map[cacheKey]bool)
	}
	d.known[key] = true
	d.count.Store(int32(len(d.known)))
	return true
}

// drop forgets a piece that could be read: its object was put back.
func (d *damages) drop(key cacheKey) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.known, key)
	d.count.Store(int32(len(d.known)))
}

// unreadable notes that records of a partition from an offset on cannot be read, if err
// tells of the bytes at rest. It reports each piece in a segment, and each run in a
// slot, once.
func (l *Log) unreadable(key state.Place, v view, offset int64, err error) {
	if !state.Permanent(err) || l.Err() != nil {
		return
	}
	object, base, next := v.holder(l.shard, offset)
	if object == "" || !l.damages.add(cacheKey{key, base}) {
		return
	}
	name := ""
	if t, found := l.TopicByID(key.Topic); found {
		name = t.Name
	}
	l.log.Error("records are damaged or missing: consumers that reach them get an error until they seek behind them, or weirctl check --repair gives them up",
		"topic", name, "partition", key.Partition, "first_offset", base, "last_offset", next-1, "object", object, "err", err)
}

// unreadableRun is unreadable for the run that begins at an offset.
func (l *Log) unreadableRun(key state.Place, base int64, err error) {
	if v, lookErr := l.look(key); lookErr == nil {
		l.unreadable(key, v, base, err)
	}
}

// readable notes that records of a partition from an offset on could be read.
func (l *Log) readable(key state.Place, v view, offset int64) {
	if l.damages.count.Load() == 0 {
		return
	}
	if object, base, _ := v.holder(l.shard, offset); object != "" {
		l.damages.drop(cacheKey{key, base})
	}
}

// holder returns the object that holds an offset, and the offsets of the piece or run
// with it. object is empty if there is none.
func (v *view) holder(shard uint32, offset int64) (object string, base, next int64) {
	i := sort.Search(len(v.pieces), func(i int) bool { return v.pieces[i].Next > offset })
	if i < len(v.pieces) {
		if x := &v.pieces[i]; x.Base <= offset {
			return x.Segment.Key(shard), x.Base, x.Next
		}
	}
	if offset >= v.end || len(v.index) == 0 || offset < v.index[0].Base {
		return "", 0, 0
	}
	i = holding(v.index, offset)
	next = v.end
	if i+1 < len(v.index) {
		next = v.index[i+1].Base
	}
	return journal.SlotKey(shard, v.index[i].Position()), v.index[i].Base, next
}

// damaged returns how many of the pieces and runs that still exist are known to be
// damaged.
func (l *Log) damaged() (n int) {
	l.damages.mu.Lock()
	defer l.damages.mu.Unlock()
	l.mu.RLock()
	defer l.mu.RUnlock()
	for key := range l.damages.known {
		if p := l.state.Partition(key.place); p != nil && p.Start <= key.base {
			n++
		}
	}
	return n
}
