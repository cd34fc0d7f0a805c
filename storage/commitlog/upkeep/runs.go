package upkeep

import (
	"fmt"
	"io/fs"
	"sync"

	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// fetchers is how many slots or runs are read at once.
const fetchers = 8

// largeRun is the size from which on a run is read by itself, when it is its turn. Smaller
// ones are read with the slot that they lie in: that is one request for many of them, but
// takes the memory of all slots of a pass.
const largeRun = 128 << 10

// fetch reads the slots with small runs that jobs want and that are not in memory. One
// that cannot be read now is tried again, by itself, when it is its turn.
func (w *rewriter) fetch(jobs []job) {
	l := w.m.log
	missing := make(map[journal.Position]bool)
	for i := range jobs {
		for k, x := range jobs[i].extents {
			if jobs[i].leaves(k) || x.Size >= largeRun {
				continue
			}
			w.uses[x.Position()]++
			if l.Run(jobs[i].key, x.Base) == nil {
				missing[x.Position()] = true
			}
		}
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	room := make(chan struct{}, fetchers)
	for pos := range missing {
		room <- struct{}{}
		wg.Go(func() {
			defer func() { <-room }()
			raw, err := l.Bucket.Get(w.m.ctx, journal.SlotKey(l.Shard, pos), 0, -1)
			if err != nil {
				return
			}
			w.m.debt.step()
			mu.Lock()
			defer mu.Unlock()
			w.slots[pos] = raw
		})
	}
	wg.Wait()
}

// readAhead reads the large ones of the runs that come next, at most fetchers of them. As
// with fetch, one that cannot be read now is tried again.
func (w *rewriter) readAhead(key state.Place, next []state.Extent) {
	l := w.m.log
	w.ahead = make(map[int64][]byte)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, x := range next[:min(fetchers, len(next))] {
		if x.Size < largeRun || l.Run(key, x.Base) != nil {
			continue
		}
		wg.Go(func() {
			raw, err := l.Bucket.Get(w.m.ctx, journal.SlotKey(l.Shard, x.Position()), int64(x.At), int64(x.Size))
			if err != nil {
				return
			}
			w.m.debt.step()
			mu.Lock()
			defer mu.Unlock()
			w.ahead[x.Base] = raw
		})
	}
	wg.Wait()
}

// read takes the bytes of a run out of what was read for it; nil if it was not read.
func (w *rewriter) read(x *state.Extent) []byte {
	if x.Size >= largeRun {
		raw := w.ahead[x.Base]
		delete(w.ahead, x.Base)
		return raw
	}
	pos := x.Position()
	raw := w.slots[pos]
	if w.uses[pos]--; w.uses[pos] == 0 {
		delete(w.slots, pos)
	}
	if raw == nil {
		return nil
	}
	size := int64(len(raw))
	return raw[min(int64(x.At), size):min(int64(x.At)+int64(x.Size), size)]
}

// data returns the bytes of a run: from memory, or from its slot.
func (w *rewriter) data(key state.Place, x state.Extent) ([]byte, error) {
	l, object := w.m.log, journal.SlotKey(w.m.log.Shard, x.Position())
	raw := w.read(&x)
	if data := l.Run(key, x.Base); data != nil {
		return data, nil
	}
	if raw != nil {
		return whole(raw, &x, object)
	}
	err := storage.Until(w.m.ctx, func() (err error) {
		raw, err = l.Bucket.Get(w.m.ctx, object, int64(x.At), int64(x.Size))
		return err
	}, fs.ErrNotExist)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", object, err)
	}
	return whole(raw, &x, object)
}

// whole returns ErrCorrupt if that is not all of a run.
func whole(raw []byte, x *state.Extent, object string) ([]byte, error) {
	if len(raw) != int(x.Size) {
		return nil, fmt.Errorf("%w: %s ends early", state.ErrCorrupt, object)
	}
	return raw, nil
}
