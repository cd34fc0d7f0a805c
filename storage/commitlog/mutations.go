//go:build !weirtest

package commitlog

import (
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/weir"
)

// Mutations break single rules of the log, which only a build with the tag weirtest can
// do: see mutations_weirtest.go. Here the compiler leaves out what they would do. They
// are asked for by functions, since the names of methods would stay in the binary.
type Mutations struct{ State state.Mutations }

func noPrev(Mutations) bool       { return false }
func durableMarks(Mutations) bool { return false }
func ackFlying(Mutations) bool    { return false }
func ackDuplicate(Mutations) bool { return false }
func promiseMarks(Mutations) bool { return false }
func stopAtOnce(Mutations) bool   { return false }
func voidUnsaid(Mutations) bool   { return false }

func (Mutations) any() bool { return false }

type promises struct{}

func (*promises) set(state.MarkKey, uint64)                   {}
func (*promises) add(_ string, marks []weir.Mark) []weir.Mark { return marks }
