//go:build weirtest

package uplink

// Mutations break single rules of the package, so that a model test can show that it
// notices. They are there in a build with the tag weirtest only.
type Mutations struct {
	KeepOlder  bool // an owner hears older sessions beside the newest
	EarlyMarks bool // marks are told while the log has batches of earlier sessions
	AnyOrder   bool // an older session attaches after a newer one
	NotTold    bool // batches that were not answered when a shard moved are forgotten
	OneRetired bool // a buffer is retired when the shard of its gateway says so
	FirstMarks bool // a session begins when one shard has told its marks
	AnyRound   bool // batches of a round that a move has refused in part are handed over
	NoShares   bool // a shard that does not answer may have all that a session has room for
}

func keepOlder(m Mutations) bool  { return m.KeepOlder }
func earlyMarks(m Mutations) bool { return m.EarlyMarks }
func anyOrder(m Mutations) bool   { return m.AnyOrder }
func notTold(m Mutations) bool    { return m.NotTold }
func oneRetired(m Mutations) bool { return m.OneRetired }
func firstMarks(m Mutations) bool { return m.FirstMarks }
func anyRound(m Mutations) bool   { return m.AnyRound }
func noShares(m Mutations) bool   { return m.NoShares }
