package state

import "errors"

// ErrCorrupt means that an entry or a snapshot is not one that this version writes. The
// State is then not to be used further.
var ErrCorrupt = errors.New("corrupt state of work queues")

// ErrRange means that a number of a declaration is too large.
var ErrRange = errors.New("a number is too large")

// Why a declaration was refused, besides a *routing.Error.
var (
	ErrExists   = errors.New("there is one of that name")
	ErrNoVhost  = errors.New("no such vhost")
	ErrNoQueue  = errors.New("no such queue")
	ErrNotEmpty = errors.New("messages wait in the queue")
)
