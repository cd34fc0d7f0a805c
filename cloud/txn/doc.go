// Package txn is the transaction coordinator: producer ids that belong to a
// transactional id, the parts of a transaction, and how it ends (KIP-98, KIP-360,
// KIP-890).
//
// It is simpler than Kafka's because the coordinator, the groups and all partitions
// share one log. The end of a transaction is one slot: the coordinator's entry, the
// groups' offsets and a marker in each partition become durable together or not at
// all. So a crash leaves no prepared state, and no marker has to be sent to another
// node.
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
// groups are called. The one goroutine is that of the time-outs (expire.go).
package txn
