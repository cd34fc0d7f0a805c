// Package state is the state that the entries of a log make: topics, where their
// records lie, how far gateways and producers are, and which segments there are. The
// same entries make the same state in recovery, in normal operation and in a check. The
// package does no I/O and reads no clock. A State is not safe for concurrent use: its
// owner guards it.
//
// In the order in which data meets them:
//
//	entries.go, decoder.go    the bodies of entries (../FORMAT.md has the byte tables)
//	apply.go                  an entry changes the state
//	topics.go, opened.go      the catalogue, and what other shards have of it
//	partitions.go             runs at the end of a partition
//	pieces.go                 segments take the place of runs, and of older segments
//	marks.go                  how far the streams of gateways are
//	producers.go, aborted.go  idempotence and transactions
//	epochs.go                 from which offset on records have which leader epoch
//	identity.go               what the log says of the objects beside it
//	snapshot.go, restore.go   the state in a checkpoint
//	machines.go               the Machines that share the log, and their part of a checkpoint
//	recreate.go               what a repair makes of a log with holes
package state
