package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outgoing are the messages of a parcel that go to topics, which have slots of their own.
type outgoing struct {
	published []StreamMessage // by clients
	places    []int           // of each: the index of its publication
	index     int             // of the publication that is added; -1: it comes from the engine
	outcomes  []error         // of the publications
	none      bool            // none are published: what has come from a topic does not go to one, or two vhosts could pass it on for ever

	own []StreamMessage // of the engine: each is tried until the topic has it or refuses it for good
	// before: own is durable before the parcel's slot, which ends what it comes from: a crash
	// between the two doubles it and does not lose it.
	before bool
}

// ending returns the outgoing of a parcel that ends what its messages come from.
func ending() outgoing { return outgoing{index: -1, before: true} }

// toTopic adds a message for a topic, unless the topic gets it already.
func (p *parcel) toTopic(vhost, topic string, m *message) {
	o := &p.out
	next := StreamMessage{Topic: topic, Vhost: vhost, Exchange: m.exchange, Key: m.key, Properties: m.properties, Body: m.body, Time: m.time}
	if m.fromTopic {
		return
	}
	if o.index < 0 {
		o.own = append(o.own, next)
		return
	}
	if o.none {
		return
	}
	for i := len(o.published) - 1; i >= 0 && o.places[i] == o.index; i-- {
		if o.published[i].Topic == topic {
			return
		}
	}
	o.published = append(o.published, next)
	o.places = append(o.places, o.index)
}

// mark is how many messages there are, to go back to.
type mark struct{ published, own int }

func (o *outgoing) mark() mark { return mark{len(o.published), len(o.own)} }

// cut drops the messages behind a mark.
func (o *outgoing) cut(to mark) {
	o.published, o.places, o.own = o.published[:to.published], o.places[:to.published], o.own[:to.own]
}

// dispatch makes the parcel durable: its slot, and what goes to topics. done is called
// once. The caller does not hold Engine.mu.
func (p *parcel) dispatch(done func(error)) {
	e, o := p.host.engine, &p.out
	if o.before && len(o.own) > 0 {
		if !e.tasks.run(func() {
			if err := p.persist(e.ctx); err != nil {
				p.end(err, done)
				return
			}
			p.sendSlot(done)
		}) {
			p.end(ErrClosed, done)
		}
		return
	}
	parts := 1
	if len(o.published) > 0 {
		parts++
	}
	if len(o.own) > 0 {
		parts++
	}
	part := done
	if parts > 1 {
		part = all(parts, done)
	}
	if len(o.published) > 0 {
		e.o.Topics.Append(e.ctx, o.published, func(errs []error) { part(p.answered(errs)) })
	}
	if len(o.own) > 0 && !e.tasks.run(func() { part(p.persist(e.ctx)) }) {
		part(ErrClosed)
	}
	p.sendSlot(part)
}

// answered acts on the answers of topics. It returns an error if this node does not serve
// them any more.
func (p *parcel) answered(errs []error) error {
	if err := p.out.refuse(errs); err != nil {
		return err
	}
	e := p.host.engine
	e.mu.Lock()
	p.host.counts.Published += p.out.accepted()
	e.mu.Unlock()
	return nil
}

// accepted returns how many publications go to topics, and are not refused.
func (o *outgoing) accepted() (n int64) {
	for i, place := range o.places {
		if o.outcomes[place] == nil && (i == 0 || o.places[i-1] != place) {
			n++
		}
	}
	return n
}

// publish makes durable in topics what clients have published, before the slot.
func (o *outgoing) publish(e *Engine) error {
	answer := make(chan []error, 1)
	e.o.Topics.Append(e.ctx, o.published, func(errs []error) { answer <- errs })
	err := o.refuse(<-answer) // it answers, also when this engine ends
	o.published, o.places = nil, nil
	return err
}

// refuse records what topics have refused as outcomes. It returns an error if this node
// does not serve them any more.
func (o *outgoing) refuse(errs []error) error {
	for i, err := range errs {
		switch place := o.places[i]; {
		case err == nil:
		case errors.Is(err, ErrClosed):
			return err
		case o.outcomes[place] == nil:
			o.outcomes[place] = fmt.Errorf("%w: topic %s: %w", ErrRefused, o.published[i].Topic, err)
		}
	}
	return nil
}

// persist makes the messages of the engine durable in their topics. It returns an error
// if this node does not serve them any more.
func (p *parcel) persist(ctx context.Context) error {
	e, pause, left := p.host.engine, minPause, p.out.own
	for {
		answer := make(chan []error, 1)
		e.o.Topics.Append(e.ctx, left, func(errs []error) { answer <- errs })
		errs := <-answer // it answers, also when this engine ends
		var again []StreamMessage
		var failed error
		for i, err := range errs {
			switch {
			case err == nil:
			case errors.Is(err, ErrClosed):
				return err
			case isFinal(err):
				e.o.Log.Warn("a topic refuses a dead letter or delayed message, which is lost", "vhost", p.host.name, "topic", left[i].Topic, "err", err)
			default:
				again, failed = append(again, left[i]), err
			}
		}
		if left = again; len(left) == 0 {
			return nil
		}
		e.o.Log.Warn("messages could not be appended to a topic: another try follows", "vhost", p.host.name, "pause", pause, "err", failed)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ErrClosed
		}
		pause = min(2*pause, maxPause)
	}
}

// isFinal reports whether another try to append a message to a topic cannot succeed.
func isFinal(err error) bool {
	return errors.Is(err, ErrNoTopic) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid)
}

// end ends a parcel whose slot is not sent.
func (p *parcel) end(err error, done func(error)) {
	p.sent(err)
	done(err)
}

// sendSlot sends the slot, if there is anything in it.
func (p *parcel) sendSlot(done func(error)) {
	if p.empty() {
		p.end(nil, done)
		return
	}
	p.send(done)
}
