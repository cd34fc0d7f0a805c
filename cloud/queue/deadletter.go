package queue

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/state"
)

// reason is why a message died, as x-death has it.
type reason string

// The reasons.
const (
	reasonRejected      reason = "rejected"
	reasonExpired       reason = "expired"
	reasonMaxLen        reason = "maxlen"
	reasonDeliveryLimit reason = "delivery_limit"
)

// letter is a message that leaves a queue because of reason.
type letter struct {
	m      *message
	reason reason
}

// rejects are messages of a queue whose verdict makes them dead letters. Their leases
// have been marked.
type rejects struct {
	live   *live
	ids    []int64
	reason reason
}

// reject makes dead letters of messages that clients have rejected, and calls done for
// each of all when they are durable. It does not wait for that.
func (e *Engine) reject(all []rejects, done func(error)) {
	for _, r := range all {
		if !e.tasks.run(func() { done(r.live.reject(r)) }) {
			done(ErrClosed)
		}
	}
}

func (l *live) reject(r rejects) error {
	slices.Sort(r.ids)
	pause := minPause
	for {
		err := l.tryReject(l.host.engine.ctx, &r)
		if err == nil || !l.rest(err, pause) {
			return err
		}
		pause = min(2*pause, maxPause)
	}
}

// tryReject makes dead letters of r.ids, and leaves those that are still to be done.
func (l *live) tryReject(ctx context.Context, r *rejects) error {
	for len(r.ids) > 0 {
		found, n, err := l.host.read(ctx, r.ids[:min(len(r.ids), burst)])
		if err != nil {
			return err
		}
		var dead []letter
		for i := range found {
			dead = append(dead, letter{&found[i], r.reason})
		}
		if err := l.bury(ctx, dead); err != nil {
			return err
		}
		r.ids = r.ids[n:]
	}
	return nil
}

// bury ends leased messages of the queue, and publishes them to its dead-letter exchange
// if it has one: both in one slot. It returns when that is durable.
func (l *live) bury(ctx context.Context, dead []letter) error {
	h := l.host
	e := h.engine
	e.mu.Lock()
	v, err := e.vhost(h.name)
	if err == nil && l.gone || errors.Is(err, ErrNoVhost) {
		e.mu.Unlock()
		return nil // deleted
	}
	if err != nil {
		e.mu.Unlock()
		return err
	}
	now := e.o.Now().UnixMilli()
	var parcels []*parcel
	var p *parcel
	for _, d := range dead {
		if p == nil || p.filled(len(d.m.body)) {
			p = &parcel{host: h, batch: h.newBatch(), out: ending()}
			parcels = append(parcels, p)
		}
		p.batch.accept(l, d.m.id)
		next, ok := deadLetter(l.q, d.m, d.reason, now)
		if !ok {
			continue
		}
		p.deaths, p.cause = next.deaths, d.reason
		if err := p.add(v, &next.message, false); err != nil && !errors.Is(err, ErrUnroutable) {
			e.o.Log.Debug("dead letter not published", "vhost", h.name, "queue", l.q.Name, "exchange", next.message.exchange, "err", err)
		}
		p.deaths, p.bounced = nil, nil
	}
	e.mu.Unlock()
	answer := make(chan error, 1)
	send(parcels, all(len(parcels), func(err error) { answer <- err }))
	return waitFor(ctx, answer)
}

// corpse is a dead letter.
type corpse struct {
	message message
	deaths  []death // the newest first
}

// death is an element of x-death.
type death struct {
	queue, reason string
	count         int64
	table         wire.Table
}

// deadLetter returns the message that is published when m dies in a queue, false if the
// queue has no dead-letter exchange.
func deadLetter(q *state.Queue, m *message, why reason, now int64) (corpse, bool) {
	to := q.Settings.DeadLetter
	if to == nil {
		return corpse{}, false
	}
	props, err := decodeProperties(m.properties)
	if err != nil {
		props = wire.Properties{}
	}
	next := *m
	next.exchange, next.time = to.Exchange, now
	keys := append([]wire.Value{wire.Text(m.key)}, carbonKeys(props.Headers)...)
	if to.HasKey {
		next.key = to.Key
	}
	all := updateDeaths(deathsOf(props.Headers), q.Name, why, m.exchange, keys, now, &props)
	headers := deadHeaders(props.Headers, all, to.HasKey, death{queue: q.Name, reason: string(why)}, m.exchange)
	table, err := headers.Table()
	if err == nil {
		props.Headers = table
		props.Flags = props.Flags&^wire.HasExpiration | wire.HasHeaders
		props.Expiration = ""
		next.properties, err = props.Append(nil)
	}
	if err != nil { // larger than a header can be: without the history
		next.properties = m.properties
	}
	return corpse{next, all}, true
}

// carbonKeys returns the keys of the header CC.
func carbonKeys(headers wire.Table) []wire.Value {
	var all []wire.Value
	if keys, ok := headers.Lookup("CC").Array(); ok {
		for k := range keys.All() {
			all = append(all, k)
		}
	}
	return all
}

// deathsOf decodes x-death. What does not look like one is left out.
func deathsOf(headers wire.Table) []death {
	list, ok := headers.Lookup("x-death").Array()
	if !ok {
		return nil
	}
	var all []death
	for v := range list.All() {
		t, ok := v.Table()
		if !ok {
			continue
		}
		d := death{table: t}
		if p, ok := t.Lookup("queue").Bytes(); ok {
			d.queue = string(p)
		}
		if p, ok := t.Lookup("reason").Bytes(); ok {
			d.reason = string(p)
		}
		d.count, _ = t.Lookup("count").Int()
		all = append(all, d)
	}
	return all
}

// updateDeaths puts a death in front: a new one, or that of the same queue and reason,
// counted once more.
func updateDeaths(all []death, queue string, why reason, exchange string, keys []wire.Value, now int64, props *wire.Properties) []death {
	if i := slices.IndexFunc(all, func(d death) bool { return d.queue == queue && d.reason == string(why) }); i >= 0 {
		again := all[i]
		again.count++
		var b wire.Builder
		for name, value := range again.table.All() {
			if name == "count" {
				value = wire.Int64(again.count)
			}
			b.Add(name, value)
		}
		if t, err := b.Table(); err == nil {
			again.table = t
		}
		return append([]death{again}, slices.Delete(slices.Clone(all), i, i+1)...)
	}
	var b wire.Builder
	b.Add("count", wire.Int64(1))
	b.Add("reason", wire.Text(string(why)))
	b.Add("queue", wire.Text(queue))
	b.Add("time", wire.Timestamp(uint64(now)/1000))
	b.Add("exchange", wire.Text(exchange))
	b.Add("routing-keys", wire.List(keys...))
	if props.Flags&wire.HasExpiration != 0 {
		b.Add("original-expiration", wire.Text(props.Expiration))
	}
	d := death{queue: queue, reason: string(why), count: 1}
	d.table, _ = b.Table() // the names are short
	return append([]death{d}, all...)
}

// deadHeaders returns the headers of a dead letter.
func deadHeaders(old wire.Table, deaths []death, otherKey bool, first death, exchange string) *wire.Builder {
	var b wire.Builder
	values := make([]wire.Value, len(deaths))
	for i := range deaths {
		values[i] = wire.Nested(deaths[i].table)
	}
	b.Add("x-death", wire.List(values...))
	if !old.Lookup("x-first-death-queue").Exists() {
		b.Add("x-first-death-exchange", wire.Text(exchange))
		b.Add("x-first-death-queue", wire.Text(first.queue))
		b.Add("x-first-death-reason", wire.Text(first.reason))
	}
	for name, value := range old.All() {
		if name == "x-death" || otherKey && name == "CC" {
			continue
		}
		b.Add(name, value)
	}
	return &b
}

// cycles reports whether a dead letter has come from a queue before, and nobody has
// rejected it since: then it does not go there again.
func cycles(deaths []death, queue string) bool {
	for i := range deaths {
		if deaths[i].reason == string(reasonRejected) {
			return false
		}
		if deaths[i].queue == queue {
			return true
		}
	}
	return false
}

// Move publishes the first most messages of a queue to an exchange, or with back, each to
// where it was published before it died first, and takes them out of the queue: each
// batch in one slot. It returns how many. Errors: ErrNoQueue, ErrExclusive, ErrStream,
// ErrNoVhost, ErrClosed, *routing.Error; ErrUnroutable if no queue takes one of them, which stays.
func (e *Engine) Move(ctx context.Context, m Movement) (moved int, err error) {
	if err := e.open(ctx); err != nil {
		return 0, err
	}
	for moved < m.Most && err == nil {
		var n int
		n, err = e.moveSome(ctx, m, min(burst, m.Most-moved))
		if moved += n; n == 0 {
			break
		}
	}
	return moved, err
}

// Movement says what to move, and where to.
type Movement struct {
	Vhost, Queue, Session string
	Most                  int
	Exchange, Key         string // where to; Key "" keeps the messages' own keys
	Back                  bool   // to where each was published before it died first
}

func (e *Engine) moveSome(ctx context.Context, m Movement, most int) (int, error) {
	e.mu.Lock()
	q, err := e.workQueue(m.Vhost, m.Queue, m.Session)
	if err != nil {
		e.mu.Unlock()
		return 0, err
	}
	l := e.host(q.Vhost).live(q)
	e.mu.Unlock()
	over, err := l.takeTurn(ctx)
	if err != nil {
		return 0, err
	}
	defer over()
	e.mu.Lock()
	picked := l.pickOldest(most)
	e.mu.Unlock()
	found, _, err := l.host.read(ctx, picked)
	p := &parcel{host: l.host, whole: true, out: ending()}
	e.mu.Lock()
	p.batch = l.host.newBatch()
	n := 0
	for i := range found {
		if err != nil || l.gone || p.filled(len(found[i].body)) {
			break
		}
		next := found[i]
		next.exchange, next.key, next.time = m.Exchange, cmp.Or(m.Key, next.key), e.o.Now().UnixMilli()
		if m.Back {
			next.exchange, next.key = origin(&found[i])
		}
		if err = p.add(q.Vhost, &next, false); err != nil {
			break
		}
		l.hold(found[i].id, len(found[i].body))
		p.batch.accept(l, found[i].id)
		n++
	}
	p.bounced = nil
	if n == 0 {
		p.drop()
	}
	for _, id := range picked {
		if held, ok := l.leased[id]; ok && !held.settling {
			l.giveBack(id)
		}
	}
	e.mu.Unlock()
	l.wake()
	if n == 0 {
		return 0, err
	}
	answer := make(chan error, 1)
	send([]*parcel{p}, func(err error) { answer <- err })
	if lost := waitFor(ctx, answer); lost != nil {
		return 0, fmt.Errorf("%w: %w", ErrClosed, lost)
	}
	return n, err
}

// origin returns the exchange and the key of a message before it died for the first
// time; its own if it has never died.
func origin(m *message) (exchange, key string) {
	props, err := decodeProperties(m.properties)
	if err != nil {
		return m.exchange, m.key
	}
	all := deathsOf(props.Headers)
	if len(all) == 0 {
		return m.exchange, m.key
	}
	first := all[len(all)-1].table
	exchange, key = m.exchange, m.key
	if p, ok := first.Lookup("exchange").Bytes(); ok {
		exchange = string(p)
	}
	if keys, ok := first.Lookup("routing-keys").Array(); ok {
		for k := range keys.All() {
			if p, ok := k.Bytes(); ok {
				key = string(p)
			}
			break
		}
	}
	return exchange, key
}
