package sender

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/wire"
)

// Session is one connection to a node over any transport. Its functions may be called
// concurrently.
type Session struct {
	// OpenStream opens a stream. Of two streams with something to send, the one
	// with the lower urgency goes first where the transport can.
	OpenStream func(ctx context.Context, urgency int8) (wire.Channel, error)
	// Close ends the session at once; blocked calls return. The node sees a
	// wire.CloseError.
	Close func(code wire.Code, text string)
}

// Dial connects to a node at addr (host:port). It returns when the node has proved that
// it belongs to our cloud.
type Dial func(ctx context.Context, addr string) (Session, error)

// Options configures a Sender. Buffers, Addrs and either Identity or Dial with
// Gateway are required.
type Options struct {
	Buffers Buffers
	Addrs   []string // of nodes, host:port; tried in turn, those after the first in a random order

	// Identity proves who the gateway is, and is renewed in time. It may be nil if Dial
	// needs none.
	Identity *join.Identity
	Gateway  string // taken from Identity when empty
	Dial     Dial   // nil: QUIC with Identity
	// Rejoin returns another identity of the same gateway, or nil if there is none. It
	// is called after each attempt at which this identity is refused (see Refusal).
	// nil: there never is another.
	Rejoin   func(ctx context.Context, refused error) *join.Identity
	Software string // name and version, for people to read

	Window    int  // bytes that a lane may have sent and not acked; 0 is 4 MiB
	ReadAhead int  // bytes that a lane may have read beyond those; 0 is 2 MiB
	Batch     int  // bytes that a record batch grows to before compression; 0 is 1 MiB
	Plain     bool // never compress; tests in synctest bubbles need it, because encoders are shared with code outside

	Depth func() wire.Ping // values for Pings; nil: zeros
	// Status returns figures about the gateway, by ascending keys. They are sent once a
	// minute if they have changed. nil: none are sent.
	Status  func() []wire.Figure
	Now     func() time.Time // this machine's clock; nil is time.Now
	Metrics *metrics.Set     // nil: none are kept
	Logger  *slog.Logger     // nil: no log

	Mutations Mutations
}

const (
	defaultWindow    = 4 << 20
	defaultReadAhead = 2 << 20
	defaultBatch     = 1 << 20
)

func (o *Options) check() error {
	if o.Buffers == nil {
		return errors.New("sender needs buffers")
	}
	if len(o.Addrs) == 0 {
		return errors.New("sender needs the address of a node")
	}
	o.Addrs = slices.Clone(o.Addrs)
	others := o.Addrs[1:] // all gateways may have the same list: when a node dies, they must not all go to the same one
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	if o.Dial == nil && o.Identity == nil {
		return errors.New("sender needs an identity")
	}
	if o.Gateway == "" && o.Identity != nil {
		o.Gateway = o.Identity.Gateway()
	}
	if err := join.CheckGateway(o.Gateway); err != nil {
		return fmt.Errorf("check gateway id: %w", err)
	}
	if o.Window < 0 || o.ReadAhead < 0 || o.Batch < 0 {
		return errors.New("window, read-ahead and batch must not be negative")
	}
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.ReadAhead == 0 {
		o.ReadAhead = defaultReadAhead
	}
	if o.Batch == 0 {
		o.Batch = defaultBatch
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return nil
}
