package receiver

import (
	"context"

	"github.com/weirmq/weir/sync/wire"
)

// Session is one authenticated connection of a gateway over any transport. All methods
// may be called concurrently.
type Session interface {
	// AcceptStream waits for a stream that the gateway opened.
	AcceptStream(ctx context.Context) (wire.Channel, error)
	// Close ends the session at once; blocked calls return. What was written
	// and has not arrived may be lost. The gateway sees a wire.CloseError.
	Close(code wire.Code, text string)
	// Peer returns the identity of the gateway.
	Peer() wire.Peer
}
