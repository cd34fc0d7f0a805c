//go:build !weirtest

package queue

// Mutations break single rules of the engine, which only a build with the tag weirtest
// can do: see mutations_weirtest.go. Here the compiler leaves out what they would do.
type Mutations struct{}

func noLend(Mutations) bool     { return false }
func noEpoch(Mutations) bool    { return false }
func earlyEnd(Mutations) bool   { return false }
func splitDeath(Mutations) bool { return false }
func highFloor(Mutations) bool  { return false }
func ackFlying(Mutations) bool  { return false }
func noFilter(Mutations) bool   { return false }

func (m Mutations) begun() Mutations   { return m }
func earlySeen(Mutations, string) bool { return false }
