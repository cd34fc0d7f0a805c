package receiver

import (
	"errors"

	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// reasonOf maps an error of an attachment to the reason on the wire. There is no other
// such table.
func reasonOf(err error) wire.Reason {
	for _, row := range []struct {
		err    error
		reason wire.Reason
	}{
		{uplink.ErrHole, wire.ReasonHole},
		{uplink.ErrMoved, wire.ReasonMoved},
		{uplink.ErrGone, wire.ReasonGone},
		{uplink.ErrTooLarge, wire.ReasonTooLarge},
		{uplink.ErrNotAllowed, wire.ReasonNotAllowed},
		{uplink.ErrCorrupt, wire.ReasonCorrupt},
	} {
		if errors.Is(err, row.err) {
			return row.reason
		}
	}
	return wire.ReasonBusy
}
