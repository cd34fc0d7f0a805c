// Package receiver is the cloud's end of the sync protocol: it accepts
// gateways, hands what they send to the log and tells them what is durable.
//
// # What happens when an Append arrives
//
// The lane's reader reads the frame's header, waits for room in the
// connection's and the node's budget, and only then reads the body. It hands
// the batch to the log, in the order of the stream. When the log says that it
// is durable, the outcome is noted in the lane's outbox; the lane's writer turns
// what it finds there into cumulative Acks and gives the room back. So a
// gateway that sends faster than the log writes is held back by its stream's
// flow control, and one that does not read its Acks stops itself.
//
// Nothing here decides what is a duplicate: the log does, against its marks.
package receiver
