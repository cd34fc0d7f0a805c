// Package txn is the transaction coordinator: producer ids that belong to a
// transactional id, what a transaction has touched, and how it ends (KIP-98,
// KIP-360, KIP-890).
//
// What makes it simpler than its model is that the coordinator, the groups and
// all partitions share one log. The end of a transaction is one slot: the
// coordinator's entry, the groups' offsets and a marker in each partition become
// durable together or not at all. So there is no prepared state that a crash
// leaves behind, and no marker on its way to somebody else.
//
//	       InitProducerID                add partition, group or offsets
//	(none) ──────────────▶ Empty ─────────────────────────────────────▶ Ongoing
//	                         ▲                  ▲                          │
//	                         │ InitProducerID   │ add                      │ End, or the time is over
//	                         └──────────── CompleteCommit, CompleteAbort ◀─┘
//
// Two things are kept for each transactional id. The durable part is made by
// Apply alone, from entries of the log, in recovery and in running alike. The
// rest says what is on its way to the log, and dies with the ownership.
//
// Nothing lands behind a marker. Whatever adds to a transaction is counted from
// the decision that it may until it has landed; a change that ends the
// transaction lets nothing new in (ErrConcurrent), waits until the count is
// zero, and only then goes to the log. And nothing lands in a partition before
// the entry that says so: an entry and the batch behind it are handed to the log
// by one goroutine, and the log keeps that order.
//
// One mutex in Coordinator owns all of it. It is never held while the log or the
// groups are called. The one goroutine is that of the time-outs (expire.go).
package txn
