package queue

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/journal"
)

// parcel is messages and verdicts that become durable in one slot.
type parcel struct {
	packer
	host    *host
	groups  []state.Group
	ids     []state.QueueID // memory of groups
	special []state.Special
	filters []state.Filter
	targets int    // of all groups
	whole   bool   // what one queue rejects goes to none
	batch   *batch // nil: no verdicts
	read    []Position

	names  []string       // of the queues that the newest message was routed to
	queues []*state.Queue // of these names

	arrives []arrival
	bounced []bounce
	out     outgoing

	deaths []death // of the dead letter that is added, the newest first; nil: it is none
	cause  reason  // of its newest death
}

// How many bytes of messages, and how many places in queues, a parcel has when others go
// into another one.
const (
	parcelBytes   = 1 << 20
	parcelTargets = 100_000
)

// filled reports whether further messages go into another parcel.
func (p *parcel) filled(more int) bool {
	return p.builder.Len() > 0 && (p.builder.Size()+more > parcelBytes || p.targets >= parcelTargets)
}

// scratch is memory for routing.
type scratch struct {
	props   wire.Properties
	message routing.Message
	result  routing.Result
	through routing.Result // from an exchange that looks for duplicates
	filter  filter
	queues  []state.QueueID
	lent    []state.QueueID
}

// attributes are what the engine reads of a message's properties.
type attributes struct {
	priority uint8
	expires  bool          // it has an expiration of its own
	delay    time.Duration // x-delay; 0: none
	known    wire.Value    // x-deduplication-header
	cached   time.Duration // x-cache-ttl; 0: as the exchange says
}

// examine decodes the properties of a message, and sets what Route looks at. The caller
// holds Engine.mu.
func (e *Engine) examine(v *state.Vhost, m *message) (attributes, error) {
	s := &e.route
	more := s.message.More[:0]
	s.message = routing.Message{Key: m.key, Headers: s.message.Headers[:0], More: more}
	var a attributes
	if len(m.properties) == 0 {
		return a, nil
	}
	p := &s.props
	if err := p.Decode(m.properties); err != nil {
		return a, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	a.priority = p.Priority // 0 if it is not there
	if p.Flags&wire.HasExpiration != 0 {
		_, a.expires = parseExpiration(p.Expiration)
	}
	s.message.CorrelationID, s.message.MessageID = p.CorrelationID, p.MessageID
	if p.Flags&wire.HasTimestamp != 0 {
		s.message.Timestamp = strconv.FormatUint(p.Timestamp, 10)
	}
	if p.Flags&wire.HasHeaders == 0 {
		return a, nil
	}
	for _, name := range []string{"CC", "BCC"} {
		if keys, ok := p.Headers.Lookup(name).Array(); ok {
			for k := range keys.All() {
				if text, ok := k.Bytes(); ok {
					s.message.More = append(s.message.More, string(text))
				}
			}
		}
	}
	if ms, ok := p.Headers.Lookup("x-delay").Int(); ok && ms > 0 {
		a.delay, s.message.Delay = time.Duration(min(ms, maxDelay.Milliseconds()))*time.Millisecond, true
	}
	if a.known = p.Headers.Lookup("x-deduplication-header"); a.known.Exists() {
		ms, _ := p.Headers.Lookup("x-cache-ttl").Int()
		a.cached = time.Duration(min(max(ms, 0), maxDelay.Milliseconds())) * time.Millisecond
		s.message.Filter = true
	}
	if v.Table.ReadsHeaders() {
		for name, value := range p.Headers.All() {
			s.message.Headers = append(s.message.Headers, routing.Header{Name: name, Value: routingValue(value)})
		}
		routing.SortHeaders(s.message.Headers)
	}
	return a, nil
}

// maxDelay bounds x-delay, as RabbitMQ's plugin does.
const maxDelay = (1<<32 - 1) * time.Millisecond

// routingValue returns a value of a header as far as values are compared.
func routingValue(v wire.Value) routing.Value {
	if b, ok := v.Bool(); ok {
		return routing.BoolValue(b)
	}
	if n, ok := v.Int(); ok {
		return routing.IntValue(n)
	}
	if f, ok := v.Float(); ok {
		return routing.FloatValue(f)
	}
	if p, ok := v.Bytes(); ok {
		return routing.TextValue(string(p))
	}
	if s, ok := v.Timestamp(); ok {
		return routing.UintValue(s)
	}
	if !v.Exists() || v.Kind() == wire.KindVoid {
		return routing.Value{}
	}
	return routing.Value{Kind: routing.Encoded, Text: string(v.Raw())}
}

// parseExpiration returns the time to live that a message asks for, false if it is not a
// number of milliseconds. As with RabbitMQ it may have a sign.
func parseExpiration(text string) (time.Duration, bool) {
	if text == "-0" {
		return 0, true
	}
	text = strings.TrimPrefix(text, "+")
	ms, err := strconv.ParseUint(text, 10, 41)
	return time.Duration(ms) * time.Millisecond, err == nil
}

// expiration returns the time to live of a message's own, false if it has none.
func (m *message) expiration() (time.Duration, bool) {
	p, err := decodeProperties(m.properties)
	if err != nil || p.Flags&wire.HasExpiration == 0 {
		return 0, false
	}
	return parseExpiration(p.Expiration)
}

// add routes a message and puts it into the parcel. It returns ErrUnroutable if no queue
// takes it, and ErrOverflow if one rejects it; others may have it nevertheless. The
// caller holds Engine.mu. What does not come from a client is published again by the engine.
func (p *parcel) add(v *state.Vhost, m *message, fromClient bool) error {
	if m.size() > maxMessage {
		return fmt.Errorf("%w: %d bytes", ErrTooLarge, m.size())
	}
	e := p.host.engine
	a, err := e.examine(v, m)
	if err != nil {
		return err
	}
	exchange, s := m.exchange, &e.route
	if m.holder != "" {
		exchange, s.message.Delay, m.holder = m.holder, false, ""
	} else if !fromClient {
		s.message.Filter = false // what is published again is no duplicate of itself
	}
	switch {
	case m.delayed && s.message.Delay:
		err = v.Table.Hold(exchange, &s.result)
	case fromClient:
		err = v.Table.Publish(exchange, &s.message, &s.result)
	default:
		err = v.Table.Route(exchange, &s.message, &s.result)
	}
	if err != nil {
		return err
	}
	topics := p.out.mark()
	f := p.filter(v, a)
	f.again = !fromClient
	priorities, rejected := p.admit(v, m, f)
	if rejected {
		f.passages = f.passages[:0] // the publisher is told, and may try again
	}
	if rejected && p.whole {
		p.out.cut(topics)
		return ErrOverflow
	}
	special := state.Special{Expires: a.expires}
	if priorities {
		special.Priority = a.priority
	}
	if len(s.queues) > 0 {
		if err := p.put(m, s.queues, s.lent, special, f.needed || len(f.passages) > 0); err != nil {
			p.out.cut(topics)
			return err
		}
		p.addFilter(v, f)
	}
	for _, holder := range s.result.Held {
		held := *m
		held.holder, held.fromTopic = holder, m.fromTopic || p.out.none
		if err := p.put(&held, nil, nil, state.Special{NotBefore: m.time + a.delay.Milliseconds()}, false); err != nil {
			p.out.cut(topics)
			return err
		}
	}
	switch {
	case rejected:
		return ErrOverflow
	case len(s.queues)+len(s.result.Held) == 0 && p.out.mark() == topics && !f.duplicate:
		return ErrUnroutable
	}
	return nil
}

// admit sets which of the queues of a message take it, and reports whether one of them
// has priorities, and whether another one rejects it.
func (p *parcel) admit(v *state.Vhost, m *message, f *filter) (priorities, rejected bool) {
	s := &p.host.engine.route
	s.queues, s.lent = s.queues[:0], s.lent[:0]
	before := len(p.arrives)
	for _, q := range p.named(v, s.result.Queues) {
		if q == nil || p.deaths != nil && p.cause != reasonRejected && cycles(p.deaths, q.Name) {
			continue
		}
		if q.Settings.Stream {
			p.toTopic(v.Name, q.Name, m)
			continue
		}
		if q.Settings.Deduplicate && f.known {
			f.needed = true
			if !f.again && q.Holds(f.hash) {
				f.duplicate = true
				continue
			}
		}
		if p.host.full(q) {
			rejected = true
			if q.Settings.Overflow == state.RejectPublishDLX {
				p.bounced = append(p.bounced, bounce{q, *m})
			}
			continue
		}
		if q.Settings.Overflow != state.DropHead && (q.Settings.MaxLength >= 0 || q.Settings.MaxBytes >= 0) {
			l := p.host.live(q)
			l.arriving++
			l.arrivingBytes += int64(len(m.body))
			p.arrives = append(p.arrives, arrival{l, len(m.body)})
		}
		priorities = priorities || q.Settings.MaxPriority > 0
		s.queues = append(s.queues, q.ID)
		if p.host.lends(q) {
			s.lent = append(s.lent, q.ID)
		}
	}
	if rejected && p.whole {
		p.dropFrom(before)
	}
	return priorities, rejected
}

// named returns queues by their names; nil if there is none. Of a message that goes to the
// same queues as the one before it remembers them. The caller holds Engine.mu while it adds
// the messages of a parcel.
func (p *parcel) named(v *state.Vhost, names []string) []*state.Queue {
	if slices.Equal(p.names, names) {
		return p.queues
	}
	p.names, p.queues = append(p.names[:0], names...), p.queues[:0]
	for _, name := range names {
		p.queues = append(p.queues, v.Queue(name))
	}
	return p.queues
}

// put adds a message for queues. alone: no other one is in its group.
func (p *parcel) put(m *message, queues, lent []state.QueueID, special state.Special, alone bool) error {
	index := p.builder.Len()
	if err := p.packer.add(m); err != nil {
		return fmt.Errorf("%w: %w", ErrTooLarge, err)
	}
	if special.Priority > 0 || special.NotBefore != 0 || special.Expires {
		special.Index = index
		p.special = append(p.special, special)
	}
	if n := len(p.groups); n > 0 && !alone && !p.alone() && slices.Equal(p.groups[n-1].Queues, queues) && slices.Equal(p.groups[n-1].Lent, lent) {
		p.groups[n-1].Count++
		p.groups[n-1].Bytes += int64(len(m.body))
		return nil
	}
	p.groups = append(p.groups, state.Group{Count: 1, Queues: p.clone(queues), Lent: p.clone(lent), Bytes: int64(len(m.body))})
	p.targets += len(queues) + len(lent)
	return nil
}

// clone copies the ids of queues. Those of a parcel share memory.
func (p *parcel) clone(ids []state.QueueID) []state.QueueID {
	if len(ids) == 0 {
		return nil
	}
	if cap(p.ids)-len(p.ids) < len(ids) {
		p.ids = make([]state.QueueID, 0, max(len(ids), min(2*cap(p.ids), 1<<10), 4))
	}
	from := len(p.ids)
	p.ids = append(p.ids, ids...)
	return p.ids[from:len(p.ids):len(p.ids)]
}

// maxMessage bounds a message with its properties: it must fit into a slot.
const maxMessage = 4<<20 - 8<<10

// full reports whether a queue that rejects what is too much has no room. The caller
// holds Engine.mu.
func (h *host) full(q *state.Queue) bool {
	s := &q.Settings
	if s.Overflow == state.DropHead || s.MaxLength < 0 && s.MaxBytes < 0 {
		return false
	}
	l := h.live(q)
	ready, bytes := l.waits()
	if s.MaxBytes >= 0 && bytes+l.arrivingBytes >= s.MaxBytes {
		return true
	}
	switch {
	case s.MaxLength < 0 || ready+l.arriving < s.MaxLength:
		return false
	case ready >= s.MaxLength:
		return true
	}
	return ready+l.arriving-int64(l.demand()) >= s.MaxLength // consumers that wait take some of what is on its way
}

// lends reports whether a message that arrives now may be handed out at once. The caller
// holds Engine.mu.
func (h *host) lends(q *state.Queue) bool {
	l := h.lives[q.ID]
	if l == nil || len(l.consumers) == 0 || q.Settings.Groups || noLend(h.engine.o.Mutations) {
		return false
	}
	ready, _ := l.waits()
	if q.Settings.DeliveryLimit >= 0 {
		return ready < int64(l.demand())
	}
	return ready < burst
}

// empty reports whether there is nothing to make durable.
func (p *parcel) empty() bool {
	return p.builder.Len() == 0 && len(p.read) == 0 && (p.batch == nil || p.batch.empty())
}

// send makes the parcel durable. done is called once, from a goroutine of the log or
// before send returns. The caller does not hold Engine.mu.
func (p *parcel) send(done func(error)) {
	var proposal commitlog.Proposal
	if p.batch != nil {
		proposal.Commands = p.batch.commands()
	}
	proposal.Commands = append(proposal.Commands, p.positions()...)
	if p.builder.Len() > 0 {
		b, err := p.builder.Take()
		if err != nil {
			p.sent(err)
			done(fmt.Errorf("%w: %w", ErrTooLarge, err))
			return
		}
		proposal.Appends = []commitlog.Append{{Topic: p.host.topic, Batch: b, Verified: true}}
		proposal.BasedBytes = journal.EntryOverhead + 64 + 32*len(p.groups) + 10*p.targets + 24*len(p.special) + p.filterBytes()
		proposal.Based = func(bases []int64) []commitlog.Command {
			entry := state.Published{Vhost: p.host.topic, Base: bases[0], Groups: p.groups, Special: p.special, Filters: p.filters}
			return []commitlog.Command{{Kind: state.KindPublish, Body: entry.Append(nil)}}
		}
	}
	if splitDeath(p.host.engine.o.Mutations) && len(proposal.Appends) > 0 && len(proposal.Commands) > 0 {
		second := commitlog.Proposal{Commands: proposal.Commands}
		proposal.Commands = nil
		p.host.engine.log.Submit(proposal, func([]int64, error) {
			if !p.host.engine.tasks.run(func() {
				p.host.engine.log.Submit(second, func(_ []int64, err error) {
					p.sent(err)
					done(err)
				})
			}) {
				p.sent(ErrClosed)
				done(ErrClosed)
			}
		})
		return
	}
	p.host.engine.log.Submit(proposal, func(_ []int64, err error) {
		p.sent(err)
		done(err)
	})
}

// sent ends what the parcel held in memory.
func (p *parcel) sent(err error) {
	if len(p.arrives) > 0 {
		e := p.host.engine
		e.mu.Lock()
		p.drop()
		e.mu.Unlock()
	}
	if p.batch != nil {
		p.batch.finish(err)
	}
}
