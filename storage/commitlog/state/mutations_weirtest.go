//go:build weirtest

package state

// Mutations break single rules of the state, so that a model test can show that it
// notices. They exist only in a build with the tag weirtest.
type Mutations struct {
	KeepNoTombs    bool // forget a retired buffer completely
	KeepFirstRow   bool // keep the first row of a stream and topic instead of the newest
	ForgottenIsNew bool // take an unknown buffer for a new one, however old its counter
	KeepNoDropped  bool // forget that a topic was dropped
	OpenedNowhere  bool // forget the position of the catalogue at which a topic was opened
}

func keepNoTombs(m Mutations) bool    { return m.KeepNoTombs }
func keepFirstRow(m Mutations) bool   { return m.KeepFirstRow }
func forgottenIsNew(m Mutations) bool { return m.ForgottenIsNew }
func keepNoDropped(m Mutations) bool  { return m.KeepNoDropped }
func openedNowhere(m Mutations) bool  { return m.OpenedNowhere }
