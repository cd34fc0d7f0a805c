//go:build !weirtest

package sender

import (
	"github.com/weirmq/weir/storage/weir"
)

// Mutations break single rules of the protocol. They exist only in a build with the tag
// weirtest, see mutations_weirtest.go; here the compiler drops their code. They are
// read through functions, because names of methods would stay in the binary.
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
