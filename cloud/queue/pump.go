package queue

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
)

// States of live.pumping.
const (
	idle    = iota
	running // a goroutine looks after the queue
	again   // and will look once more
)

// wake makes the pump look after the queue. It does not wait.
func (l *live) wake() {
	for {
		switch now := l.pumping.Load(); {
		case now == again:
			return
		case now == running && l.pumping.CompareAndSwap(running, again):
			return
		case now == idle && l.pumping.CompareAndSwap(idle, running):
			l.host.engine.tasks.run(l.pump)
			return
		}
	}
}

// pump looks after the queue until there is nothing to do: it expires messages, removes
// what is too much, and gives messages to consumers.
func (l *live) pump() {
	pause := time.Duration(0)
	for {
		more, err := l.look(l.host.engine.ctx)
		if err != nil {
			if pause = min(max(2*pause, minPause), maxPause); !l.rest(err, pause) {
				return
			}
			continue
		}
		if pause = 0; more {
			continue
		}
		if l.pumping.CompareAndSwap(running, idle) {
			return
		}
		l.pumping.Store(running)
	}
}

// How long a pump waits after a read that failed.
const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// rest waits before the next try, false if there is none.
func (l *live) rest(err error, pause time.Duration) bool {
	e := l.host.engine
	if e.ctx.Err() != nil {
		return false
	}
	e.o.Log.Warn("messages of a queue could not be read: another try follows", "vhost", l.host.name, "queue", l.q.Name, "pause", pause, "err", err)
	select {
	case <-time.After(pause):
		return true
	case <-e.ctx.Done():
		return false
	}
}

// burst is how many messages the pump handles at once.
const burst = 256

// round is what one look of the pump is about.
type round struct {
	trim   int     // the first ones of picked are too many for the queue
	picked []int64 // leased
	head   bool    // picked is only to see when it expires
}

// look does one round, and reports whether there may be more to do.
func (l *live) look(ctx context.Context) (more bool, err error) {
	e := l.host.engine
	e.mu.Lock()
	r := l.plan()
	lend := l.lend(r)
	e.mu.Unlock()
	if len(r.picked) == 0 {
		return false, nil
	}
	var found []message
	if lend != nil {
		err = waitFor(ctx, lend)
	}
	if err == nil {
		found, err = l.host.read(ctx, r.picked)
	}
	if err != nil {
		e.mu.Lock()
		for _, id := range r.picked {
			l.giveBack(id)
		}
		e.mu.Unlock()
		return true, err
	}
	gone, err := l.deal(ctx, r, found)
	return !r.head || gone > 0, err
}

// waitFor waits for an answer.
func waitFor(ctx context.Context, answer <-chan error) error {
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// plan picks what to handle next. The caller holds Engine.mu.
func (l *live) plan() round {
	if l.gone || l.host.engine.phase != serving {
		return round{}
	}
	r := round{trim: l.excess()}
	r.picked = l.pick(min(burst, max(r.trim, l.demand())))
	r.trim = min(r.trim, len(r.picked))
	if len(r.picked) == 0 && (l.q.Settings.TTL >= 0 || l.q.MayExpire()) {
		r.picked, r.head = l.due(), true
	}
	return r
}

// excess returns how many messages are too many, about a burst at most. Those that
// consumers have do not count, as with RabbitMQ.
func (l *live) excess() int {
	s := &l.q.Settings
	if s.Overflow != state.DropHead {
		return 0
	}
	ready, bytes := l.waits()
	if over := ready - s.MaxLength; s.MaxLength >= 0 && over > 0 {
		return int(min(over, burst))
	}
	if s.MaxBytes < 0 || ready <= 0 || bytes <= s.MaxBytes {
		return 0
	}
	return 1 // the sizes of the first ones are not known before they are read
}

// demand returns how many messages consumers can get now, about a burst at most.
func (l *live) demand() int {
	n := 0
	most := min(burst, mostLeased-len(l.leased))
	for _, c := range l.active() {
		if n >= most {
			break
		}
		n += c.room(most - n)
	}
	return n
}

// active returns the consumers that messages may go to.
func (l *live) active() []*Consumer {
	if l.q.Settings.SingleActive && len(l.consumers) > 1 {
		return l.consumers[:1]
	}
	return l.consumers
}

// due leases the first message if it is not known when it expires, or if it has expired.
// Else it sets the timer.
func (l *live) due() []int64 {
	picked := l.pick(1)
	if len(picked) == 0 || picked[0] != l.head.id || l.head.due.IsZero() {
		return picked
	}
	left := l.head.due.Sub(l.host.engine.o.Now())
	if left <= 0 {
		return append(picked, l.pick(burst-1)...)
	}
	l.giveBack(picked[0])
	if l.expiry != nil {
		l.expiry.Stop()
	}
	l.expiry = time.AfterFunc(left, l.wake)
	return nil
}

// lendAhead is how many offsets ahead of the message that is handed out the log is told
// that messages may have been delivered.
const lendAhead = 4096

// lend makes sure that the log knows, before a message is handed out, that it may have
// been delivered: a new owner counts it. It returns nil if the log knows; else a channel
// that gets the answer. The caller holds Engine.mu.
func (l *live) lend(r round) <-chan error {
	highest := int64(-1)
	for _, id := range r.picked[r.trim:] {
		highest = max(highest, id)
	}
	if r.head || highest <= l.q.Lent() {
		return nil
	}
	if l.q.Settings.DeliveryLimit < 0 {
		// Only redelivered flags are at stake. They may be set too often, and never too
		// rarely.
		highest = max(highest, min(highest+lendAhead, l.q.Vhost.End()-1))
	}
	b := l.host.settling()
	b.lent(l.q.ID, highest)
	answer := make(chan error, 1)
	b.done = append(b.done, func(err error) { answer <- err })
	return answer
}

// deal gives what was read to consumers, and removes what is too much or has expired. It
// returns how many messages it has removed.
func (l *live) deal(ctx context.Context, r round, found []message) (gone int, err error) {
	e := l.host.engine
	now := e.o.Now()
	var notify []*Consumer
	var dead []letter
	e.mu.Lock()
	at := 0
	for i, id := range r.picked {
		if at == len(found) || found[at].id != id {
			// The log does not have it. Keep the lease: it is not tried again.
			e.o.Log.Error("a message of a queue is not in the log", "vhost", l.host.name, "queue", l.q.Name, "id", id)
			continue
		}
		m := &found[at]
		at++
		l.hold(id, len(m.body))
		due, expires := l.dueTime(m)
		switch {
		case i < r.trim:
			dead = append(dead, letter{m, reasonMaxLen})
		case expires && !now.Before(due):
			dead = append(dead, letter{m, reasonExpired})
		case r.head:
			l.head = headTime{id, due}
			if !expires {
				l.head.due = now.Add(farAway)
			}
			l.giveBack(id)
		default:
			if c := l.give(m); c != nil {
				notify = append(notify, c)
			}
		}
	}
	if r.head && len(dead) == 0 {
		l.giveBack(l.head.id)
		l.due() // sets the timer
	}
	e.mu.Unlock()
	for _, c := range notify {
		c.o.Ready()
	}
	if len(dead) == 0 {
		return 0, nil
	}
	if err := l.bury(ctx, dead); err != nil && !errors.Is(err, context.Canceled) {
		return len(dead), fmt.Errorf("remove messages: %w", err)
	}
	return len(dead), nil
}

// farAway is when a message without an expiration is looked at again.
const farAway = 24 * time.Hour

// give hands a message to a consumer, or back to the queue if there is none. It returns
// the consumer if it had no messages before. The caller holds Engine.mu.
func (l *live) give(m *message) *Consumer {
	d := l.delivery(m)
	active := l.active()
	for first := 0; first < len(active); {
		last := first
		for last < len(active) && active[last].o.Priority == active[first].o.Priority {
			last++
		}
		for i := range last - first {
			c := active[first+(l.turn+i)%(last-first)]
			if had, ok := c.give(d); ok {
				l.turn = (l.turn + i + 1) % (last - first)
				if had {
					return c
				}
				return nil
			}
		}
		first = last
	}
	l.giveBack(m.id)
	return nil
}

// dueTime returns when a message expires in this queue, false if it does not.
func (l *live) dueTime(m *message) (time.Time, bool) {
	ttl := l.q.Settings.TTL
	if l.q.MayExpire() {
		if own, ok := m.expiration(); ok && (ttl < 0 || own < ttl) {
			ttl = own
		}
	}
	if ttl < 0 {
		return time.Time{}, false
	}
	return time.UnixMilli(m.time).Add(ttl), true
}
