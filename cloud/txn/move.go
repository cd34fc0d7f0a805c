package txn

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

// A transactional id moves to another shard with its slice, but never during a
// transaction: where the parts of a transaction are, in the coordinator's shard or
// elsewhere, is decided when they are added. So before slices move, the transactions of the
// shard settle: those that are ongoing go on, and no other begins, until there is none.

// settleEvery is how often it is checked whether the transactions have settled.
const settleEvery = 5 * time.Millisecond

// Settle keeps transactions from beginning, which get ErrConcurrent, and returns nil when
// none is ongoing. Errors: ctx's; the caller then calls Unsettle.
func (c *Coordinator) Settle(ctx context.Context) error {
	c.mu.Lock()
	c.settling = true
	c.mu.Unlock()
	return await(ctx, c.settled)
}

// Unsettle lets transactions begin again.
func (c *Coordinator) Unsettle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settling = false
}

// settled reports whether nothing is under way.
func (c *Coordinator) settled() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.open)+len(c.prepared)+len(c.staging) > 0 {
		return false
	}
	for _, t := range c.ids {
		if t.busy || t.inFlight > 0 {
			return false
		}
	}
	return true
}

func await(ctx context.Context, is func() bool) error {
	for !is() {
		if err := pause.For(ctx, settleEvery); err != nil {
			return err
		}
	}
	return nil
}

// CloseSlices makes the coordinator answer ErrClosed for the ids in those slices, as
// another shard is about to have them. The coordinator is settled.
func (c *Coordinator) CloseSlices(ctx context.Context, set weir.SliceSet) error {
	c.mu.Lock()
	c.away = union(c.away, set)
	c.mu.Unlock()
	return await(ctx, c.settled)
}

// OpenSlices undoes CloseSlices: the ids have not moved.
func (c *Coordinator) OpenSlices(set weir.SliceSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.away = without(c.away, set)
}

// SliceOf returns the slice of the id that an entry is about; false: it is about several ids, or
// about parts of a transaction, which may be in other slices: no transaction is ongoing while
// slices are stopped. It implements state.Sliced, which a Participant does not: what it
// exports of any slices tells of all producers.
func (c *Coordinator) SliceOf(kind uint16, body []byte) (weir.Slice, bool) {
	d := decoder{coding.NewDecoder(body)}
	version, id := d.Byte(), d.name()
	switch kind {
	case kindInit, kindEnd, kindComplete:
		return weir.SliceOfTransaction(id), version == bodyVersion && !d.Bad()
	}
	return 0, false
}

// Export returns the ids in those slices, as a snapshot has them, nil if there are none.
// Equal states give equal bytes.
func (c *Coordinator) Export(set weir.SliceSet) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	some := make(map[string]*transaction)
	for id, t := range c.ids {
		if t.known() && set.Has(weir.SliceOfTransaction(id)) {
			some[id] = t
		}
	}
	if len(some) == 0 {
		return nil
	}
	return encodeSnapshot(some)
}

// Import adds ids that Export of another shard's coordinator gave. With an error
// (ErrCorrupt) nothing has changed.
func (c *Coordinator) Import(body []byte) error {
	ids, err := decodeSnapshot(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, t := range ids {
		c.drop(id)
		c.ids[id] = t
		c.list(t)
	}
	return nil
}

// list notes that a transaction is ongoing or decided. The caller holds mu.
func (c *Coordinator) list(t *transaction) {
	switch {
	case t.state == Ongoing:
		c.open[t] = struct{}{}
	case t.ending != nil:
		c.prepared[t] = struct{}{}
	}
}

// drop forgets an id. The caller holds mu.
func (c *Coordinator) drop(id string) {
	if t := c.ids[id]; t != nil {
		delete(c.ids, id)
		delete(c.open, t)
		delete(c.prepared, t)
		t.durable = durable{}
	}
}

// Remove forgets the ids in those slices.
func (c *Coordinator) Remove(set weir.SliceSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id := range c.ids {
		if set.Has(weir.SliceOfTransaction(id)) {
			c.drop(id)
		}
	}
}

// Settle is Coordinator.Settle for what this shard has of transactions of others.
func (p *Participant) Settle(ctx context.Context) error {
	p.mu.Lock()
	p.settling = true
	p.mu.Unlock()
	return await(ctx, p.settled)
}

// Unsettle is Coordinator.Unsettle.
func (p *Participant) Unsettle() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settling = false
}

func (p *Participant) settled() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.producers {
		if x.active() {
			return false
		}
	}
	return true
}

// CloseSlices makes the participant refuse ends that have parts in those slices: their
// coordinators tell the shard that has them. The participant is settled.
func (p *Participant) CloseSlices(ctx context.Context, set weir.SliceSet) error {
	p.mu.Lock()
	p.away = union(p.away, set)
	p.mu.Unlock()
	return await(ctx, p.settled)
}

// OpenSlices undoes CloseSlices: the slices have not moved.
func (p *Participant) OpenSlices(set weir.SliceSet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.away = without(p.away, set)
}

// moved reports whether a part of a decision is in another shard. The caller holds mu.
func (p *Participant) moved(d *Decision) bool {
	elsewhere := func(s weir.Slice) bool { return p.away.Has(s) || p.opts.elsewhere(s) }
	return slices.ContainsFunc(d.Places, func(at state.Place) bool { return elsewhere(weir.SliceOf(at.Topic, at.Partition)) }) ||
		slices.ContainsFunc(d.Groups, func(name string) bool { return elsewhere(weir.SliceOfGroup(name)) })
}

// Export returns the offsets that wait in groups of those slices, and which transaction of
// each producer has ended last: that guards all slices. It is as a snapshot has it, nil if
// there is nothing. Equal states give equal bytes.
func (p *Participant) Export(set weir.SliceSet) []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	some := make(map[int64]*participation)
	for id, x := range p.producers {
		some[id] = &participation{id: id, participated: x.only(func(name string) bool { return set.Has(weir.SliceOfGroup(name)) })}
	}
	return encodeParticipants(some)
}

// Import adds what Export of another shard's participant gave. With an error (ErrCorrupt)
// nothing has changed.
func (p *Participant) Import(body []byte) error {
	from := NewParticipant(p.opts)
	if from.decode(body) != nil {
		return fmt.Errorf("import participants of transactions: %w", ErrCorrupt)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, y := range from.producers {
		x := p.of(id)
		x.ended, x.updated = max(x.ended, y.ended), max(x.updated, y.updated)
		if x.number != 0 && x.number < y.number || x.number <= x.ended {
			x.number, x.groups, x.size = 0, nil, 0 // it has ended, as a later one has begun
		}
		if y.number <= x.ended || y.number < x.number {
			continue
		}
		x.number = y.number
		for name, of := range y.groups {
			x.stage(name, sortedOffsets(of))
		}
	}
	return nil
}

// Remove forgets the offsets that wait in groups of those slices.
func (p *Participant) Remove(set weir.SliceSet) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range p.producers {
		x.participated = x.only(func(name string) bool { return !set.Has(weir.SliceOfGroup(name)) })
		p.drop(x)
	}
}

// only returns what is left with some groups only.
func (d *participated) only(has func(group string) bool) participated {
	some := participated{ended: d.ended, updated: d.updated}
	for name, of := range d.groups {
		if has(name) {
			some.number = d.number
			some.stage(name, sortedOffsets(of))
		}
	}
	return some
}

func union(a, b weir.SliceSet) weir.SliceSet {
	for i := range a {
		a[i] |= b[i]
	}
	return a
}

func without(a, b weir.SliceSet) weir.SliceSet {
	for i := range a {
		a[i] &^= b[i]
	}
	return a
}
