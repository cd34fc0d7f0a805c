// Package sender is the gateway's end of the sync protocol: it drains the local
// buffers into the cloud.
//
// # What happens to a record
//
// Each lane has a goroutine, a stream of its own and, for the buffer that it drains, a
// delivery. The lane reads records that are durable on this machine, finds their
// partition in the buffer's map table, and puts them into the delivery. The delivery
// decides what may be sent: for each partition a batch of what has collected, chained
// to the one before by its last sequence. The lane packs it into a RecordBatch and
// writes it to its stream. A reader puts Acks and refusals into the delivery as they
// arrive. Everything below the smallest record that is not settled is trimmed from the
// buffer. A buffer that is settled completely is retired in the cloud and then deleted.
//
// # What is believed
//
// Nothing about the cloud survives a session: each one starts from the marks
// that the cloud sends, and what was sent and not acked before is sent again
// where the marks say so. PROTOCOL.md, one directory up, has the rules, and
// what each of them prevents.
package sender
