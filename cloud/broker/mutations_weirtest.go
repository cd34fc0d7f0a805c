//go:build weirtest

package broker

// Mutations break single rules of owners, and of records that other nodes lead, so that a test can show that
// it notices. They exist only in a build with the tag weirtest.
type Mutations struct {
	NoProducer     bool // batches for other nodes have no producer and no sequence
	NoWhole        bool // who begins to follow a shard is not told what is there already
	NoRestart      bool // after a batch that may be durable was refused, its sequence is used again
	NeverSure      bool // requests do not wait until the bucket has confirmed what the node owns
	RefusesUnasked bool // a refusal counts without a question to the bucket

	NoStuck bool // batches that are durable behind one that is sent again count as such
}

func neverSure(m Mutations) bool      { return m.NeverSure }
func refusesUnasked(m Mutations) bool { return m.RefusesUnasked }
func noProducer(m Mutations) bool     { return m.NoProducer }
func noWhole(m Mutations) bool        { return m.NoWhole }
func noRestart(m Mutations) bool      { return m.NoRestart }
func noStuck(m Mutations) bool        { return m.NoStuck }
