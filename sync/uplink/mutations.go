//go:build !weirtest

package uplink

// Mutations break single rules of the package. They exist only in a build with the tag
// weirtest, see mutations_weirtest.go; here the compiler drops their code. They are
// read through functions, because names of methods would stay in the binary.
type Mutations struct{}

func keepOlder(Mutations) bool  { return false }
func earlyMarks(Mutations) bool { return false }
func anyOrder(Mutations) bool   { return false }
func notTold(Mutations) bool    { return false }
func oneRetired(Mutations) bool { return false }
func firstMarks(Mutations) bool { return false }
func anyRound(Mutations) bool   { return false }
func noShares(Mutations) bool   { return false }
