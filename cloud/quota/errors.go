package quota

import "errors"

// Errors of this package's calls, to be tested with errors.Is.
var (
	ErrInvalid = errors.New("invalid quota")
	ErrTooMany = errors.New("too many quotas")
)
