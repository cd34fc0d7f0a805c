//go:build !weirtest

package sender

import (
	"github.com/weirmq/weir/storage/weir"
)

// Mutations break single rules of the protocol, which only a build with the tag weirtest
// can do: see mutations_weirtest.go. Here the compiler leaves out what they would do.
// They are asked for by functions, since the names of methods would stay in the binary.
type Mutations struct{}

func ownBelief(Mutations) bool    { return false }
func todaysCount(Mutations) bool  { return false }
func noBarrier(Mutations) bool    { return false }
func trimAcked(Mutations) bool    { return false }
func nextBuffer(Mutations) bool   { return false }
func keepOnRefuse(Mutations) bool { return false }
func earlyGap(Mutations) bool     { return false }
func noGap(Mutations) bool        { return false }
func noHold(Mutations) bool       { return false }
func forgetRows(Mutations) bool   { return false }
func sendAside(Mutations) bool    { return false }

// beliefs is what Mutations.OwnBelief needs.
type beliefs struct{}

func (*beliefs) add(weir.Mark) {}

func (*beliefs) of(weir.BufferID) ([]weir.Mark, bool) { return nil, false }
