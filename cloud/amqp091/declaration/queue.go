package declaration

import (
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// Queue is a declaration of a queue.
type Queue struct {
	Vhost, Name         string
	Durable, AutoDelete bool
	Owner               string // the session that it is exclusive to; "": none
	Arguments           wire.Table
}

// Settings reads the declaration. Errors: *wire.Error.
func (q *Queue) Settings() (state.Settings, error) {
	s := state.Settings{Durable: q.Durable && q.Owner == "", AutoDelete: q.AutoDelete, Owner: q.Owner, Arguments: q.Arguments.Raw(),
		TTL: -1, MaxLength: -1, MaxBytes: -1, DeliveryLimit: -1}
	if v := q.Arguments.Lookup("x-dead-letter-exchange"); v.Exists() && v.Kind() != wire.KindString {
		return s, refused(wire.PreconditionFailed, "invalid type '%v' for arg 'x-dead-letter-exchange' in %s", v.Kind(), AQueue.In(q.Vhost, q.Name))
	}
	types := q.types()
	for _, a := range queueArguments {
		v := q.Arguments.Lookup(a.name)
		if !v.Exists() || a.read == nil || a.of&types == 0 {
			continue
		}
		if reason := a.read(v, &s); reason != "" {
			return s, refused(wire.PreconditionFailed, "invalid arg '%s' for %s: %s", a.name, AQueue.In(q.Vhost, q.Name), reason)
		}
	}
	for name := range q.Arguments.All() {
		if !types.supports(name) {
			return s, refused(wire.PreconditionFailed, "invalid arg '%s' for %s of queue type %s", name, AQueue.In(q.Vhost, q.Name), q.module())
		}
	}
	if s.Stream {
		return s, q.checkStream()
	}
	return s, nil
}

// Same returns an error unless the declaration is equivalent to the one that made a queue
// of that name.
func (q *Queue) Same(info *queue.Info) error {
	s := &info.Settings
	if (q.Owner != "") != (s.Owner != "") {
		return Refusal(queue.ErrExclusive, q.Vhost, q.Name)
	}
	differs := func(argument string, received, current bool) error {
		if received == current {
			return nil
		}
		return refused(wire.PreconditionFailed, "inequivalent arg '%s' for %s: received '%v' but current is '%v'", argument, AQueue.In(q.Vhost, q.Name), received, current)
	}
	if err := differs("durable", q.Durable && q.Owner == "", s.Durable); err != nil {
		return err
	}
	if err := differs("auto_delete", q.AutoDelete, s.AutoDelete); err != nil {
		return err
	}
	current, failed := wire.ParseTable(s.Arguments)
	if failed != nil {
		return failed
	}
	for _, a := range queueArguments {
		if text := wire.Inequivalence(a.name, current, q.Arguments); text != "" {
			return refused(wire.PreconditionFailed, "inequivalent arg '%s' for %s: %s", a.name, AQueue.In(q.Vhost, q.Name), text)
		}
	}
	return nil
}
