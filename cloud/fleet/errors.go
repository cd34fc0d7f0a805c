package fleet

import "errors"

// Errors of this package's calls, to be tested with errors.Is. Those of Join are
// the errors that join.Verdict knows.
var (
	ErrUnknownGateway = errors.New("no such gateway") // none of that id has joined
	ErrUnknownNode    = errors.New("no such node is revoked")
	ErrNodeRevoked    = errors.New("node is revoked")
	ErrPattern        = errors.New("a pattern is the name of a topic, in which * stands for any number of characters")
)
