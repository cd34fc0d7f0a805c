package routing

import "errors"

// What an Error can be; a door turns it into its own code and text.
var (
	ErrNotFound     = errors.New("no such exchange or queue")
	ErrInUse        = errors.New("the exchange is in use")
	ErrInequivalent = errors.New("declared before with another argument")
	ErrReserved     = errors.New("the name is reserved")
	ErrDefault      = errors.New("not permitted on the default exchange")
	ErrInternal     = errors.New("cannot publish to an internal exchange")
	ErrType         = errors.New("unknown exchange type")
	ErrInvalid      = errors.New("invalid argument")
	ErrCorrupt      = errors.New("not a snapshot of a routing table")
)

// Error is what a Table refuses: one of the errors above, and what it is about.
type Error struct {
	Err   error
	Queue bool   // Name is a queue's, not an exchange's
	Name  string // as it was asked for
	// Argument is set with ErrInequivalent and ErrInvalid: type, durable, auto_delete,
	// internal, alternate-exchange, x-delayed-type, hash-header, hash-property, x-match or
	// routing key.
	Argument string
	// Received and Current are the values of an inequivalent argument; empty is none. With
	// ErrInvalid, Received is the value that is not valid.
	Received, Current string
}

// Error implements error.
func (e *Error) Error() string {
	s := "exchange '" + e.Name + "'"
	if e.Queue {
		s = "queue '" + e.Name + "'"
	}
	s += ": " + e.Err.Error()
	if e.Argument != "" {
		s += ": " + e.Argument + ", received '" + e.Received + "'"
	}
	if e.Err == ErrInequivalent {
		s += ", current is '" + e.Current + "'"
	}
	return s
}

// Unwrap returns one of the package's errors.
func (e *Error) Unwrap() error { return e.Err }
