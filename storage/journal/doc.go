// Package journal is a fenced, single-writer sequence of slots on a bucket.
//
// A node becomes the writer of a shard by creating the next claim
// (`<shard>/epoch/<E>`). It then walks every epoch before its own from the newest
// checkpoint on (`<shard>/checkpoint/<E>-<slot>`), applies what lies there and puts
// a SEAL into the first free slot of each, so that no earlier writer can add an
// acknowledged slot any more. Once the header of its own epoch
// (`<shard>/log/<E>/0`) is durable it is the owner and writes slots 1, 2, … of
// that epoch. The log is the epochs in order, each up to its SEAL. From time to
// time the owner stores its state as a checkpoint and deletes slots before it, when
// a tombstone (`<shard>/tombstone/<E>-<slot>`) tells readers, which have no claim.
//
// A slot may be kept instead (Truncate), because the state refers to it and reads it
// again (ReadSlot), and deleted later (Remove). That is for a log that writes once: a
// slot that is large enough stays as it is, and what lies in it need not be written to
// another place. A kept slot is no part of anybody's recovery.
//
// An owner that ends in good order leaves a closing (`<shard>/closed/<E>-<slot>`). With
// it, the tombstones and what lies behind a hole, a walk tells what is missing from what
// was never there (absence.go): if something is missing, no node leads.
//
// Safety rests on three things only: of several Creates of one name exactly one
// succeeds, one that has returned nil has no copy under way, and Get and List see
// every Create that returned before they began. No clock, no lease and no heartbeat
// is part of the argument. What each rule is for stands beside the code that obeys
// it; FORMAT.md beside this file gives the bytes and the rules in full.
//
// The way of an entry: Write takes the next slot and starts its Create
// (write.go) → create again with the same bytes until the outcome is known
// (store.go) → the slots become durable in any order, and acknowledge hands them to
// State.Apply in slot order (write.go). That call is the acknowledgement. The way back:
// Open claims (claim.go), loads the checkpoint, walks and seals (recover.go,
// walk.go) and calls the same State.Apply. Checkpoint (checkpoint.go) and Truncate
// (truncate.go) keep that way short; what a header and a checkpoint know of the
// log before them is in way.go.
package journal
