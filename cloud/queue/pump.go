package queue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
)

// pump looks after something whenever it is woken. It has a goroutine as long as there is
// something to do.
type pump struct {
	engine *Engine
	look   func(ctx context.Context) (more bool, err error) // does one round, and reports whether there may be more to do
	of     []any                                            // names what it looks after, for the log
	state  atomic.Int32                                     // idle, running or again
}

// States of a pump.
const (
	idle    = iota
	running // its goroutine looks
	again   // and will look once more
)

// wake makes the pump look. It does not wait.
func (p *pump) wake() {
	for {
		switch now := p.state.Load(); {
		case now == again:
			return
		case now == running && p.state.CompareAndSwap(running, again):
			return
		case now == idle && p.state.CompareAndSwap(idle, running):
			p.engine.tasks.run(p.run)
			return
		}
	}
}

// run looks until there is nothing to do.
func (p *pump) run() {
	pause := time.Duration(0)
	for {
		more, err := p.look(p.engine.ctx)
		if err != nil {
			if pause = min(max(2*pause, minPause), maxPause); !p.rest(err, pause) {
				return
			}
			continue
		}
		if pause = 0; more {
			continue
		}
		if p.state.CompareAndSwap(running, idle) {
			return
		}
		p.state.Store(running)
	}
}

// How long a pump waits after a read that failed.
const (
	minPause = 50 * time.Millisecond
	maxPause = 5 * time.Second
)

// rest waits before the next try, false if there is none.
func (p *pump) rest(err error, pause time.Duration) bool {
	e := p.engine
	if e.ctx.Err() != nil {
		return false
	}
	e.o.Log.Warn("messages of a queue could not be read: another try follows", append([]any{"pause", pause, "err", err}, p.of...)...)
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
	over   int64   // as long as they have together fewer bytes
	picked []int64 // leased
	head   []int64 // the first ones that are ready, to see when they expire; not leased
}

// lookAfter does one round of the queue's pump: it expires messages, removes what is too
// much, and gives messages to consumers.
func (l *live) lookAfter(ctx context.Context) (more bool, err error) {
	over, err := l.takeTurn(ctx)
	if err != nil {
		return false, err
	}
	defer over()
	e := l.host.engine
	e.mu.Lock()
	r := l.plan()
	lend := l.lendAtOnce(r)
	e.mu.Unlock()
	if len(r.head) > 0 {
		return l.expire(ctx, r.head)
	}
	if len(r.picked) == 0 {
		return false, nil
	}
	return true, l.perform(ctx, r, lend)
}

// perform reads what a round has picked, when lend has been answered, and deals with it.
func (l *live) perform(ctx context.Context, r round, lend <-chan error) error {
	found, err := l.fetch(ctx, &r, lend)
	if err != nil {
		return err
	}
	return l.deal(ctx, r, found)
}

// fetch reads the messages of a round, and sees to it that the log knows that they may be
// delivered. Those that are not read because others are large go back, and those whose
// groups have heads are put behind them. After an error all have gone back.
func (l *live) fetch(ctx context.Context, r *round, lend <-chan error) (found []message, err error) {
	e := l.host.engine
	n := 0
	if lend != nil {
		err = waitFor(ctx, lend)
	}
	if err == nil {
		found, n, err = l.host.read(ctx, r.picked)
	}
	if n < len(r.picked) {
		e.mu.Lock()
		l.giveBackAll(r.picked[n:])
		e.mu.Unlock()
		r.picked, r.trim = r.picked[:n], min(r.trim, n)
	}
	if err != nil || !l.q.Settings.Groups {
		return found, err
	}
	names := groupsOf(found)
	e.mu.Lock()
	found = l.claim(r, found, names)
	lend = l.lend(*r)
	e.mu.Unlock()
	if lend == nil {
		return found, nil
	}
	if err := waitFor(ctx, lend); err != nil {
		e.mu.Lock()
		l.giveBackAll(r.picked)
		e.mu.Unlock()
		return nil, err
	}
	return found, nil
}

// lendAtOnce is lend before messages are read. Of a queue with groups it is not known yet
// which ones will be handed out.
func (l *live) lendAtOnce(r round) <-chan error {
	if l.q.Settings.Groups {
		return nil
	}
	return l.lend(r)
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
	var r round
	demand := l.demand()
	if demand == 0 {
		clear(l.prompt)
	}
	if demand == 0 || l.requeued || len(l.groups.waits) > 0 { // what arrives goes to consumers that wait for it before anything is too much
		r.trim, r.over = l.excess()
		l.requeued = l.requeued && r.trim > 0
	}
	if l.q.Settings.Groups && r.trim > 0 {
		r.picked = l.pickOldest(r.trim)
	} else {
		r.picked = l.pick(min(burst, max(r.trim, demand)))
	}
	r.trim = min(r.trim, len(r.picked))
	if len(r.picked) == 0 && l.mayExpire() {
		r.head = l.due()
	}
	return r
}

// planTrim picks what plan would remove, and nothing else. The caller holds Engine.mu.
func (l *live) planTrim() round {
	var r round
	if l.demand() == 0 || l.requeued {
		r.trim, r.over = l.excess()
		r.picked = l.pickOldest(r.trim)
		r.trim = len(r.picked)
	}
	return r
}

// excess returns how many messages are too many, a burst at most, and how many bytes.
// Those that consumers have do not count, as with RabbitMQ.
func (l *live) excess() (messages int, bytes int64) {
	s := &l.q.Settings
	if s.Overflow != state.DropHead {
		return 0, 0
	}
	ready, size := l.waits()
	if over := ready - s.MaxLength; s.MaxLength >= 0 && over > 0 {
		return int(min(over, burst)), math.MaxInt64
	}
	over := size - s.MaxBytes
	if s.MaxBytes < 0 || ready <= 0 || over <= 0 {
		return 0, 0
	}
	// Their sizes are not known before they are read.
	return int(min(1+over/(1+size/ready), ready, burst)), over
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

// due returns the first message that is ready if it is not known when it expires, and the
// first ones if it has expired. Else it sets the timer and returns none.
func (l *live) due() []int64 {
	first := l.peek(1)
	if len(first) == 0 || first[0] != l.head.id || l.head.due.IsZero() {
		return first
	}
	left := l.head.due.Sub(l.host.engine.o.Now())
	if left <= 0 {
		return l.peek(burst)
	}
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
	if highest <= l.q.Lent() || noLend(l.host.engine.o.Mutations) {
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

// deal gives what was read to consumers, and removes what is too much or has expired.
func (l *live) deal(ctx context.Context, r round, found []message) error {
	e := l.host.engine
	var notify []*Consumer
	var dead []letter
	e.mu.Lock()
	now := e.o.Now()
	for i, id := range r.picked {
		if len(found) == 0 || found[0].id != id {
			l.missing(id) // stays leased: it is not tried again
			continue
		}
		m := &found[0]
		found = found[1:]
		l.hold(id, len(m.body))
		due, expires := l.dueTime(m)
		prompt := l.prompt[id]
		delete(l.prompt, id)
		switch {
		case i < r.trim && r.over > 0:
			dead = append(dead, letter{m, reasonMaxLen})
			r.over -= int64(len(m.body))
		case i < r.trim:
			l.giveBack(id) // the log does not know that it is lent
		case expires && !now.Before(due) && !prompt:
			dead = append(dead, letter{m, reasonExpired})
		default:
			if c := l.give(m); c != nil {
				notify = append(notify, c)
			}
		}
	}
	e.mu.Unlock()
	for _, c := range notify {
		c.o.Ready()
	}
	return l.remove(ctx, dead)
}

// missing reports a message that the log does not have.
func (l *live) missing(id int64) {
	l.host.engine.o.Log.Error("a message of a queue is not in the log", "vhost", l.host.name, "queue", l.q.Name, "id", id)
	l.leave(id)
}

// remove removes messages that are leased.
func (l *live) remove(ctx context.Context, dead []letter) error {
	if len(dead) == 0 {
		return nil
	}
	if err := l.bury(ctx, dead); err != nil && !errors.Is(err, context.Canceled) && !errors.Is(err, ErrClosed) {
		return fmt.Errorf("remove messages: %w", err)
	}
	return nil
}

// expire removes those of the first messages that have expired. They are leased only
// then: meanwhile a client may get them. more reports whether there may be others.
func (l *live) expire(ctx context.Context, first []int64) (more bool, err error) {
	e := l.host.engine
	found, n, err := l.host.read(ctx, first)
	if err != nil {
		return true, err
	}
	var dead []letter
	e.mu.Lock()
	if l.gone || e.phase != serving {
		e.mu.Unlock()
		return false, nil
	}
	now := e.o.Now()
	for _, id := range first[:n] {
		_, held := l.leased[id]
		absent := len(found) == 0 || found[0].id != id
		if held || !l.q.Has(id) || absent {
			if absent && !held && l.q.Has(id) {
				l.missing(id)
				l.hold(id, 0)
			} else if !absent {
				found = found[1:]
			}
			continue
		}
		m := &found[0]
		found = found[1:]
		due, expires := l.dueTime(m)
		if !expires {
			due = now.Add(farAway)
		}
		if now.Before(due) {
			l.head = headTime{id, due}
			break
		}
		l.hold(id, len(m.body))
		dead = append(dead, letter{m, reasonExpired})
	}
	more = len(dead) > 0 || len(l.due()) > 0
	e.mu.Unlock()
	return more, l.remove(ctx, dead)
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
				l.delivered(c, &d, 1)
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
