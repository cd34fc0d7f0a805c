// Package group is the consumer group coordinator: membership, rebalances and
// committed offsets of the classic Kafka group protocol (KIP-62, KIP-345 static
// members, KIP-394 member ids first).
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
// The protocol type ("consumer", "connect", "sr") and the bytes of metadata and
// assignments are opaque: the coordinator carries them, and never looks inside.
//
// A group's rebalance walks through the states below; the functions stand in
// that order in rebalance.go.
//
//	Empty ──Join──▶ PreparingRebalance ──all joined, or time is up──▶ CompletingRebalance ──leader's Sync──▶ Stable
//	                     ▲                                                                                      │
//	                     └──────────────── a member joins, leaves, changes or goes silent ──────────────────────┘
//
// One mutex in Coordinator owns all of it. Every operation under it is short and
// does no I/O; requests that must wait (Join, Sync) wait on a channel outside of
// it, and Propose is never called with it held.
package group
