// Package commitlog is the log of one shard: topics and their partitions as a
// state machine over a journal.
//
// What happens when you call Append:
//
//  1. append.go: the batch is verified in the caller's goroutine, header, CRC
//     and records, and stands in line (committer.go).
//  2. committer.go: while slots fly, requests collect. The committer takes them
//     as the next slot when one lands, or when 256 KiB have collected. Where each
//     request to the bucket costs money they collect for the linger, or until the
//     slot is full.
//  3. append.go: admission, one request after the other.
//     It looks at the speculation (speculation.go): the durable state and what
//     the slots in flight will make of it. A batch gets its offset here, or is
//     found to be a duplicate, or is refused. Every answer, a refusal too,
//     waits in the slot until everything that it rests on is durable.
//  4. slot.go: small neighbours of one partition are merged, base offset and
//     leader epoch are set, each partition's batches become one entry of the
//     slot (FORMAT.md), and the journal writes it.
//  5. applier.go, state: the slot is durable. Its entries change the durable
//     state, by the same code as in recovery; the run goes into the tail cache
//     (tail.go), watchers are woken, and only then done is called.
//
// Large runs stay in their slots, which then serve as segments. Small ones do not: in a
// pass, the upkeep rewrites them into segments, deletes what retention no longer keeps,
// and makes a checkpoint. Compaction runs after a pass, and so does what drops the
// messages that no work queue needs; both let other passes run meanwhile. Data that is
// not yet rewritten behind a checkpoint is the debt. When the debt exceeds a limit, writers are slowed down to the
// speed of the upkeep, so that the time that the next owner needs to recover stays
// bounded.
//
// There are two views of the state. The durable one is changed by apply alone; all
// reads and all answers come from it. The speculative one is a set of differences from
// it, each dropped with its slot; only admission sees it. When the node loses the
// shard, the speculation is thrown away and all waiting calls return ErrFenced.
//
// A proposal (proposals.go) is batches and entries of Machines in one slot: all of them
// become durable, or none. Its entries may name the offsets that its batches get.
//
// Transactions (proposals.go) are batches and markers in the same runs: their end, the
// coordinator's entry and the marker of every partition, is one slot. FetchCommitted
// stops at the last stable offset, and lists the aborted transactions.
//
// Before it leads, an owner proves that all objects that the log refers to exist, and
// that the objects beside the log are those that the log names (verify.go). Package
// check proves the same, and all rules, from the bytes at rest. Repair makes a log
// usable again without what is missing.
//
// What the log is made of:
//
//   - state: what the entries say. It does no I/O.
//   - identity: the object cluster, the format level, and the objects beside the log.
//   - check: the proof. It depends on state alone.
//   - upkeep: what keeps the log small. It sees the log as a Host (maintain.go).
//   - the log itself: append.go, line.go, committer.go, slot.go, applier.go, fetch.go.
//
// A cluster with several shards has one Log for each. That of shard 0 has the catalogue
// (catalogue.go); the others open the topics whose records they have (opened.go). Nodes
// that do not own shard 0 have a Mirror of the catalogue (mirror.go), which is told what
// changes from the owner's log (feed.go).
package commitlog
