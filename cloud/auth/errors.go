package auth

import "errors"

// Errors of this package's calls, to be tested with errors.Is.
var (
	ErrUnknownUser        = errors.New("no such credential")
	ErrUnknownAdmin       = errors.New("no such administrator")
	ErrUnknownPermissions = errors.New("no such permissions")
	ErrInvalid            = errors.New("invalid")
	ErrTooMany            = errors.New("too many")

	// ErrCredentials: the user does not exist, or the password is wrong. The error does
	// not say which.
	ErrCredentials = errors.New("wrong user name or password")
)

var errExchange = errors.New("unexpected SCRAM message") // a message that SCRAM does not allow at this point
