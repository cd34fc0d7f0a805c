package journal

import (
	"fmt"
	"sync"

	"github.com/weirmq/weir/storage"
)

// pendingSlot is a slot between Write and Apply.
type pendingSlot struct {
	pos     Position
	entries []Entry
	laid    *Laid // where the entries are laid out, or nil
	open    uint8 // see object
	seal    bool  // it is the SEAL by which the owner yields
	durable bool  // only run touches it
}

// Write takes the next slot for entries and starts its Create. It returns the slot's
// position as soon as the Create is under way; while Depth slots are in flight it waits
// first. The entries are durable when State.Apply is called with that position, which
// may be before Write returns. If the journal stops before that, it is not known
// whether they will be part of the log. entries and their bodies belong to the journal
// until then.
//
// An error means that nothing was or will be stored: ErrTooLarge, ErrClosed, ErrYielded, or
// the reason why the journal has stopped (Err).
func (j *Journal) Write(entries []Entry) (Position, error) { return j.write(nil, entries) }

// WriteInPlace is Write for entries whose bodies lie in s, which belongs to the journal
// until the slot is applied. The journal changes what Room and EntryRoom have left to it,
// and s.Clear.
func (j *Journal) WriteInPlace(s *Laid, entries []Entry) (Position, error) {
	if !inPlace(s.Bytes, entries) {
		s = nil
	}
	return j.write(s, entries)
}

func (j *Journal) write(s *Laid, entries []Entry) (Position, error) {
	if _, err := slotSize(entries); err != nil {
		return Position{}, err
	}
	select {
	case j.tokens <- struct{}{}:
	case <-j.closing:
		return Position{}, j.refusal()
	case <-j.done:
		return Position{}, j.Err()
	}

	j.mu.Lock()
	if j.closed {
		j.mu.Unlock()
		<-j.tokens
		return Position{}, j.refusal()
	}
	defer j.mu.Unlock()
	f := &pendingSlot{pos: Position{j.claim.Epoch, j.next}, entries: entries, laid: s}
	if j.level >= 2 {
		f.open = 1 + uint8(len(j.queue))
	}
	j.next++
	if saveUnacked(j.store.mutations) {
		j.counts.add(len(entries))
	}
	j.queue = append(j.queue, f)
	j.wg.Go(func() { j.writeSlot(f) })
	return f.pos, nil
}

// refusal returns why a journal that is closed takes no entries.
func (j *Journal) refusal() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return j.err
	case j.yielding:
		return ErrYielded
	}
	return ErrClosed
}

// writeSlot makes one slot durable. A slot that cannot become durable stops the journal
// at once, even while slots before it are in flight: if those have become durable, the
// next owner has them.
func (j *Journal) writeSlot(f *pendingSlot) {
	o := dataObject(j.store.shard, j.claim, f.pos.Slot, f.entries)
	o.open = f.open
	if s := f.laid; s != nil {
		sum := o.encodeInPlace(s.Bytes)
		clear, err := j.store.createOwn(storage.WithSum(j.ctx, s.Bytes, sum), SlotKey(j.store.shard, f.pos), s.Bytes)
		if err != nil {
			j.stop(err)
			return
		}
		s.Clear = clear
		j.durableSlots <- f
		return
	}
	buf := slotBuffers.Get().(*[]byte)
	var sum uint32
	*buf, sum = o.encodeTo(*buf)
	clear, err := j.store.createOwn(storage.WithSum(j.ctx, *buf, sum), SlotKey(j.store.shard, f.pos), *buf)
	if err != nil {
		j.stop(err)
		return
	}
	if clear { // else an attempt may still be sending the slot
		slotBuffers.Put(buf)
	}
	j.durableSlots <- f // has capacity for Depth slots
}

// slotBuffers holds memory in which slots are encoded that are not laid out already. Slots are large, and clearing
// new memory for each costs as much as copying it.
var slotBuffers = sync.Pool{New: func() any { return new([]byte) }}

// acknowledge acknowledges slots in their order (rule 4): slot n when 0..n are durable.
// So one SEAL in the first hole stops a writer for good, and what it stored behind the
// hole was never acknowledged.
func (j *Journal) acknowledge() {
	for {
		select {
		case f := <-j.durableSlots:
			f.durable = true
			if f.seal && yieldUnacked(j.store.mutations) {
				j.mu.Lock()
				for _, flying := range j.queue {
					flying.durable = true
				}
				j.mu.Unlock()
			}
		case <-j.done:
			return
		}
		for f := j.nextDurable(); f != nil; f = j.nextDurable() {
			if f.seal {
				j.stop(ErrYielded)
				return
			}
			<-j.tokens // it is no longer in flight: the next slot may start
			if err := j.state.Apply(f.pos, f.entries); err != nil {
				j.stop(fmt.Errorf("apply slot %v: %w", f.pos, err))
				return
			}
		}
	}
}

// nextDurable takes the oldest slot off the queue if it is durable. From here on the
// position behind it counts as acknowledged: Apply has not returned yet, but a caller
// that looks at the state meanwhile may already ask for a checkpoint.
func (j *Journal) nextDurable() *pendingSlot {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.err != nil {
		return nil
	}
	for i, f := range j.queue {
		if f.durable {
			j.queue = append(j.queue[:i:i], j.queue[i+1:]...)
			if !saveUnacked(j.store.mutations) && !f.seal {
				j.counts.add(len(f.entries))
			}
			return f
		}
		if !ackOutOfOrder(j.store.mutations) {
			return nil
		}
	}
	return nil
}
