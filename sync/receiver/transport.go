package receiver

import (
	"context"

	"github.com/weirmq/weir/sync/wire"
)

// Session is one authenticated connection of a gateway over any transport. Its functions
// may be called concurrently.
type Session struct {
	Peer wire.Peer // the gateway
	// AcceptStream waits for a stream that the gateway opened.
	AcceptStream func(ctx context.Context) (wire.Channel, error)
	// Close ends the session at once; blocked calls return. What was written
	// and has not arrived may be lost. The gateway sees a wire.CloseError.
	Close func(code wire.Code, text string)
}
