package settings

import "errors"

// Errors of this package's calls, to be tested with errors.Is.
var (
	ErrInvalid = errors.New("invalid setting")
	ErrTooMany = errors.New("too many settings")
)
