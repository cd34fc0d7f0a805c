//go:build weirtest

package queue

// Mutations break single rules of the engine, so that a model test can show that it
// notices. They exist only in a build with the tag weirtest.
type Mutations struct {
	NoLend     bool // hand messages out though the log does not know that they may be delivered
	NoEpoch    bool // a new owner does not count what the one before may have delivered
	EarlyEnd   bool // a lease ends when the verdict comes, not when the entry is applied
	SplitDeath bool // publish in one slot, and end the former life of a dead letter, or write how far a reader has read, in another
	HighFloor  bool // let the log delete messages that a queue needs
	AckFlying  bool // confirm a publication before its slot is durable
	NoFilter   bool // the log does not know by what messages are duplicates
	EarlySeen  bool // a duplicate is left out though its original is still on its way

	seen map[string]bool // of EarlySeen
}

// begun returns the mutations of a new engine.
func (m Mutations) begun() Mutations {
	m.seen = make(map[string]bool)
	return m
}

func noFilter(m Mutations) bool { return m.NoFilter }

func earlySeen(m Mutations, what string) bool {
	before := m.seen[what]
	m.seen[what] = true
	return before && m.EarlySeen
}

func noLend(m Mutations) bool     { return m.NoLend }
func noEpoch(m Mutations) bool    { return m.NoEpoch }
func earlyEnd(m Mutations) bool   { return m.EarlyEnd }
func splitDeath(m Mutations) bool { return m.SplitDeath }
func highFloor(m Mutations) bool  { return m.HighFloor }
func ackFlying(m Mutations) bool  { return m.AckFlying }
