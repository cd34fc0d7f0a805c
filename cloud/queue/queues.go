package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/queue/state"
)

// DeclareQueue creates a queue if there is none of that name, and says in Info.Created
// whether it did. If there is one, the caller compares the settings. The topic of a stream
// queue is made, too, if it is not there. Errors: ErrExclusive for a queue of another
// session, ErrInvalid, ErrNoVhost, ErrClosed.
func (e *Engine) DeclareQueue(ctx context.Context, vhost, name string, s state.Settings) (Info, error) {
	if err := e.open(ctx); err != nil {
		return Info{}, err
	}
	if name == "" || len(name) > maxName {
		return Info{}, fmt.Errorf("%w: a queue's name has 1 to %d bytes", ErrInvalid, maxName)
	}
	if err := e.ensureTopic(ctx, name, &s); err != nil {
		return Info{}, err
	}
	for {
		info, err := e.Queue(vhost, name, s.Owner)
		if err == nil || !errors.Is(err, ErrNoQueue) {
			return info, err
		}
		err = e.wish(ctx, vhost, state.Declaration{Queue: &state.QueueDeclared{Name: name, Settings: s}})
		if err != nil && !errors.Is(err, state.ErrExists) {
			return Info{}, err
		}
		created := err == nil
		info, err = e.Queue(vhost, name, s.Owner)
		if info.Created = created; err == nil || !errors.Is(err, ErrNoQueue) {
			return info, err
		}
	}
}

// Queue returns what a session may use. Errors: ErrNoQueue, ErrExclusive, ErrNoVhost,
// ErrClosed.
func (e *Engine) Queue(vhost, name, session string) (Info, error) {
	i, err := e.use(vhost, name, session)
	if err == nil {
		e.addTopic(&i)
	}
	return i, err
}

func (e *Engine) use(vhost, name, session string) (Info, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q, err := e.queue(vhost, name, session)
	if err != nil {
		return Info{}, err
	}
	if l := e.host(q.Vhost).lives[q.ID]; l != nil {
		l.used()
	}
	return e.info(q), nil
}

// Queues returns the queues of a vhost by name.
func (e *Engine) Queues(vhost string) ([]Info, error) {
	e.mu.Lock()
	v, err := e.vhost(vhost)
	if err != nil {
		e.mu.Unlock()
		return nil, err
	}
	var all []Info
	for _, q := range v.Queues() {
		all = append(all, e.info(q))
	}
	e.mu.Unlock()
	for i := range all {
		e.addTopic(&all[i])
	}
	return all, nil
}

// info describes a queue. The caller holds mu.
func (e *Engine) info(q *state.Queue) Info {
	i := Info{Vhost: q.Vhost.Name, Name: q.Name, ID: q.ID, Settings: q.Settings, Ready: q.Len(), Bytes: q.Bytes()}
	if l := e.host(q.Vhost).lives[q.ID]; l != nil {
		i.Unsettled = l.unsettled()
		i.Ready, _ = l.waits()
		i.Consumers = len(l.consumers)
		i.Counts = l.counts
	}
	i.Counts.Published = q.Arrived()
	return i
}

// Counts returns what went in and out of all queues of a vhost, those that were deleted
// too. Published is what clients published to its exchanges, and a queue got.
func (e *Engine) Counts(vhost string) (Counts, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.vhost(vhost)
	if err != nil {
		return Counts{}, err
	}
	return e.host(v).counts, nil
}

// DeleteQueue deletes a queue with its messages, and returns how many were ready. Its
// consumers are cancelled. Of a stream queue the topic stays, so that ifUnused and ifEmpty
// do not count, as in RabbitMQ. Errors: ErrNoQueue, ErrExclusive, ErrInUse if it has
// consumers and ifUnused is set, ErrNotEmpty if messages wait and ifEmpty is set,
// ErrNoVhost, ErrClosed.
func (e *Engine) DeleteQueue(ctx context.Context, vhost, name, session string, ifUnused, ifEmpty bool) (int64, error) {
	if err := e.open(ctx); err != nil {
		return 0, err
	}
	e.mu.Lock()
	q, err := e.queue(vhost, name, session)
	if err != nil {
		e.mu.Unlock()
		return 0, err
	}
	i := e.info(q)
	e.mu.Unlock()
	if i.Settings.Stream {
		ifUnused = false
	}
	switch {
	case ifUnused && i.Consumers > 0:
		return 0, ErrInUse
	case ifEmpty && i.Ready > 0:
		return 0, ErrNotEmpty
	}
	err = e.wish(ctx, vhost, state.Declaration{DeleteQueue: &state.QueueDeleted{ID: i.ID, IfEmpty: ifEmpty}})
	switch {
	case errors.Is(err, state.ErrNotEmpty):
		return 0, ErrNotEmpty
	case errors.Is(err, state.ErrNoQueue):
		return 0, fmt.Errorf("%w: %s in vhost %s", ErrNoQueue, name, vhost)
	case err != nil:
		return 0, err
	}
	return i.Ready, nil
}

// Purge removes the messages that no consumer has, and returns how many. They do not
// become dead letters. Errors: ErrNoQueue, ErrExclusive, ErrStream, ErrNoVhost, ErrClosed.
func (e *Engine) Purge(ctx context.Context, vhost, name, session string) (int64, error) {
	if err := e.open(ctx); err != nil {
		return 0, err
	}
	e.mu.Lock()
	q, err := e.workQueue(vhost, name, session)
	if err != nil {
		e.mu.Unlock()
		return 0, err
	}
	h := e.host(q.Vhost)
	l := h.live(q)
	n, gone, bytes := l.ready()
	done := make(chan error, 1)
	if n > 0 {
		b := h.settling()
		b.gone(q.ID, gone, bytes)
		l.skip()
		b.done = append(b.done, func(err error) { done <- err })
	} else {
		done <- nil
	}
	e.mu.Unlock()
	select {
	case err := <-done:
		return n, err
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

// EndSession deletes the exclusive queues of a session. The caller has closed its
// consumers.
func (e *Engine) EndSession(ctx context.Context, vhost, session string) error {
	if session == "" {
		return nil
	}
	e.mu.Lock()
	v, err := e.vhost(vhost)
	var own []state.QueueID
	if err == nil {
		for _, q := range v.Queues() {
			if q.Settings.Owner == session {
				own = append(own, q.ID)
			}
		}
	}
	e.mu.Unlock()
	if errors.Is(err, ErrNoVhost) {
		return nil
	}
	for _, id := range own {
		failed := e.wish(ctx, vhost, state.Declaration{DeleteQueue: &state.QueueDeleted{ID: id}})
		if failed != nil && !errors.Is(failed, state.ErrNoQueue) {
			err = errors.Join(err, failed)
		}
	}
	return err
}
