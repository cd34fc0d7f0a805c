package cloud

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/wire"
)

// What gateways, and peers that have not joined, may use of a node.
const (
	syncReserve   = 16 << 20 // bytes reserved for small frames
	smallFrame    = 32 << 10 // bytes of the largest of those
	joinSeats     = 128      // connections of strangers
	joinStrangers = 64       // of those, before the oldest is closed
)

// syncGuard is the node's budgets as the receiver sees them.
type syncGuard struct {
	memory    *budget.Pool
	seats     *budget.Gate
	penalties *budget.Penalties
	strangers *budget.Lines // about peers that have not joined
	known     *budget.Lines // about gateways
}

func newSyncGuard(bytes int64, set *metrics.Set, log *slog.Logger) (*syncGuard, error) {
	memory, err := measure.Pool(set, budget.PoolOptions{
		Name: "sync", Bytes: bytes, Reserve: syncReserve, Small: smallFrame, Largest: wire.MaxLane, Peer: wire.MaxLane, Log: log,
	})
	if err != nil {
		return nil, fmt.Errorf("memory of the sync port: %w", err)
	}
	// These seats are separate: a client that fills the TCP listeners keeps no gateway
	// from joining.
	conns := budget.NewConns(budget.ConnsOptions{Total: joinSeats, Log: log})
	return &syncGuard{
		memory:    memory,
		seats:     conns.Gate(budget.GateOptions{Name: "sync", Max: joinSeats, PerAddress: joinSeats, Strangers: joinStrangers}),
		penalties: budget.NewPenalties(budget.PenaltiesOptions{}),
		strangers: budget.NewLines(budget.LinesOptions{}),
		known:     budget.NewLines(budget.LinesOptions{Burst: 200, All: 2000}),
	}, nil
}

// dialler is the address of a peer as the receiver knows it: host:port.
type dialler string

func (dialler) Network() string  { return "udp" }
func (d dialler) String() string { return string(d) }

// Memory implements receiver.Guard.
func (g *syncGuard) Memory(gateway string) receiver.Share { return share{g.memory.Peer(gateway)} }

// Stranger implements receiver.Guard.
func (g *syncGuard) Stranger(addr string, give func()) (receiver.Seat, error) {
	return g.seats.Enter(budget.Address(dialler(addr)), give)
}

// Pause implements receiver.Guard.
func (g *syncGuard) Pause(addr string) time.Duration {
	return g.penalties.Pause(budget.Address(dialler(addr)))
}

// Wrong implements receiver.Guard.
func (g *syncGuard) Wrong(addr string) { g.penalties.Wrong(budget.Address(dialler(addr))) }

// MayLog implements receiver.Guard.
func (g *syncGuard) MayLog(addr string, stranger bool) (ok bool, unlogged int) {
	lines := g.known
	if stranger {
		lines = g.strangers
	}
	return lines.May(budget.Address(dialler(addr)))
}

// share is a gateway's part of the memory.
type share struct{ peer *budget.Peer }

func (s share) Take(ctx context.Context, n int64) (receiver.Memory, error) {
	return s.peer.Take(ctx, n)
}

func (s share) Close() { s.peer.Close() }
