// Package upkeep keeps a log small: it rewrites slots into segments, drops what
// retention no longer keeps, compacts, makes checkpoints, and deletes objects that are
// no longer needed. It sees the log as a Host.
//
//	upkeep.go                   the driver: when a pass is due, and what it takes
//	tasks.go                    the tasks, in an order in which a crash does no harm
//	rewrite.go                  runs in slots become pieces in segments
//	runs.go                     the bytes of runs, from memory or from slots
//	adopt.go                    large runs stay in their slots, which become segments
//	retention.go                old pieces are dropped, and segments without a reference deleted
//	compact.go, transactions.go the last record of each key stays
//	needed.go                   records that are not needed are dropped
//	join.go                     small neighbours become one piece; sparse slots are copied
//	scan.go                     the batches of a piece, for all of these
//	pace.go                     writers are slowed down when too much is waiting
//	giveup.go                   a repair passes over what cannot be read
package upkeep
