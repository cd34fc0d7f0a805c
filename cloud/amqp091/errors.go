package amqp091

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
)

// refused makes an error of the method at hand, with RabbitMQ's code and text.
func refused(code wire.Code, format string, args ...any) *wire.Error {
	return &wire.Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// of names a queue or an exchange as RabbitMQ does.
func (c *conn) of(t declaration.Thing, name string) string { return t.In(c.vhost, name) }

// unsupported is failed for a method that stream queues do not support.
func (c *conn) unsupported(method string, err error, name string) error {
	if errors.Is(err, queue.ErrStream) {
		return declaration.RefusalOf(method, err, c.vhost, name)
	}
	return c.failed(err, name)
}

// failed turns an error of the engine into the answer. name is the queue that the method
// is about, if it is about one. The error of a connection that has ended stays.
func (c *conn) failed(err error, name string) error {
	if err == nil {
		return nil
	}
	if c.ctx.Err() != nil {
		return context.Cause(c.ctx)
	}
	if e, ok := errors.AsType[*wire.Error](declaration.Refusal(err, c.vhost, name)); ok {
		return e
	}
	switch {
	case errors.Is(err, queue.ErrNoVhost):
		return refused(wire.ConnectionForced, "vhost '%s' is deleted", c.vhost)
	case errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrStarting):
		return refused(wire.ConnectionForced, "vhost '%s' is not on this node", c.vhost)
	case errors.Is(err, machine.ErrLevel):
		return refused(wire.PreconditionFailed, "%v", err)
	}
	c.s.o.Log.Error("an AMQP request failed", "address", c.peer, "vhost", c.vhost, "err", err)
	return refused(wire.InternalError, "%v", err)
}

// confirmed returns e, the answer to a method. If it says that something does not exist, the
// bucket has to say that this node still has the vhost. Otherwise the connection ends, and
// the client finds the node that has it.
func (c *conn) confirmed(e *wire.Error) *wire.Error {
	if e.Code != wire.NotFound {
		return e
	}
	if err := c.s.o.Confirm(c.ctx, c.vhost); err != nil {
		return &wire.Error{Code: wire.ConnectionForced, Text: fmt.Sprintf("vhost '%s' is not on this node", c.vhost), Method: e.Method}
	}
	return e
}
