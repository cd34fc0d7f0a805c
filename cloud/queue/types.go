package queue

import (
	"github.com/weirmq/weir/cloud/queue/state"
)

// Info says what a queue is and what is in it.
type Info struct {
	Vhost, Name string
	ID          state.QueueID
	Settings    state.Settings

	Created   bool  // by the call that returned this
	Ready     int64 // messages that no consumer has
	Unsettled int64 // messages that consumers have
	Bytes     int64 // of the bodies of both
	Consumers int
	Counts    Counts
}

// Counts are how many messages went in and out since this node serves the queue, or about
// then: Published of a queue is what it got, and begins with the last checkpoint before.
type Counts struct {
	Published        int64
	Delivered, NoAck int64 // to consumers: those that acknowledge, and the others
	Got              int64 // one by one
	Redelivered      int64 // of the last three: those that had been delivered before
	Accepted         int64 // done: by an acknowledgement, or because none is needed
}

// Publication is a message on its way to an exchange.
type Publication struct {
	Exchange, Key string // Exchange "" is the default exchange
	Properties    []byte // as wire.Properties.Decode takes them; may be empty
	Body          []byte
	Topic         string // gets the message as well; "": none
	// Delayed: a positive x-delay among the headers counts in any exchange. Else it does so
	// only in one of type x-delayed-message, as with RabbitMQ.
	Delayed bool
}

// Verdict is what becomes of a leased message.
type Verdict uint8

// The verdicts.
const (
	Accept  Verdict = iota // it is done
	Release                // it goes back to its place, and counts as delivered once
	Return                 // it goes back to its place: the client has not seen it
	Reject                 // it is a dead letter, or done if the queue has no dead-letter exchange
)

// Settlement is the verdict on leased messages of one queue. Those that are not leased
// are left out.
type Settlement struct {
	Queue   state.QueueID
	IDs     []int64
	Verdict Verdict
}

// Work is what a client asks for at once.
type Work struct {
	Publications []Publication
	Settlements  []Settlement
	Positions    []Position // of durable readers, After ascending
	// Atomic: if one of the publications is refused by an exchange, nothing is done.
	Atomic bool
}

// Position is how far a durable reader has read a partition, which may be in another
// shard. What it read from there is published once: the position becomes durable in one
// slot with those of the first After publications of the Work that were not durable yet.
type Position struct {
	Reader         string
	state.Position     // Offset is the one that it reads next; -1 forgets the partition
	After          int // publications of the Work that come before
}

// Delivery is a message that was leased.
type Delivery struct {
	Queue         state.QueueID
	ID            int64
	Count         int // deliveries before this one, as far as is known
	Exchange, Key string
	Properties    []byte // as wire.Properties.Decode takes them; shared: not to be changed
	Body          []byte // shared: not to be changed
	Time          int64  // when it was published: milliseconds since 1970
}

// size returns how many bytes the message has.
func (d *Delivery) size() int {
	return len(d.Exchange) + len(d.Key) + len(d.Properties) + len(d.Body)
}

// Redelivered reports whether the message may have been delivered before.
func (d *Delivery) Redelivered() bool { return d.Count > 0 }
