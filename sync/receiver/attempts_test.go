package receiver

import (
	"context"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/quic-go/quic-go"
)

// TestAttempts: under load addresses prove themselves, and one address cannot
// take all handshakes; those of others begin.
func TestAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAttempts()
		from := func(last byte) *quic.ClientInfo {
			return &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv4(10, 0, 0, last), Port: 1}}
		}
		begin := func(last byte) (established bool, end func()) {
			a.busy()
			ctx, cancel := context.WithCancel(t.Context())
			_, err := a.begin(ctx, from(last))
			return err == nil, cancel
		}
		for i := range freeAttempts {
			if a.busy() {
				t.Fatalf("attempt %d has to prove its address", i)
			}
		}
		if !a.busy() {
			t.Error("no attempt has to prove its address")
		}
		time.Sleep(time.Second)
		if a.busy() {
			t.Error("the next second is as busy")
		}

		var ends []func()
		taken := 0
		for range 3 * maxOfOneAddress {
			ok, end := begin(1)
			ends = append(ends, end)
			if ok {
				taken++
			}
		}
		if taken < maxRate || taken > freeAttempts {
			t.Errorf("one address began %d handshakes in a second", taken)
		}
		if ok, end := begin(2); !ok {
			t.Error("another address begins none")
		} else {
			end()
		}
		for range 10 {
			time.Sleep(time.Second)
			for range maxRate {
				if ok, end := begin(1); ok {
					taken++
					ends = append(ends, end)
				}
			}
		}
		if taken != maxOfOneAddress {
			t.Errorf("one address has %d handshakes at once", taken)
		}
		for _, end := range ends {
			end()
		}
		synctest.Wait()
		if len(a.from) != 0 || a.open != 0 {
			t.Errorf("%d handshakes are left", a.open)
		}
	})
}

// TestHandshakeEnds: a handshake is over when it is complete, and only once.
func TestHandshakeEnds(t *testing.T) {
	a := newAttempts()
	ctx, err := a.begin(t.Context(), &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}})
	if err != nil {
		t.Fatal(err)
	}
	established(ctx)
	established(ctx)
	if a.open != 0 {
		t.Errorf("%d handshakes after the only one is complete", a.open)
	}
}
