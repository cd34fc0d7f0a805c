package amqp091

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// refused makes an error of the method at hand, with RabbitMQ's code and text.
func refused(code wire.Code, format string, args ...any) *wire.Error {
	return &wire.Error{Code: code, Text: fmt.Sprintf(format, args...)}
}

// kind is what a name is the name of, in texts.
type kind string

const (
	aQueue     kind = "queue"
	anExchange kind = "exchange"
)

// of names a queue or an exchange as RabbitMQ does.
func (c *conn) of(k kind, name string) string {
	return fmt.Sprintf("%s '%s' in vhost '%s'", k, name, c.vhost)
}

// codes maps errors of the engine that are about a queue to RabbitMQ's codes and texts.
// The first row that matches counts. It is not changed.
var codes = []struct {
	err  error
	code wire.Code
	text string // %s is the queue, as conn.of names it
}{
	{queue.ErrNoQueue, wire.NotFound, "no %s"},
	{queue.ErrExclusive, wire.ResourceLocked, "cannot obtain exclusive access to locked %s. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."},
	{queue.ErrInUse, wire.PreconditionFailed, "%s in use"},
	{queue.ErrConsumed, wire.AccessRefused, "%s in exclusive use"},
	{queue.ErrNotEmpty, wire.PreconditionFailed, "%s not empty"},
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
	if e, ok := errors.AsType[*wire.Error](err); ok {
		return e
	}
	if e, ok := errors.AsType[*routing.Error](err); ok {
		return c.routingFailed(e)
	}
	for _, row := range codes {
		if errors.Is(err, row.err) {
			return refused(row.code, row.text, c.of(aQueue, name))
		}
	}
	switch {
	case errors.Is(err, queue.ErrNoVhost):
		return refused(wire.ConnectionForced, "vhost '%s' is deleted", c.vhost)
	case errors.Is(err, queue.ErrClosed), errors.Is(err, queue.ErrStarting):
		return refused(wire.ConnectionForced, "vhost '%s' is not on this node", c.vhost)
	case errors.Is(err, queue.ErrTooLarge), errors.Is(err, queue.ErrInvalid), errors.Is(err, machine.ErrLevel):
		return refused(wire.PreconditionFailed, "%v", err)
	}
	c.s.o.Log.Error("an AMQP request failed", "address", c.peer, "vhost", c.vhost, "err", err)
	return refused(wire.InternalError, "%v", err)
}

// routingFailed turns what a routing table refuses into the answer.
func (c *conn) routingFailed(e *routing.Error) *wire.Error {
	what := anExchange
	if e.Queue {
		what = aQueue
	}
	name := c.of(what, e.Name)
	switch {
	case errors.Is(e, routing.ErrNotFound):
		return refused(wire.NotFound, "no %s", name)
	case errors.Is(e, routing.ErrInUse):
		return refused(wire.PreconditionFailed, "%s in use", name)
	case errors.Is(e, routing.ErrInequivalent):
		return refused(wire.PreconditionFailed, "inequivalent arg '%s' for %s: %s", e.Argument, name, inequivalent(e))
	case errors.Is(e, routing.ErrReserved):
		return refused(wire.AccessRefused, "%s name '%s' contains reserved prefix 'amq.*'", what, e.Name)
	case errors.Is(e, routing.ErrDefault):
		return refused(wire.AccessRefused, "operation not permitted on the default exchange")
	case errors.Is(e, routing.ErrInternal):
		return refused(wire.AccessRefused, "cannot publish to internal %s", name)
	case errors.Is(e, routing.ErrType):
		return refused(wire.CommandInvalid, "invalid exchange type '%s'", e.Received)
	case errors.Is(e, routing.ErrInvalid) && e.Argument == "x-match":
		return refused(wire.PreconditionFailed, "Invalid x-match field value <<\"%s\">>; expected all, any, all-with-x, or any-with-x", e.Received)
	}
	return refused(wire.PreconditionFailed, "invalid arg '%s' for %s: %s", e.Argument, name, e.Received)
}

// inequivalent compares two values of an argument in RabbitMQ's words.
func inequivalent(e *routing.Error) string {
	switch {
	case e.Current == "":
		return fmt.Sprintf("received the value '%s' of type 'longstr' but current is none", e.Received)
	case e.Received == "":
		return fmt.Sprintf("received none but current is the value '%s' of type 'longstr'", e.Current)
	}
	return fmt.Sprintf("received '%s' but current is '%s'", e.Received, e.Current)
}
