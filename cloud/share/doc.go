// Package share delivers the records of partitions to share groups (KIP-932), whose
// members read the same partitions and acknowledge each record by itself. It serves the
// partitions of one shard; package group has the members.
//
// What is durable is in package state: which records are done, and how often the others
// were delivered. In memory are the leases: which member has acquired which records,
// and until when.
//
//	available ──Acquire──▶ acquired ──Acknowledge: Accept, Reject, Gap──▶ done
//	    ▲                      │
//	    └── Release, time is up, the member has gone: unless it was the last delivery
//
// An acknowledgement is answered when it is durable; until then its records stay leased,
// and so do records whose lease ends in another way. So the durable number of deliveries
// is never more than one behind the true one. Records are delivered only when it is
// durable that they may be (Partition.Lent). A new owner begins with one entry for each
// partition that counts this delivery for all of them: it may have been made. It may
// also not have been, so a record can have a higher count than it had deliveries, but it
// is never done for that alone.
//
// A group may have a topic for dead letters: what is rejected or was delivered too often is
// copied there, in the slot of the entry that says that it is done (KIP-1191). The topic has
// to be in the same shard.
//
// One mutex in Manager guards all of it. Operations under it are short and do no I/O.
package share
