// Package state is the durable part of share groups (KIP-932): for each partition that
// a group shares, which records are done and how often the others were delivered. It
// is a state machine on the log of the shard that has the partition. It does no I/O,
// reads no clock and has no lock: its owner has one.
//
// A record is available, acquired by a member, or done: accepted, rejected, delivered
// too often, or not there at all. That a record is acquired is not durable. The state
// has the number of deliveries that ended otherwise, and the offset up to which records
// may have been delivered: a new owner counts one delivery more for those that are not
// done (Opened), because an earlier owner may have made it.
//
// Records are counted in runs of neighbours that are alike, and records that were never
// delivered are in no run. So a partition takes room for what is being delivered, not
// for what waits.
package state
