//go:build !weirtest

package broker

// Mutations break single rules of owners, and of records that other nodes lead, which only a
// build with the tag weirtest can do: see mutations_weirtest.go.
type Mutations struct{}

func neverSure(Mutations) bool      { return false }
func refusesUnasked(Mutations) bool { return false }
func noProducer(Mutations) bool     { return false }
func noWhole(Mutations) bool        { return false }
func noRestart(Mutations) bool      { return false }
func noStuck(Mutations) bool        { return false }
