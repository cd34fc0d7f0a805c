package queue

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// outgoing are the messages of a parcel that go to topics, which have slots of their own.
type outgoing struct {
	messages []StreamMessage
	places   []int   // of each: the index of its publication, -1 if it comes from the engine
	index    int     // of the publication that is added
	outcomes []error // of the publications; nil: the parcel comes from the engine
	none     bool    // there are none: what has come from a topic does not go to one, or two vhosts could pass it on for ever
	before   bool    // they become durable before the parcel's slot, which ends what they come from: a crash between the two does not lose them
}

// toTopic adds a message for a topic, unless the topic gets it already.
func (p *parcel) toTopic(vhost, topic string, m *message) {
	o := &p.out
	for i := len(o.messages) - 1; i >= 0 && o.places[i] == o.index && o.index >= 0; i-- {
		if o.messages[i].Topic == topic {
			return
		}
	}
	o.messages = append(o.messages, StreamMessage{Topic: topic, Vhost: vhost, Exchange: m.exchange, Key: m.key, Properties: m.properties, Body: m.body, Time: m.time})
	o.places = append(o.places, o.index)
}

// cut drops messages for topics from an index on.
func (o *outgoing) cut(first int) {
	o.messages, o.places = o.messages[:first], o.places[:first]
}

// dispatch makes the parcel durable: its slot, and what goes to topics. done is called
// once. The caller does not hold Engine.mu.
func (p *parcel) dispatch(done func(error)) {
	switch e := p.host.engine; {
	case len(p.out.messages) == 0:
		p.sendSlot(done)
	case !p.out.before:
		both := all(2, done)
		e.o.Topics.Append(p.out.messages, func(errs []error) { both(p.out.refuse(errs)) })
		p.sendSlot(both)
	default:
		if !e.tasks.run(func() {
			if err := p.toTopics(e.ctx); err != nil {
				p.end(err, done)
				return
			}
			p.sendSlot(done)
		}) {
			p.end(ErrClosed, done)
		}
	}
}

// toTopics makes what goes to topics durable. What comes from the engine is tried until
// the topic has it, or refuses it for good.
func (p *parcel) toTopics(ctx context.Context) error {
	e, pause := p.host.engine, minPause
	for left := p.out.messages; ; pause = min(2*pause, maxPause) {
		answer := make(chan []error, 1)
		e.o.Topics.Append(left, func(errs []error) { answer <- errs })
		errs := <-answer // the log answers, also when it ends
		if p.out.outcomes != nil {
			return p.out.refuse(errs)
		}
		var again []StreamMessage
		var failed error
		for i, err := range errs {
			switch {
			case err == nil:
			case isFinal(err):
				e.o.Log.Warn("a topic refuses a dead letter or delayed message, which is lost", "vhost", p.host.name, "topic", left[i].Topic, "err", err)
			default:
				again, failed = append(again, left[i]), err
			}
		}
		if len(again) == 0 || errors.Is(failed, ErrClosed) {
			return failed
		}
		left = again
		e.o.Log.Warn("messages could not be appended to a topic: another try follows", "vhost", p.host.name, "pause", pause, "err", failed)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return ErrClosed
		}
	}
}

// isFinal reports whether another try to append a message to a topic cannot succeed.
func isFinal(err error) bool {
	return errors.Is(err, ErrNoTopic) || errors.Is(err, ErrTooLarge) || errors.Is(err, ErrInvalid)
}

// refuse records what topics have refused as outcomes. It returns an error if this node
// does not serve them any more.
func (o *outgoing) refuse(errs []error) error {
	for i, err := range errs {
		switch place := o.places[i]; {
		case err == nil:
		case errors.Is(err, ErrClosed):
			return err
		case place >= 0 && o.outcomes[place] == nil:
			o.outcomes[place] = fmt.Errorf("%w: topic %s: %w", ErrRefused, o.messages[i].Topic, err)
		}
	}
	return nil
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
