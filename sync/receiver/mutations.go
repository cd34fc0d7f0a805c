//go:build !weirtest

package receiver

// Mutations break single rules of the protocol, which only a build with the tag weirtest
// can do: see mutations_weirtest.go. Here the compiler leaves out what they would do.
// They are asked for by functions, since the names of methods would stay in the binary.
type Mutations struct{}

func ackEarly(Mutations) bool   { return false }
func keepOlder(Mutations) bool  { return false }
func markAtOnce(Mutations) bool { return false }
