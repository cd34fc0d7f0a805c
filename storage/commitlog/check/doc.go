// Package check proves the rules of a log from the bytes at rest. It depends on package
// state, not on the code that writes the log.
//
//	check.go         Check replays the log of each shard, and looks into every batch
//	placement.go     every record is where the log says, in a segment or in a slot
//	transactions.go  what the log says of transactions and leader epochs is in the batches
//	absence.go       what an owner proves before it leads: all that the log refers to is there
package check
