package cluster

import (
	"context"
	"crypto/ecdsa"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/quic-go/quic-go"

	"github.com/weirmq/weir/sync/join"
)

// plainHandshakes returns how many handshakes a second plain quic-go makes with such
// certificates as gateways and nodes have, both ends in this process, a few at once.
func plainHandshakes(b *testing.B) float64 {
	b.Helper()
	ca, identity := newAuthority(b)
	node, err := ca.SignServer(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	listener, err := quic.ListenAddr("127.0.0.1:0", join.ServerTLS(ca.Certificate(), node, nil, nil), &quic.Config{InitialPacketSize: 1200})
	if err != nil {
		b.Fatal(err)
	}
	var running sync.WaitGroup
	defer running.Wait()
	defer listener.Close()
	running.Go(func() {
		for {
			if _, err := listener.Accept(context.Background()); err != nil {
				return
			}
		}
	})
	const length = 3 * time.Second
	var done atomic.Int64
	var dialers sync.WaitGroup
	began := time.Now()
	for range 8 {
		dialers.Go(func() {
			socket, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Error(err)
				return
			}
			defer socket.Close()
			t := &quic.Transport{Conn: socket}
			defer t.Close()
			for time.Since(began) < length {
				c, err := t.Dial(b.Context(), listener.Addr(), identity.TLS(nil), dialling)
				if err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
				c.CloseWithError(0, "")
			}
		})
	}
	dialers.Wait()
	return float64(done.Load()) / time.Since(began).Seconds()
}

// newAuthority makes a CA, and the identity of a gateway that it has signed.
func newAuthority(b *testing.B) (*join.CA, *join.Identity) {
	b.Helper()
	const name = "gw"
	ca, err := join.NewCA(time.Now())
	if err != nil {
		b.Fatal(err)
	}
	var key *ecdsa.PrivateKey
	if key, err = join.NewKey(); err != nil {
		b.Fatal(err)
	}
	csr, err := join.NewCSR(key, name)
	if err != nil {
		b.Fatal(err)
	}
	der, err := ca.SignGateway(csr, name, time.Now(), 0)
	if err != nil {
		b.Fatal(err)
	}
	identity, err := join.NewIdentity(key, der, ca.Certificate().Raw)
	if err != nil {
		b.Fatal(err)
	}
	return ca, identity
}
