package journal

import (
	"fmt"
	"sync"

	"github.com/weirmq/weir/storage"
)

// flight is a slot between Write and Apply.
type flight struct {
	pos     Position
	entries []Entry
	open    uint8 // see object
	durable bool  // only run touches it
}

// Write takes the next slot for entries and starts its Create. It returns the
// slot's position as soon as the Create is under way, and waits before while
// Depth slots fly. The entries are durable when State.Apply is called with that
// position, which may be before Write returns, and never earlier: if the journal
// stops first, nobody can say whether they will be part of the log. entries and
// their bodies belong to the journal until then.
//
// Errors mean that nothing was or will be stored: ErrTooLarge, ErrClosed, or the
// cause why the journal has stopped (Err).
func (j *Journal) Write(entries []Entry) (Position, error) {
	if _, err := slotSize(entries); err != nil {
		return Position{}, err
	}
	select {
	case j.room <- struct{}{}:
	case <-j.closing:
		return Position{}, ErrClosed
	case <-j.done:
		return Position{}, j.Err()
	}

	j.mu.Lock()
	defer j.mu.Unlock()
	if j.closed {
		<-j.room
		if j.err != nil {
			return Position{}, j.err
		}
		return Position{}, ErrClosed
	}
	f := &flight{pos: Position{j.claim.Epoch, j.next}, entries: entries}
	if j.level >= 2 {
		f.open = 1 + uint8(len(j.queue))
	}
	j.next++
	if saveUnacked(j.store.mutations) {
		j.ledger.add(len(entries))
	}
	j.queue = append(j.queue, f)
	j.wg.Go(func() { j.fly(f) })
	return f.pos, nil
}

// fly makes one slot durable. A slot that cannot become durable stops the
// journal at once, even while slots before it fly: they may have become durable
// all the same, and then the next owner has them.
func (j *Journal) fly(f *flight) {
	o := dataObject(j.store.shard, j.claim, f.pos.Slot, f.entries)
	o.open = f.open
	buf := slotBuffers.Get().(*[]byte)
	var sum uint32
	*buf, sum = o.encodeTo(*buf)
	clear, err := j.store.land(storage.WithSum(j.ctx, *buf, sum), SlotKey(j.store.shard, f.pos), *buf)
	if err != nil {
		j.stop(err)
		return
	}
	if clear { // else somebody may be sending it still
		slotBuffers.Put(buf)
	}
	j.landed <- f // has room for Depth of them
}

// slotBuffers holds memory in which slots are encoded. They are large, and
// clearing a new one for each costs as much as copying it.
var slotBuffers = sync.Pool{New: func() any { return new([]byte) }}

// run acknowledges slots in their order (rule 4): slot n when 0..n are durable.
// So one SEAL in the first hole is enough to stop a writer for good, and what
// it stored behind the hole was never acknowledged.
func (j *Journal) run() {
	for {
		select {
		case f := <-j.landed:
			f.durable = true
		case <-j.done:
			return
		}
		for f := j.ripe(); f != nil; f = j.ripe() {
			<-j.room // it no longer flies: the next one may leave meanwhile
			if err := j.state.Apply(f.pos, f.entries); err != nil {
				j.stop(fmt.Errorf("apply slot %v: %w", f.pos, err))
				return
			}
		}
	}
}

// ripe takes the oldest slot off the queue if it is durable. From here on the
// position behind it is an acknowledged one: Apply has not returned yet, but
// whoever looks at the state meanwhile may ask for a checkpoint already.
func (j *Journal) ripe() *flight {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return nil
	}
	for i, f := range j.queue {
		if f.durable {
			j.queue = append(j.queue[:i:i], j.queue[i+1:]...)
			if !saveUnacked(j.store.mutations) {
				j.ledger.add(len(f.entries))
			}
			return f
		}
		if !ackOutOfOrder(j.store.mutations) {
			return nil
		}
	}
	return nil
}
