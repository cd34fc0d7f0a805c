// Package journal is a fenced, single-writer sequence of slots on a bucket.
//
// A node becomes the writer of a shard by creating the next claim
// (`<shard>/epoch/<E>`). It then walks every epoch before its own, starting at the
// newest checkpoint (`<shard>/checkpoint/<E>-<slot>`). It applies the slots that it
// finds and puts a SEAL into the first free slot of each epoch, so that no earlier
// writer can add an acknowledged slot any more. When the header of its own epoch
// (`<shard>/log/<E>/0`) is durable, it is the owner and writes slots 1, 2, … of that
// epoch. The log is the epochs in order, each up to its SEAL. From time to time the
// owner stores its state as a checkpoint and deletes slots before it. A tombstone
// (`<shard>/tombstone/<E>-<slot>`) then warns readers, which have no claim.
//
// Truncate can keep a slot because the state refers to it and reads it again; Remove
// deletes it later. That is for a log that writes data once: a large
// slot stays where it is, and its content need not be copied elsewhere. A kept slot is
// not part of any recovery.
//
// An owner that ends in good order leaves a closing (`<shard>/closed/<E>-<slot>`). With
// closings, tombstones and the slots behind a hole, a walk distinguishes what is
// missing from what never existed (absence.go). If something is missing, no node leads.
//
// A candidate reads the log along before it claims (candidate.go). So an owner can hand
// over: it expects the claim of the candidate, goes on under it, and ends its epoch with a
// SEAL of its own (handover.go).
//
// Safety depends on three things only: of several Creates of one name exactly one
// succeeds; a Create that has returned nil has no attempt under way; Get and List see
// every Create that returned before they began. No clock, lease or heartbeat is needed.
// The purpose of each rule is explained beside the code that follows it; FORMAT.md has
// the bytes and all rules.
//
// How an entry is written: Write takes the next slot and starts its Create (write.go),
// which is repeated with the same bytes until the outcome is known (store.go). The
// slots become durable in any order, and acknowledge passes them to State.Apply in slot
// order (write.go). That call is the acknowledgement. How it is read: Open makes a
// candidate (candidate.go) that claims (claim.go), loads the checkpoint, walks and seals
// (recover.go, walk.go), and calls the same State.Apply. Checkpoint (checkpoint.go) and Truncate (truncate.go) keep the
// walk short; way.go has what a header and a checkpoint know of the log before them.
package journal
