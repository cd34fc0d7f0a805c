//go:build !weirtest

package txn

// Mutations break single rules of transactions that span shards, which only a build with
// the tag weirtest can do: see mutations_weirtest.go.
type Mutations struct{}

func noNumber(Mutations) bool  { return false }
func noVerify(Mutations) bool  { return false }
func noRecheck(Mutations) bool { return false }
func markEarly(Mutations) bool { return false }
func nextEarly(Mutations) bool { return false }
