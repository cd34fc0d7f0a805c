// Package txn is the transaction coordinator: producer ids that belong to a
// transactional id, the parts of a transaction, and how it ends (KIP-98, KIP-360,
// KIP-890).
//
// It is simpler than Kafka's as long as the coordinator, the groups and all partitions
// of a transaction share one log. The end of such a transaction is one slot: the
// coordinator's entry, the groups' offsets and a marker in each partition become durable
// together or not at all. So a crash leaves no prepared state, and no marker has to be
// sent to another node.
//
//	       InitProducerID                add partition, group or offsets
//	(none) ──────────────▶ Empty ─────────────────────────────────────▶ Ongoing
//	                         ▲                  ▲                          │
//	                         │ InitProducerID   │ add                      │ End, or the time is over
//	                         └──────────── CompleteCommit, CompleteAbort ◀─┘
//
// Two things are kept for each transactional id. The durable part is changed only by
// Apply, from entries of the log, both in recovery and in normal operation. The rest
// says what is on its way to the log, and ends with the ownership.
//
// No data of a transaction is written behind its marker. Whatever adds to a transaction
// is counted from the decision to allow it until its outcome is known. A change that
// ends the transaction admits nothing new (ErrConcurrent), waits until the count is
// zero, and only then goes to the log. And nothing is written to a partition before the
// entry that adds it: one goroutine passes the entry and the batch behind it to the log,
// and the log keeps that order.
//
// One mutex in Coordinator guards all of it. It is never held while the log or the
// groups are called. The goroutines are that of the time-outs (expire.go), and those that
// tell other shards.
//
// A transaction spans shards if a partition or a group of it lies in another shard than
// its transactional id. Then the Participant of that shard has part in it, and the end
// takes three steps:
//
//  1. Number. The first part in another shard gives the transaction a number, the next one
//     of its transactional id. It is durable with that part.
//  2. Verify. Before a participant admits anything, it asks the coordinator (Verify), which
//     makes sure that the part is durable and answers with the number.
//  3. Recheck. At admission, a number that has ended, or is about to, is refused. The
//     answer may be older than the end.
//  4. Decide. When nothing is in flight, the decision becomes durable in one slot, with what
//     ends in the coordinator's own shard. From now on the state is PrepareCommit or
//     PrepareAbort.
//  5. Tell. Each other shard is told until it has answered, by each later owner too. It
//     ends the transaction in one slot of its own, unless that number has ended there.
//  6. Complete. When all have answered, an entry says so, and End returns. Only then may
//     the next transaction begin.
//
// Without the number, a repeated end would end the next transaction. Without the questions,
// or without the recheck, a late batch would be open for ever. Without the decision, a
// crash between two shards would commit in one and abort in the other. And without the
// last step, the parts of two transactions would mix.
package txn
