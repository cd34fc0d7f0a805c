package receiver

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/quic-go/quic-go"
)

// Bounds on handshakes, each of which takes memory and a signature before
// anybody has proved anything.
const (
	freeAttempts    = 64   // a second, without proof that the address is the sender's own
	freeHandshakes  = 128  // at once, likewise
	maxHandshakes   = 1024 // at once
	maxOfOneAddress = 256  // of those, from one address
	maxRate         = 50   // a second from one address, while there are more than the free ones
)

// attempts counts handshakes. Under load an address has to prove itself first
// (Retry, RFC 9000 §8.1.2), which costs the node nothing that it has to keep.
type attempts struct {
	mu     sync.Mutex
	second time.Time          // the one that is counted; guarded by mu
	n      int                // attempts in it; guarded by mu
	open   int                // handshakes that go on; guarded by mu
	from   map[netip.Addr]int // handshakes that go on, by address; guarded by mu
	begun  map[netip.Addr]int // handshakes begun in the second, by address; guarded by mu
}

func newAttempts() *attempts {
	return &attempts{from: make(map[netip.Addr]int), begun: make(map[netip.Addr]int)}
}

// busy reports whether an attempt has to prove its address, and counts it.
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

// handshake is the key of a connection's context for what begin counted.
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
		return nil, fmt.Errorf("%d handshakes, %d from %s: %w", a.open, a.from[from], from, ErrBusy)
	}
	a.begun[from]++
	a.open++
	a.from[from]++
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
