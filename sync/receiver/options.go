package receiver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"

	"github.com/VictoriaMetrics/metrics"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// Options configures a Receiver. Attach and Resolve are required; Conn and TLS are for
// Serve.
type Options struct {
	Conn net.PacketConn // owned by the Receiver, closed by Close
	TLS  *tls.Config    // join.ServerTLS
	// ResetKey lets a restarted node tell its gateways at once that their connections
	// are gone. It must be the same for every start and node. nil: gateways find out by
	// time-out.
	ResetKey *[32]byte

	// Attach begins the session of a gateway where its records go: see uplink.Door. end is
	// called when the session must end, perhaps more than once and before Attach returns.
	Attach func(ctx context.Context, gateway string, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error)
	// Resolve finds a topic, and creates it if there is none and this gateway may have it:
	// durable on return. Errors: uplink.ErrNotAllowed, uplink.ErrBusy, a
	// *uplink.NotOwnerError.
	Resolve func(ctx context.Context, gateway, topic string) (id weir.TopicID, partitions int32, err error)

	// Join admits a gateway that has no certificate yet. Its errors are those of
	// package join. nil: no gateway can join here.
	Join func(ctx context.Context, r JoinRequest) (JoinResult, error)
	// Renew signs a new certificate; a *uplink.NotOwnerError names the node that can. nil: no
	// gateway can renew here.
	Renew func(ctx context.Context, gateway string, csr []byte) (certificate []byte, err error)
	// Admit is called at every Hello and Renew. join.ErrRevoked is final for the
	// gateway; any other error means "try again later". nil: all are admitted. The
	// certificate is nil on transports without certificates.
	Admit func(gateway string, certificate *x509.Certificate) error

	Left    func(Gateway)                      // called when a gateway's session has ended and no newer one has replaced it; may be nil
	Refused func(gateway string, what Refusal) // called for everything that is refused for good; may be nil

	Cluster func() string // id, sent to gateways; nil: none
	Node    string        // name of this node, sent to gateways

	// Memory is for the frames of all sessions that arrive or that the log has not
	// answered yet; nil: 256 MiB. See MemoryOptions.
	Memory *budget.Pool

	MaxGateways int   // sessions at the same time; 0 is 16,384
	MaxBatch    int   // bytes of one record batch; 0 is 4 MiB
	Window      int   // bytes that a lane of a gateway may have un-acked; 0: the gateway decides
	InFlight    int64 // bytes of one session that the log has not answered yet; 0 is 8 MiB

	Metrics *metrics.Set // nil: none are kept
	Logger  *slog.Logger // nil: no log

	Mutations Mutations
}

// JoinRequest is a gateway that wants a certificate.
type JoinRequest struct {
	Addr    string // of the gateway
	Secret  [16]byte
	Gateway string
	CSR     []byte // DER, not yet checked
}

// JoinResult is what an admitted gateway gets, both in DER.
type JoinResult struct{ Certificate, CA []byte }

const (
	defaultGateways = 16 << 10
	defaultMaxBatch = 4 << 20
	defaultInFlight = 8 << 20
)

func (o *Options) defaults() error {
	if o.MaxGateways <= 0 {
		o.MaxGateways = defaultGateways
	}
	if o.MaxBatch <= 0 {
		o.MaxBatch = defaultMaxBatch
	}
	o.MaxBatch = min(o.MaxBatch, wire.MaxLane-wire.AppendOverhead)
	if o.InFlight <= 0 {
		o.InFlight = defaultInFlight
	}
	if o.Cluster == nil {
		o.Cluster = func() string { return "" }
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Memory == nil {
		memory, err := budget.NewPool(MemoryOptions(defaultMemory, o.Logger))
		if err != nil {
			return fmt.Errorf("memory for frames: %w", err)
		}
		o.Memory = memory
	}
	return nil
}
