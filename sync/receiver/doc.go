// Package receiver is the cloud's end of the sync protocol: it accepts
// gateways, hands what they send to the log and tells them what is durable.
//
// # What happens when an Append arrives
//
// The lane's reader reads the frame's header and waits for room in the budget of its
// own session. It reads the beginning of the body, takes memory for the frame from what
// all gateways share (see MemoryOptions), and reads the rest. So a frame that is announced and
// not sent takes nothing from others. The reader hands the batch to the log, in the
// order of the stream, and gives the memory back when the log has answered. The outcome
// goes to the lane's outbox; the lane's writer turns outcomes into cumulative Acks and
// gives the session's room back. A gateway that sends faster than the log writes is
// held back by its stream's flow control, and a gateway that does not read its Acks
// stops itself. A session whose frame makes no progress is closed.
//
// Nothing here decides what is a duplicate: the log does, against its marks. Nor does
// anything here know which log that is: package uplink does.
package receiver
