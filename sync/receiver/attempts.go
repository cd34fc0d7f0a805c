package receiver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirmq/weir/sync/uplink"
)

// Bounds on handshakes. Each handshake takes memory and a signature before the peer has
// proved anything.
const (
	freeAttempts    = 64   // a second, without proof that the address is the sender's
	freeHandshakes  = 128  // at once, without that proof
	maxHandshakes   = 1024 // at once
	maxOfOneAddress = 256  // of those, from one address
	maxRate         = 50   // a second from one address, while there are more than freeAttempts
)

// attempts counts handshakes. Under load an address must first prove itself (Retry, RFC
// 9000 §8.1.2); for that the node keeps no state.
//
// quic-go keeps 32 connections whose handshake is complete for an Accept that is late, and
// closes those beyond. When many gateways come at once, that many complete before one
// goroutine gets its turn, and their handshakes were in vain. So each handshake has a
// goroutine that waits for a connection.
type attempts struct {
	accept func() // starts a goroutine that waits for a connection and calls accepted

	mu      sync.Mutex
	second  time.Time          // the second that is counted; guarded by mu
	n       int                // attempts in it; guarded by mu
	open    int                // handshakes under way; guarded by mu
	from    map[netip.Addr]int // handshakes under way, by address; guarded by mu
	begun   map[netip.Addr]int // handshakes begun in the second, by address; guarded by mu
	waiting int                // goroutines of accept without a connection, no fewer than open; after failed handshakes more; guarded by mu
}

func newAttempts(accept func()) *attempts {
	return &attempts{accept: accept, from: make(map[netip.Addr]int), begun: make(map[netip.Addr]int)}
}

// busy counts an attempt and reports whether its address must be proved.
func (a *attempts) busy() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick()
	a.n++
	return a.n > freeAttempts || a.open >= freeHandshakes
}

// tick begins a new second when the last one is over. Called with mu held.
func (a *attempts) tick() {
	if now := time.Now(); now.Sub(a.second) >= time.Second {
		a.second, a.n = now, 0
		clear(a.begun)
	}
}

// handshake is the context key of what begin counted for a connection.
type handshake struct{}

// begin is quic.Transport.ConnContext: it counts a handshake, or refuses it. A
// gateway that is refused dials again.
func (a *attempts) begin(ctx context.Context, info *quic.ClientInfo) (context.Context, error) {
	from := addressOf(info.RemoteAddr)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tick()
	fast := a.n > freeAttempts && a.begun[from] >= maxRate
	if fast || a.open >= maxHandshakes || a.from[from] >= maxOfOneAddress {
		return nil, fmt.Errorf("%d handshakes, %d from %s: %w", a.open, a.from[from], from, uplink.ErrBusy)
	}
	a.begun[from]++
	a.open++
	a.from[from]++
	for ; a.waiting < a.open; a.waiting++ {
		a.accept()
	}
	over := sync.OnceFunc(func() { a.over(from) })
	context.AfterFunc(ctx, over)
	return context.WithValue(ctx, handshake{}, over), nil
}

func (a *attempts) over(from netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.open--
	if a.from[from]--; a.from[from] == 0 {
		delete(a.from, from)
	}
}

// accepted says that a goroutine of accept does not wait any more.
func (a *attempts) accepted() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting--
}

// established says that a connection's handshake is complete.
func established(ctx context.Context) {
	if over, ok := ctx.Value(handshake{}).(func()); ok {
		over()
	}
}

func addressOf(a net.Addr) netip.Addr {
	if udp, ok := a.(*net.UDPAddr); ok {
		return udp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}
