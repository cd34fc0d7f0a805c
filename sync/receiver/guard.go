package receiver

import (
	"log/slog"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/sync/wire"
)

// Connections of peers that have no certificate yet.
const (
	joinSeats = 128 // at the same time
	joinFirst = 64  // of those, before the oldest is closed
)

const (
	defaultMemory = 256 << 20
	reserve       = 16 << 20 // of the memory, for small frames
)

// MemoryOptions describes a pool of bytes for the frames of all gateways. One gateway
// holds the largest frame at most.
func MemoryOptions(bytes int64, log *slog.Logger) budget.PoolOptions {
	return budget.PoolOptions{Name: "sync", Bytes: bytes, Reserve: reserve, Small: smallFrame, Largest: wire.MaxLane, Peer: wire.MaxLane, Log: log}
}

// guard limits what peers may take of the node: connections, wrong tokens, log lines. An
// addr is a host and port.
type guard struct {
	seats     *budget.Gate // of peers without a certificate
	penalties *budget.Penalties
	strangers *budget.Lines // about peers that have not joined
	known     *budget.Lines // about gateways
}

func newGuard(log *slog.Logger) guard {
	// These seats are separate: a client that fills the TCP listeners keeps no gateway
	// from joining.
	conns := budget.NewConns(budget.ConnsOptions{Total: joinSeats, Log: log})
	return guard{
		seats:     conns.Gate(budget.GateOptions{Name: "sync", Max: joinSeats, PerAddress: joinSeats, Strangers: joinFirst}),
		penalties: budget.NewPenalties(budget.PenaltiesOptions{}),
		strangers: budget.NewLines(budget.LinesOptions{}),
		known:     budget.NewLines(budget.LinesOptions{Burst: 200, All: 2000}),
	}
}

// dialler is the address of a peer: host:port.
type dialler string

func (dialler) Network() string  { return "udp" }
func (d dialler) String() string { return string(d) }

// stranger takes a seat for a connection of a peer without a certificate. If there are
// too many later, give is called and must close the connection.
func (g guard) stranger(addr string, give func()) (*budget.Seat, error) {
	return g.seats.Enter(budget.Address(dialler(addr)), give)
}

// pause returns for how long no token is accepted from an address.
func (g guard) pause(addr string) time.Duration {
	return g.penalties.Pause(budget.Address(dialler(addr)))
}

// wrong counts a wrong token from an address.
func (g guard) wrong(addr string) { g.penalties.Wrong(budget.Address(dialler(addr))) }

// mayLog reports whether a line about an address may be written, and how many were
// left out before it. The limit is lower for strangers.
func (g guard) mayLog(addr string, stranger bool) (ok bool, unlogged int) {
	lines := g.known
	if stranger {
		lines = g.strangers
	}
	return lines.May(budget.Address(dialler(addr)))
}
