package cloud

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
)

// TestPeerGate: the peer port has room for all connections of 63 other nodes, twice.
func TestPeerGate(t *testing.T) {
	gate := budget.NewConns(budget.ConnsOptions{Log: slog.New(slog.DiscardHandler)}).Gate(peerGate())
	for node := range 63 {
		for link := range 2 * 7 {
			seat, err := gate.Enter(netip.AddrFrom4([4]byte{10, 0, 0, byte(node)}), func() {})
			if err != nil {
				t.Fatalf("connection %d of node %d: %v", link, node, err)
			}
			seat.Known()
		}
	}
}
