// Package group is the consumer group coordinator: membership, rebalances and
// committed offsets of the classic Kafka group protocol (KIP-62, KIP-345 static
// members, KIP-394 member ids first) and of the newer one (KIP-848; the files
// consumer_*.go). All members of a group are of one type; an empty group takes the
// type of its next member. Mixed groups, as in Kafka's online migration, are refused:
// after a takeover the new owner would not know the members.
//
// Two kinds of state live here, and they differ on purpose:
//
//   - Committed offsets are durable. They are entries of the commit log
//     (Coordinator is one of its Machines): Commit returns only after its entry
//     was applied, that is, after its slot is in the bucket. A new owner replays
//     them.
//   - Membership is memory. After a takeover every member is unknown to the new
//     owner, is told so at its next heartbeat, and joins again. Nothing durable
//     can be wrong because of it.
//
// The records of Kafka's topic __consumer_offsets are made from both when a client
// reads them; history.go says how they get their offsets.
//
// The protocol type ("consumer", "connect", "sr") and the bytes of metadata and
// assignments are opaque: the coordinator does not interpret them.
//
// A classic group's rebalance goes through the states below; the functions in
// rebalance.go are in that order.
//
//	Empty ──Join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader's Sync──▶ Stable
//	                     ▲                                                                                      │
//	                     └──────────────── a member joins, leaves, changes or goes silent ──────────────────────┘
//
// A consumer group has no rebalance for which all members wait. Every change (a
// member, a subscription, a topic) begins an epoch with a new target, computed at
// once. Each member moves to its target by itself, from heartbeat to heartbeat
// (reconcile):
//
//	has what it is not to have ──says that it gave it up──▶ waits for what others have ──they gave it up──▶ stable
//
// The epochs of a group that is made again begin anew. That is harmless: an epoch
// counts only together with a member, and the member has joined since (with epoch 0).
// A heartbeat uses a view of the topics that is at most a second old; without
// heartbeats there is no work.
//
// One mutex in Coordinator guards all of it. Every operation under it is short and
// does no I/O. Requests that must wait (Join, Sync) wait on a channel without it, and
// Propose is never called with it held.
package group
