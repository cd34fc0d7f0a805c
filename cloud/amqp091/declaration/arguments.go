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
	of   queueTypes
	read func(v wire.Value, s *state.Settings) string
}{
	{"x-expires", workQueues, readExpires},
	{"x-message-ttl", workQueues, readTTL},
	{"x-dead-letter-exchange", workQueues, readDeadLetterExchange},
	{"x-dead-letter-routing-key", workQueues, readDeadLetterKey},
	{"x-dead-letter-strategy", workQueues, func(v wire.Value, _ *state.Settings) string {
		return oneOf(v, "invalid_dlx_strategy", "at-most-once", "at-least-once")
	}},
	{"x-max-length", workQueues, func(v wire.Value, s *state.Settings) string { return natural(v, &s.MaxLength) }},
	{"x-max-length-bytes", allQueues, func(v wire.Value, s *state.Settings) string { return natural(v, &s.MaxBytes) }},
	{"x-max-in-memory-length", workQueues, checkNatural},
	{"x-max-in-memory-bytes", workQueues, checkNatural},
	{"x-max-priority", workQueues, readMaxPriority},
	{"x-overflow", workQueues, readOverflow},
	{"x-queue-mode", workQueues, readQueueMode},
	{"x-queue-version", workQueues, checkNatural},
	{"x-single-active-consumer", workQueues, func(v wire.Value, s *state.Settings) string { return boolean(v, &s.SingleActive) }},
	{"x-queue-type", allQueues, readQueueType},
	{"x-delivery-limit", workQueues, readDeliveryLimit},
	{"x-message-deduplication", workQueues, func(v wire.Value, s *state.Settings) string { return boolean(v, &s.Deduplicate) }},
	{"x-message-groups", workQueues, func(v wire.Value, s *state.Settings) string { return boolean(v, &s.Groups) }},
	{"x-queue-master-locator", workQueues, nil},
	{"x-queue-leader-locator", allQueues, nil},
	{"x-quorum-initial-group-size", workQueues, nil},
	{"x-max-age", streamQueues, readMaxAge},
	{"x-stream-max-segment-size-bytes", streamQueues, checkNatural},
	{"x-initial-cluster-size", streamQueues, checkPositive},
}

// queueTypes are the types of queues that an argument is for.
type queueTypes uint8

const (
	workQueues queueTypes = 1 << iota
	streamQueues
	allQueues = workQueues | streamQueues
)

// supports reports whether a queue of these types may have an argument. Only those that
// are for other types are refused.
func (t queueTypes) supports(name string) bool {
	for i := range queueArguments {
		if queueArguments[i].name == name {
			return queueArguments[i].of&t != 0
		}
	}
	return true
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
	*into = min(n, most)
	return ""
}

// most is more than any queue can have: larger numbers mean the same.
const most = 1 << 60

// checkNatural checks an integer that has no effect here.
func checkNatural(v wire.Value, _ *state.Settings) string { return natural(v, new(int64)) }

// checkPositive is checkNatural for one that must not be 0.
func checkPositive(v wire.Value, s *state.Settings) string {
	if n, ok := v.Int(); ok && n == 0 {
		return "{value_zero,0}"
	}
	return checkNatural(v, s)
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

// boolean reads a boolean.
func boolean(v wire.Value, into *bool) string {
	set, ok := v.Bool()
	if !ok {
		return unacceptable(v)
	}
	*into = set
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

// readQueueType accepts classic and quorum, whose queues are all the same here, and stream.
func readQueueType(v wire.Value, s *state.Settings) string {
	text, _ := v.Bytes()
	s.Stream = string(text) == streamType
	return oneOf(v, fmt.Sprintf("\"unsupported queue type '%v'\"", v), "classic", "quorum", streamType)
}

func readDeliveryLimit(v wire.Value, s *state.Settings) string {
	var n int64
	if reason := natural(v, &n); reason != "" {
		return reason
	}
	s.DeliveryLimit = int(min(n, math.MaxInt32-1))
	return ""
}
