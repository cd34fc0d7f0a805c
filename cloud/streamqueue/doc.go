// Package streamqueue joins the stream queues of AMQP to topics: a stream queue reads the
// topic of its name from any offset on, without a copy of its own.
//
// Readers see committed records only. A record becomes a message as package properties
// says; its offset is in the header x-stream-offset.
package streamqueue
