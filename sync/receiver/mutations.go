//go:build !weirtest

package receiver

// Mutations break single rules of the protocol. They exist only in a build with the tag
// weirtest, see mutations_weirtest.go; here the compiler drops their code. They are
// read through functions, because names of methods would stay in the binary.
type Mutations struct{}

func ackEarly(Mutations) bool   { return false }
func keepOlder(Mutations) bool  { return false }
func markAtOnce(Mutations) bool { return false }
func inTurn(Mutations) bool     { return false }
func keepWhole(Mutations) bool  { return false }
