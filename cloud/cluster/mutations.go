//go:build !weirtest

package cluster

// mutations break single rules of placement. They exist only in a build with the tag
// weirtest, see mutations_weirtest.go; here the compiler drops their code. They are
// read through functions, because names of methods would stay in the binary.
type mutations struct{}

func pullShards(mutations) bool        { return false }
func silenceFromAnswer(mutations) bool { return false }
func rankless(mutations) bool          { return false }
func noOpinion(mutations) bool         { return false }
func noWitness(mutations) bool         { return false }
func noPatience(mutations) bool        { return false }
func muteDenies(mutations) bool        { return false }
func ownNameOnly(mutations) bool       { return false }
func closedUnseen(mutations) bool      { return false }
func trustObject(mutations) bool       { return false }
func roleless(mutations) bool          { return false }
func closeFirst(mutations) bool        { return false }
func claimUnseen(mutations) bool       { return false }
func neverTakes(mutations) bool        { return false }
func trustRevoked(mutations) bool      { return false }
