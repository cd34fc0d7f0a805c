// Package upkeep keeps a log small: it rewrites what lies in slots into segments, lets go
// what retention gives up, compacts, makes checkpoints, and deletes what nobody needs any
// more. Of the log it knows what a Host has.
//
//	upkeep.go                   the driver: when a pass is due, and what it takes
//	tasks.go                    what is to do, in an order in which a crash does no harm
//	rewrite.go                  runs in slots become pieces in segments
//	retention.go                whole pieces go; so do segments that nobody refers to
//	compact.go, transactions.go the last record of each key stays
//	pace.go                     writers are slowed down when too much is waiting
//	giveup.go                   a repair passes over what cannot be read
package upkeep
