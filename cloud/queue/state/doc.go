// Package state is what the work queues of a shard durably are: its vhosts, their
// exchanges and bindings, and which messages wait in which queue. The engine of the work
// queues owns a State, changes it only by entries of its shard's log, and reads it to say
// what the next entry is.
//
// A State is pure: no I/O, no clock, no goroutine, no lock. The same entries in the same
// order make the same state and the same bytes of Snapshot. FORMAT.md has the bytes.
//
// A message is its offset in the log of its vhost: a queue is a set of offsets, one per
// priority, kept as Roaring bitmaps. What waits in a row takes next to no memory.
package state
