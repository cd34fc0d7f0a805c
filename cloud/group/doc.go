// Package group is the consumer group coordinator: membership, rebalances and
// committed offsets of the classic Kafka group protocol (KIP-62, KIP-345 static
// members, KIP-394 member ids first) and of the newer one (KIP-848; the files
// consumer_*.go). A group is of one type; an empty one becomes what its next member
// is. Members of both types in one group, as in Kafka's online migration, are
// refused: after a takeover nobody would know who was there.
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
// What Kafka writes into its topic __consumer_offsets is made of both when somebody
// reads it; history.go has how it gets its offsets.
//
// The protocol type ("consumer", "connect", "sr") and the bytes of metadata and
// assignments are opaque: the coordinator carries them, and never looks inside.
//
// A classic group's rebalance walks through the states below; the functions stand in
// that order in rebalance.go.
//
//	Empty ──Join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader's Sync──▶ Stable
//	                     ▲                                                                                      │
//	                     └──────────────── a member joins, leaves, changes or goes silent ──────────────────────┘
//
// A consumer group has no rebalance that all wait for. Every change (a member, a
// subscription, a topic) begins an epoch with a target, computed at once; each
// member goes there by itself, from heartbeat to heartbeat (reconcile):
//
//	has what it is not to have ──says that it gave it up──▶ waits for what others have ──they gave it up──▶ stable
//
// Its epochs begin anew with the group, which is harmless: an epoch counts only
// together with a member, which has joined (with epoch 0) since. What a heartbeat
// has to look at is at most a second old; nothing looks while nobody speaks.
//
// One mutex in Coordinator owns all of it. Every operation under it is short and
// does no I/O; requests that must wait (Join, Sync) wait on a channel outside of
// it, and Propose is never called with it held.
package group
