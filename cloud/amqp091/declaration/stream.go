package declaration

import (
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// streamType is the value of x-queue-type for stream queues.
const streamType = "stream"

// kind returns the value of x-queue-type, "" if there is none.
func (q *Queue) kind() string {
	text, _ := q.Arguments.Lookup("x-queue-type").Bytes()
	return string(text)
}

func (q *Queue) types() queueTypes {
	if q.kind() == streamType {
		return streamQueues
	}
	return workQueues
}

// module returns what RabbitMQ calls the type of the queue in its texts.
func (q *Queue) module() string { return module(q.kind()) }

// ModuleOf is what RabbitMQ calls the type of a queue that is there.
func ModuleOf(info *queue.Info) (string, error) {
	arguments, failed := wire.ParseTable(info.Settings.Arguments)
	if failed != nil {
		return "", failed
	}
	kind, _ := arguments.Lookup("x-queue-type").Bytes()
	return module(string(kind)), nil
}

func module(kind string) string {
	switch kind {
	case streamType:
		return "rabbit_stream_queue"
	case "quorum":
		return "rabbit_quorum_queue"
	}
	return "rabbit_classic_queue"
}

// Unnamed returns an error if a queue of that type must have a name of the client's.
// Errors: *wire.Error.
func (q *Queue) Unnamed() error {
	if q.kind() != streamType {
		return nil
	}
	return refused(wire.PreconditionFailed, "Cannot declare a server-named queue for type %s", q.module())
}

// GivingTopic returns what a client must be allowed to do to a topic to declare a stream
// queue of its name: that gives it to the vhost, whose permissions count for it from then
// on. Consumers need auth.Read as well.
func GivingTopic(there bool) []auth.Operation {
	if there {
		return []auth.Operation{auth.Read, auth.Write}
	}
	return []auth.Operation{auth.Read, auth.Write, auth.Create}
}

// checkStream checks the properties of a stream queue.
func (q *Queue) checkStream() error {
	property := ""
	switch {
	case q.AutoDelete:
		property = "auto-delete"
	case q.Owner != "":
		property = "exclusive-owner"
	case !q.Durable:
		property = "non-durable"
	default:
		return nil
	}
	return refused(wire.PreconditionFailed, "invalid property '%s' for %s", property, AQueue.In(q.Vhost, q.Name))
}

// readMaxAge reads how long records stay in the topic of a stream queue.
func readMaxAge(v wire.Value, s *state.Settings) string {
	text, ok := v.Bytes()
	if !ok || v.Kind() != wire.KindString {
		return unacceptable(v)
	}
	age, ok := parseAge(string(text))
	if !ok {
		return "invalid_max_age"
	}
	s.TTL = min(age, longest)
	return ""
}

// longest is longer than records can be there: 100 years.
const longest = 100 * 365 * 24 * time.Hour

// units are those of an age, as RabbitMQ counts them.
func unitOf(letter string) time.Duration {
	const day = 24 * time.Hour
	switch letter {
	case "Y":
		return 365 * day
	case "M":
		return 30 * day
	case "D":
		return day
	case "h":
		return time.Hour
	case "m":
		return time.Minute
	case "s":
		return time.Second
	}
	return 0
}

// parseAge reads an age such as 7D.
func parseAge(text string) (time.Duration, bool) {
	letter := strings.TrimLeft(text, "0123456789")
	n, err := strconv.ParseInt(strings.TrimSuffix(text, letter), 10, 64)
	unit := unitOf(letter)
	if err != nil || n <= 0 || unit == 0 {
		return 0, false
	}
	if n > int64(math.MaxInt64/unit) {
		return math.MaxInt64 / time.Millisecond * time.Millisecond, true
	}
	return time.Duration(n) * unit, true
}

// StreamOffset reads the argument x-stream-offset of a consumer. It returns what is wrong
// with it in RabbitMQ's words, "" if nothing is.
func StreamOffset(v wire.Value, now time.Time) (queue.Offset, string) {
	if !v.Exists() {
		return queue.Offset{From: queue.FromNext}, ""
	}
	if seconds, ok := v.Timestamp(); ok {
		return queue.Offset{From: queue.FromTime, At: int64(min(seconds, math.MaxInt64/1000)) * 1000}, ""
	}
	if n, ok := v.Int(); ok {
		return queue.Offset{From: queue.FromOffset, At: n}, ""
	}
	text, ok := v.Bytes()
	if !ok {
		return queue.Offset{}, unacceptable(v)
	}
	switch string(text) {
	case "first":
		return queue.Offset{From: queue.FromFirst}, ""
	case "last":
		return queue.Offset{From: queue.FromLast}, ""
	case "next":
		return queue.Offset{From: queue.FromNext}, ""
	}
	age, ok := parseAge(string(text))
	if !ok {
		return queue.Offset{}, "invalid_max_age"
	}
	return queue.Offset{From: queue.FromTime, At: now.Add(-age).UnixMilli()}, ""
}
