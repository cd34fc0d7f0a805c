package queue

import (
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
)

// arrival is a message on its way to a queue that rejects what is too much.
type arrival struct {
	live *live
	size int // of its body
}

// bounce is a message that a queue with a dead-letter exchange has rejected.
type bounce struct {
	q *state.Queue
	m message
}

// Submit makes work durable: with Atomic or without publications in one slot. done is
// called once, from a goroutine of the log or before Submit returns; it must not block.
// outcomes has an error for each publication: nil if it is durable in all queues that it
// was routed to, ErrUnroutable, ErrOverflow, ErrRefused, ErrTooLarge, ErrInvalid,
// *routing.Error. err
// is ErrNoVhost, or says that this node does not serve the queues any more: the work may
// have become durable.
//
// What goes to the topics of stream queues has slots of its own, with Atomic before the
// other one: that is not there if a topic refuses a message, and done is called when all
// of it is durable.
//
// A message that was rejected is settled when its dead letter is durable; done is called
// after that, though the dead letter may have a slot of its own.
//
// Calls from one goroutine keep their order. Submit waits while the log is not ready for
// more. Verdicts without publications and without done may wait for others to share
// their slot.
func (e *Engine) Submit(vhost string, w Work, done func(outcomes []error, err error)) {
	e.mu.Lock()
	v, err := e.vhost(vhost)
	if err != nil {
		e.mu.Unlock()
		finish(done, nil, err)
		return
	}
	h := e.host(v)
	if len(w.Publications)+len(w.Positions) == 0 && done == nil {
		rejected := h.settle(h.settling(), w.Settlements)
		e.mu.Unlock()
		e.reject(rejected, func(error) {})
		return
	}
	parcels, outcomes := h.pack(v, &w)
	if w.Atomic && (len(parcels) > 1 || refused(outcomes)) {
		for _, p := range parcels {
			p.drop()
		}
		e.mu.Unlock()
		if !refused(outcomes) {
			err = fmt.Errorf("%w: a transaction of more than %d bytes or %d places in queues", ErrTooLarge, parcelBytes, parcelTargets)
		}
		finish(done, outcomes, err)
		return
	}
	if w.Atomic && len(parcels[0].out.published) > 0 {
		e.mu.Unlock()
		if !e.tasks.run(func() { h.submitAfter(parcels[0], &w, outcomes, done) }) {
			finish(done, nil, ErrClosed)
		}
		return
	}
	h.published(outcomes, parcels)
	rejected := h.addVerdicts(parcels, &w)
	e.mu.Unlock()
	if ackFlying(e.o.Mutations) {
		finish(done, outcomes, nil)
		done = nil
	}
	e.submit(parcels, rejected, outcomes, done)
}

// submitAfter is the rest of Submit for a transaction with messages for topics: it goes on
// when these are durable there.
func (h *host) submitAfter(p *parcel, w *Work, outcomes []error, done func([]error, error)) {
	e := h.engine
	err := p.out.publish(e)
	e.mu.Lock()
	if err != nil || refused(outcomes) {
		p.drop()
		e.mu.Unlock()
		finish(done, outcomes, err)
		return
	}
	h.published(outcomes, nil)
	rejected := h.addVerdicts([]*parcel{p}, w)
	e.mu.Unlock()
	e.submit([]*parcel{p}, rejected, outcomes, done)
}

// published counts what clients have published, but for what the topics of the parcels have
// yet to answer for. The caller holds Engine.mu.
func (h *host) published(outcomes []error, parcels []*parcel) {
	for _, err := range outcomes {
		if err == nil {
			h.counts.Published++
		}
	}
	for _, p := range parcels {
		h.counts.Published -= p.out.accepted()
	}
}

// addVerdicts adds the verdicts of a work to its last parcel, else those that wait. It
// returns the dead letters among them. The caller holds Engine.mu.
func (h *host) addVerdicts(parcels []*parcel, w *Work) (rejected []rejects) {
	last := parcels[len(parcels)-1]
	if len(w.Settlements) > 0 {
		last.batch = h.newBatch()
		return h.settle(last.batch, w.Settlements)
	}
	if last.builder.Size() < batchBytes {
		last.batch = h.nextBatch() // verdicts that wait share the slot
	}
	return nil
}

// submit sends the parcels of a work and its dead letters.
func (e *Engine) submit(parcels []*parcel, rejected []rejects, outcomes []error, done func([]error, error)) {
	one := all(len(parcels)+len(rejected), func(err error) { finish(done, outcomes, err) })
	e.reject(rejected, one)
	send(parcels, one)
}

func finish(done func([]error, error), outcomes []error, err error) {
	if errors.Is(err, commitlog.ErrUnknownTopic) {
		err = fmt.Errorf("%w: deleted meanwhile", ErrNoVhost)
	}
	if err != nil && !errors.Is(err, ErrNoVhost) && !errors.Is(err, ErrTooLarge) && !errors.Is(err, ErrClosed) {
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if done != nil {
		done(outcomes, err)
	}
}

// refused reports whether an exchange refused one of the publications.
func refused(outcomes []error) bool {
	for _, err := range outcomes {
		if err != nil && !errors.Is(err, ErrUnroutable) && !errors.Is(err, ErrOverflow) {
			return true
		}
	}
	return false
}

// messageOverhead is about what a message takes in a batch besides its parts.
const messageOverhead = 32

// pack routes publications into parcels, at least one. The caller holds Engine.mu.
func (h *host) pack(v *state.Vhost, w *Work) ([]*parcel, []error) {
	outcomes := make([]error, len(w.Publications))
	empty := func() *parcel {
		return &parcel{host: h, out: outgoing{outcomes: outcomes, none: len(w.Positions) > 0}}
	}
	p := empty()
	parcels := []*parcel{p}
	now, read := h.engine.o.Now().UnixMilli(), w.Positions
	room := 0
	for i := range w.Publications {
		x := &w.Publications[i]
		room += len(x.Body) + len(x.Properties) + len(x.Exchange) + len(x.Key) + messageOverhead
	}
	p.builder.Grow(min(room, parcelBytes))
	for i := range w.Publications {
		x := &w.Publications[i]
		if p.filled(len(x.Body)) {
			read = p.take(read, i)
			p = empty()
			parcels = append(parcels, p)
		}
		p.out.index = i
		m := message{exchange: x.Exchange, key: x.Key, properties: x.Properties, body: x.Body, time: now, delayed: x.Delayed}
		outcomes[i] = p.add(v, &m, true)
		if x.Topic != "" && (outcomes[i] == nil || errors.Is(outcomes[i], ErrUnroutable) || errors.Is(outcomes[i], ErrOverflow)) {
			p.toTopic(v.Name, x.Topic, &m)
			if !errors.Is(outcomes[i], ErrOverflow) {
				outcomes[i] = nil
			}
		}
		for len(p.bounced) > 0 {
			b := p.bounced[0]
			p.bounced, p.out.index = p.bounced[1:], -1
			if dead, ok := deadLetter(b.q, &b.m, reasonMaxLen, now); ok {
				p.deaths, p.cause = dead.deaths, reasonMaxLen
				_ = p.add(v, &dead.message, false) // a dead letter that nobody takes is gone
				p.deaths = nil
			}
		}
	}
	p.take(read, len(w.Publications))
	return parcels, outcomes
}

// drop gives up a parcel that is not sent. The caller holds Engine.mu.
func (p *parcel) drop() { p.dropFrom(0) }

// dropFrom gives up what is on its way from an index on.
func (p *parcel) dropFrom(first int) {
	for _, a := range p.arrives[first:] {
		a.live.arriving--
		a.live.arrivingBytes -= int64(a.size)
	}
	p.arrives = p.arrives[:first]
}

// send sends parcels in their order, and calls done for each when it is durable.
func send(parcels []*parcel, done func(error)) {
	for _, p := range parcels {
		p.dispatch(done)
	}
}

// all returns a function that calls done when it has been called n times, with the first
// error that it got.
func all(n int, done func(error)) func(error) {
	var left atomic.Int64
	var failed atomic.Pointer[error]
	left.Store(int64(n))
	return func(err error) {
		if err != nil {
			failed.CompareAndSwap(nil, &err)
		}
		if left.Add(-1) > 0 {
			return
		}
		if first := failed.Load(); first != nil {
			done(*first)
			return
		}
		done(nil)
	}
}
