//go:build !weirtest

package row

// mutations are the rules that a test breaks on purpose. This build has none: see
// mutations_weirtest.go.
type mutations struct{}

func (mutations) ackUnseen() bool { return false }
func (mutations) readFirst() bool { return false }
func (mutations) readLast() bool  { return false }
func (mutations) at(string)       {}
