//go:build !weirtest

package commitlog

// stateMutations break single rules of the state, which only a build with the tag weirtest
// can do: see mutations_weirtest.go. Here the compiler leaves out what they would do. They
// are asked for by functions, since the names of methods would stay in the binary.
type stateMutations struct{}

func keepNoTombs(stateMutations) bool    { return false }
func keepFirstRow(stateMutations) bool   { return false }
func forgottenIsNew(stateMutations) bool { return false }
