package declaration

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue/state"
)

// queueArguments are the arguments of queue.declare that RabbitMQ compares when a queue is
// declared again, in its order. read sets what an argument means, or returns what is wrong
// with it in RabbitMQ's words. Arguments without read have no effect here. It is not
// changed.
var queueArguments = []struct {
	name string
	read func(v wire.Value, s *state.Settings) string
}{
	{"x-expires", readExpires},
	{"x-message-ttl", readTTL},
	{"x-dead-letter-exchange", readDeadLetterExchange},
	{"x-dead-letter-routing-key", readDeadLetterKey},
	{"x-dead-letter-strategy", func(v wire.Value, _ *state.Settings) string {
		return oneOf(v, "invalid_dlx_strategy", "at-most-once", "at-least-once")
	}},
	{"x-max-length", func(v wire.Value, s *state.Settings) string { return natural(v, &s.MaxLength) }},
	{"x-max-length-bytes", func(v wire.Value, s *state.Settings) string { return natural(v, &s.MaxBytes) }},
	{"x-max-in-memory-length", func(v wire.Value, _ *state.Settings) string { return natural(v, new(int64)) }},
	{"x-max-in-memory-bytes", func(v wire.Value, _ *state.Settings) string { return natural(v, new(int64)) }},
	{"x-max-priority", readMaxPriority},
	{"x-overflow", readOverflow},
	{"x-queue-mode", readQueueMode},
	{"x-queue-version", func(v wire.Value, _ *state.Settings) string { return natural(v, new(int64)) }},
	{"x-single-active-consumer", readSingleActive},
	{"x-queue-type", readQueueType},
	{"x-delivery-limit", readDeliveryLimit},
	{"x-queue-master-locator", nil},
	{"x-queue-leader-locator", nil},
	{"x-quorum-initial-group-size", nil},
}

// maxMillis is the longest time that RabbitMQ accepts.
const maxMillis = math.MaxUint32

// Integer reads an integer of any size. It returns what is wrong with the value in RabbitMQ's words, "" if nothing is.
func Integer(v wire.Value, into *int64) string {
	n, ok := v.Int()
	if !ok {
		return fmt.Sprintf("\"expected integer, got %v\"", v.Kind())
	}
	*into = n
	return ""
}

// natural reads an integer that is not negative.
func natural(v wire.Value, into *int64) string {
	var n int64
	if reason := Integer(v, &n); reason != "" {
		return reason
	}
	if n < 0 {
		return fmt.Sprintf("{value_negative,%d}", n)
	}
	*into = n
	return ""
}

// millis reads a time.
func millis(v wire.Value, into *time.Duration) string {
	var n int64
	if reason := natural(v, &n); reason != "" {
		return reason
	}
	if n > maxMillis {
		return fmt.Sprintf("{value_too_big,%d}", n)
	}
	*into = time.Duration(n) * time.Millisecond
	return ""
}

// unacceptable is RabbitMQ's text for a value of the wrong type.
func unacceptable(v wire.Value) string { return fmt.Sprintf("{unacceptable_type,%v}", v.Kind()) }

// oneOf checks a text.
func oneOf(v wire.Value, otherwise string, names ...string) string {
	text, ok := v.Bytes()
	switch {
	case !ok || v.Kind() != wire.KindString:
		return unacceptable(v)
	case !slices.Contains(names, string(text)):
		return otherwise
	}
	return ""
}

func readExpires(v wire.Value, s *state.Settings) string {
	if n, ok := v.Int(); ok && n == 0 {
		return "{value_zero,0}"
	}
	return millis(v, &s.Expires)
}

func readTTL(v wire.Value, s *state.Settings) string { return millis(v, &s.TTL) }

func readDeadLetterExchange(v wire.Value, s *state.Settings) string {
	name, _ := v.Bytes() // Settings has checked the type
	s.DeadLetter = &state.DeadLetter{Exchange: string(name)}
	return ""
}

func readDeadLetterKey(v wire.Value, s *state.Settings) string {
	key, ok := v.Bytes()
	switch {
	case !ok || v.Kind() != wire.KindString:
		return unacceptable(v)
	case s.DeadLetter == nil:
		return "routing_key_but_no_dlx_defined"
	}
	s.DeadLetter.Key, s.DeadLetter.HasKey = string(key), true
	return ""
}

func readMaxPriority(v wire.Value, s *state.Settings) string {
	var n int64
	if reason := natural(v, &n); reason != "" {
		return reason
	}
	if n > math.MaxUint8 {
		return fmt.Sprintf("{max_value_exceeded,%d}", n)
	}
	s.MaxPriority = uint8(n)
	return ""
}

func readOverflow(v wire.Value, s *state.Settings) string {
	if reason := oneOf(v, "invalid_overflow", "drop-head", "reject-publish", "reject-publish-dlx"); reason != "" {
		return reason
	}
	switch text, _ := v.Bytes(); string(text) {
	case "reject-publish":
		s.Overflow = state.RejectPublish
	case "reject-publish-dlx":
		s.Overflow = state.RejectPublishDLX
	}
	return ""
}

func readQueueMode(v wire.Value, _ *state.Settings) string {
	return oneOf(v, fmt.Sprintf("\"unsupported queue mode '%v'\"", v), "default", "lazy")
}

func readSingleActive(v wire.Value, s *state.Settings) string {
	set, ok := v.Bool()
	if !ok {
		return unacceptable(v)
	}
	s.SingleActive = set
	return ""
}

// readQueueType accepts the types whose queues are all the same here. Streams are not
// served.
func readQueueType(v wire.Value, _ *state.Settings) string {
	return oneOf(v, fmt.Sprintf("\"unsupported queue type '%v'\"", v), "classic", "quorum")
}

func readDeliveryLimit(v wire.Value, s *state.Settings) string {
	var n int64
	if reason := natural(v, &n); reason != "" {
		return reason
	}
	s.DeliveryLimit = int(min(n, math.MaxInt32-1))
	return ""
}
