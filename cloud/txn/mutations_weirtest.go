//go:build weirtest

package txn

// Mutations break single rules of transactions that span shards, so that a model test can
// show that it notices. They exist only in a build with the tag weirtest.
type Mutations struct {
	NoNumber  bool // a shard ends whatever is open, whichever transaction it is told of
	NoVerify  bool // a shard does not ask the coordinator before it takes a batch
	NoRecheck bool // a shard takes a batch although the transaction of its answer has ended
	MarkEarly bool // shards are told of a decision before it is durable
	NextEarly bool // the next transaction begins before all shards have answered
}

func noNumber(m Mutations) bool  { return m.NoNumber }
func noVerify(m Mutations) bool  { return m.NoVerify }
func noRecheck(m Mutations) bool { return m.NoRecheck }
func markEarly(m Mutations) bool { return m.MarkEarly }
func nextEarly(m Mutations) bool { return m.NextEarly }
