package queue

import (
	"context"
	"errors"

	"github.com/weirmq/weir/cloud/queue/state"
)

// Get leases the first message of a queue. ok is false if none is ready. left is how many
// are ready behind it. Errors: ErrNoQueue, ErrExclusive, ErrStream, ErrNoVhost, ErrClosed,
// and those of the bucket.
func (e *Engine) Get(ctx context.Context, vhost, queue, session string) (d Delivery, left int64, ok bool, err error) {
	if err := e.open(ctx); err != nil {
		return d, 0, false, err
	}
	for {
		e.mu.Lock()
		q, err := e.workQueue(vhost, queue, session)
		if err != nil {
			e.mu.Unlock()
			return d, 0, false, err
		}
		l := e.host(q.Vhost).live(q)
		l.used()
		e.mu.Unlock()
		d, left, state, err := l.get(ctx)
		if state != getAgain || err != nil {
			return d, left, state == getGot, err
		}
	}
}

// What became of a try to get a message.
type gotten int

const (
	getNone  gotten = iota // none is ready
	getGot                 // here it is
	getAgain               // it has expired, or its group has a head: the next one may be ready
)

// get leases the first message and reads it.
func (l *live) get(ctx context.Context) (d Delivery, left int64, state gotten, err error) {
	over, err := l.takeTurn(ctx)
	if err != nil {
		return d, 0, getNone, err
	}
	defer over()
	e := l.host.engine
	e.mu.Lock()
	if r := l.planTrim(); len(r.picked) > 0 { // the pump will remove it, but may not have begun
		e.mu.Unlock()
		return d, 0, getAgain, l.perform(ctx, r, nil)
	}
	r := round{picked: l.pick(1)}
	lend := l.lendAtOnce(r)
	e.mu.Unlock()
	if len(r.picked) == 0 {
		return d, 0, getNone, nil
	}
	id := r.picked[0]
	found, err := l.fetch(ctx, &r, lend)
	if err == nil && len(r.picked) == 0 {
		return d, 0, getAgain, nil
	}
	e.mu.Lock()
	if err != nil || len(found) == 0 {
		if err == nil {
			l.giveBack(id)
			err = errors.New("the message is not in the log")
		}
		l.wake()
		e.mu.Unlock()
		return d, 0, getNone, err
	}
	m := &found[0]
	delete(l.prompt, id)
	l.hold(id, len(m.body))
	due, expires := l.dueTime(m)
	d = l.delivery(m)
	left, _ = l.waits()
	expires = expires && !e.o.Now().Before(due)
	if !expires {
		l.delivered(nil, &d, 1)
	}
	if l.mayExpire() {
		l.wake() // another one is the first
	}
	e.mu.Unlock()
	if expires {
		return d, 0, getAgain, l.bury(ctx, []letter{{m, reasonExpired}})
	}
	return d, left, getGot, nil
}

// Peek reads up to most messages of a queue from an id on, whatever their state, and
// leases none. If they are large it returns fewer, but not none. Errors: ErrNoQueue,
// ErrExclusive, ErrStream, ErrNoVhost, ErrClosed, and those of the bucket.
func (e *Engine) Peek(ctx context.Context, vhost, queue, session string, from int64, most int) ([]Delivery, error) {
	if err := e.open(ctx); err != nil {
		return nil, err
	}
	e.mu.Lock()
	q, err := e.workQueue(vhost, queue, session)
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	l := e.host(q.Vhost).live(q)
	var all []int64
	for p := q.Priorities() - 1; p >= 0 && len(all) < most; p-- {
		at := from
		for len(all) < most {
			id, ok := q.Next(uint8(p), at)
			if !ok {
				break
			}
			all = append(all, id)
			at = id + 1
		}
	}
	e.mu.Unlock()
	found, _, err := l.host.read(ctx, all)
	if err != nil {
		return nil, err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	out := make([]Delivery, len(found))
	for i := range found {
		out[i] = l.delivery(&found[i])
	}
	return out, nil
}

// delivery returns a message as a client gets it. The caller holds Engine.mu.
func (l *live) delivery(m *message) Delivery {
	return Delivery{Queue: l.q.ID, ID: m.id, Count: l.count(m.id), Exchange: m.exchange, Key: m.key, Properties: m.properties, Body: m.body, Time: m.time}
}

// expireUnused deletes the queue if it has had no consumer for the time of x-expires.
func (l *live) expireUnused() {
	e := l.host.engine
	e.tasks.run(func() {
		e.mu.Lock()
		used := l.gone || len(l.consumers) > 0
		if used {
			l.used()
		}
		e.mu.Unlock()
		if used {
			return
		}
		err := e.wish(e.ctx, l.host.name, state.Declaration{DeleteQueue: &state.QueueDeleted{ID: l.q.ID}})
		if err != nil && !isGone(err) && e.ctx.Err() == nil {
			e.o.Log.Warn("an unused queue was not deleted", "vhost", l.host.name, "queue", l.q.Name, "err", err)
		}
	})
}

// isGone reports whether err says that what was to be deleted is not there, or that this
// engine is closed.
func isGone(err error) bool {
	return errors.Is(err, state.ErrNoQueue) || errors.Is(err, ErrNoVhost) || errors.Is(err, ErrClosed)
}
