package declaration

import (
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// codes maps errors of the engine that are about a queue to RabbitMQ's codes and texts.
// The first row that matches counts. It is not changed.
var codes = []struct {
	err  error
	code wire.Code
	text string // %s is the queue, as Thing.In names it
}{
	{queue.ErrNoQueue, wire.NotFound, "no %s"},
	{queue.ErrExclusive, wire.ResourceLocked, "cannot obtain exclusive access to locked %s. It could be originally declared on another connection or the exclusive property value does not match that of the original declaration."},
	{queue.ErrInUse, wire.PreconditionFailed, "%s in use"},
	{queue.ErrConsumed, wire.AccessRefused, "%s in exclusive use"},
	{queue.ErrNotEmpty, wire.PreconditionFailed, "%s not empty"},
	{queue.ErrStream, wire.NotImplemented, "not supported by stream queues %s"},
	{queue.ErrNoTopic, wire.NotFound, "the topic of %s does not exist"},
}

// Refusal turns an error of the engine into RabbitMQ's code and text, if it is one that a
// client has caused; otherwise it returns err as it is. name is the queue that the
// request is about.
func Refusal(err error, vhost, name string) error {
	if e, ok := errors.AsType[*routing.Error](err); ok {
		return routingRefusal(e, vhost)
	}
	if errors.Is(err, queue.ErrRefused) {
		return refused(wire.PreconditionFailed, "%v", err)
	}
	for _, row := range codes {
		if errors.Is(err, row.err) {
			return refused(row.code, row.text, AQueue.In(vhost, name))
		}
	}
	if errors.Is(err, queue.ErrTooLarge) || errors.Is(err, queue.ErrInvalid) {
		return refused(wire.PreconditionFailed, "%v", err)
	}
	return err
}

// RefusalOf is Refusal for a method that stream queues do not support.
func RefusalOf(method string, err error, vhost, name string) error {
	if errors.Is(err, queue.ErrStream) {
		return refused(wire.NotImplemented, "%s not supported by stream queues %s", method, AQueue.In(vhost, name))
	}
	return Refusal(err, vhost, name)
}

// routingRefusal turns what a routing table refuses into RabbitMQ's code and text.
func routingRefusal(e *routing.Error, vhost string) *wire.Error {
	what := AnExchange
	if e.Queue {
		what = AQueue
	}
	name := what.In(vhost, e.Name)
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
