package queue

import (
	"context"
	"errors"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
)

// A delayed message waits in its vhost, in no queue. When it is due it is routed and
// published once more, in one slot with the end of its delay.

// watchDelayed sets the timer for the next delayed messages. The caller holds Engine.mu.
func (h *host) watchDelayed(v *state.Vhost) {
	due, ok := v.DelayedUntil()
	if !ok || h.gone || h.engine.phase != serving || h.releasing {
		return
	}
	if h.delayed != nil {
		h.delayed.Stop()
	}
	h.delayed = time.AfterFunc(time.UnixMilli(due).Sub(h.engine.o.Now()), func() { h.engine.tasks.run(h.releaseDelayed) })
}

// releaseDelayed publishes the delayed messages that are due.
func (h *host) releaseDelayed() {
	e := h.engine
	e.mu.Lock()
	busy := h.releasing
	h.releasing = true
	e.mu.Unlock()
	if busy {
		return
	}
	pause := time.Duration(0)
	for {
		wait, err := h.releaseSome(e.ctx)
		if err != nil && e.ctx.Err() == nil {
			pause = min(max(2*pause, minPause), maxPause)
			wait = pause
			e.o.Log.Warn("delayed messages could not be published: another try follows", "vhost", h.name, "pause", pause, "err", err)
		} else {
			pause = 0
		}
		if wait < 0 || e.ctx.Err() != nil {
			break
		}
		if wait > 0 {
			select {
			case <-time.After(wait):
			case <-e.ctx.Done():
			}
		}
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	h.releasing = false
	if v := e.state.VhostOf(h.topic); v != nil {
		h.watchDelayed(v)
	}
}

// releaseSome publishes delayed messages whose second has begun and which are due. It
// returns how long to wait until the next one of this second is due, and -1 if there is
// none.
func (h *host) releaseSome(ctx context.Context) (time.Duration, error) {
	e := h.engine
	e.mu.Lock()
	v, err := e.vhost(h.name)
	if err != nil || h.gone {
		e.mu.Unlock()
		return -1, nil
	}
	now := e.o.Now().UnixMilli()
	ids := v.DelayedIn(now, burst)
	e.mu.Unlock()
	if len(ids) == 0 {
		return -1, nil
	}
	found, n, err := h.read(ctx, ids)
	if err != nil {
		return 0, err
	}
	ids = ids[:n]
	e.mu.Lock()
	if v, err = e.vhost(h.name); err != nil || h.gone {
		e.mu.Unlock()
		return -1, nil
	}
	p := &parcel{host: h, batch: h.newBatch(), out: ending()}
	next := int64(-1)
	for i := range found {
		m := found[i]
		if due := m.dueAfterDelay(); due > now {
			if next < 0 || due < next {
				next = due
			}
			continue
		}
		if p.filled(len(m.body)) {
			break
		}
		p.batch.freed = append(p.batch.freed, m.id)
		p.batch.size += 10
		m.time = now
		if err := p.add(v, &m, false); err != nil && !errors.Is(err, ErrUnroutable) {
			e.o.Log.Debug("delayed message not published", "vhost", h.name, "exchange", m.exchange, "err", err)
		}
		p.bounced = nil
	}
	missing := len(found) < len(ids)
	if missing { // what the log does not have is not delayed any more
		have := make(map[int64]bool, len(found))
		for i := range found {
			have[found[i].id] = true
		}
		for _, id := range ids {
			if !have[id] {
				e.o.Log.Error("a delayed message is not in the log", "vhost", h.name, "id", id)
				p.batch.freed = append(p.batch.freed, id)
			}
		}
	}
	e.mu.Unlock()
	if len(p.batch.freed) > 0 {
		answer := make(chan error, 1)
		send([]*parcel{p}, func(err error) { answer <- err })
		return 0, waitFor(ctx, answer)
	}
	return time.Duration(next-now) * time.Millisecond, nil
}

// dueAfterDelay returns when a message that is delayed is due, in ms since 1970.
func (m *message) dueAfterDelay() int64 {
	props, err := decodeProperties(m.properties)
	if err != nil {
		return m.time
	}
	ms, _ := props.Headers.Lookup("x-delay").Int()
	return m.time + min(max(ms, 0), maxDelay.Milliseconds())
}
