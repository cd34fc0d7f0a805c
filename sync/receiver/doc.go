// Package receiver is the cloud's end of the sync protocol: it accepts
// gateways, hands what they send to the log and tells them what is durable.
//
// # What happens when an Append arrives
//
// The lane's reader reads the frame's header and waits for room in the budget of
// its own session. It reads the beginning of the body, pays for the frame out of
// the memory that all gateways share (see Guard), and reads the rest: what was
// announced and is not sent takes nothing from others. It hands the batch to the log, in the order of the stream, and
// gives the memory back when the log has answered. The outcome is noted in the
// lane's outbox; the lane's writer turns what it finds there into cumulative
// Acks and gives the session's room back. So a gateway that sends faster than
// the log writes is held back by its stream's flow control, and one that does
// not read its Acks stops itself. One whose frame does not go on is closed.
//
// Nothing here decides what is a duplicate: the log does, against its marks.
package receiver
