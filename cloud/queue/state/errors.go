package state

import "errors"

// ErrCorrupt means that an entry or a snapshot is not one that this version writes. The
// State is then not to be used further.
var ErrCorrupt = errors.New("corrupt state of work queues")
