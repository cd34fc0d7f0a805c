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
		a := newAttempts(func() {})
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
	a := newAttempts(func() {})
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

// TestAcceptors: somebody waits for each connection whose handshake is under way, however late
// the other goroutines get their turn, and failed handshakes add nobody.
func TestAcceptors(t *testing.T) {
	started := 0
	a := newAttempts(func() { started++ })
	begin := func() (ctx context.Context, fail func()) {
		ctx, cancel := context.WithCancel(t.Context())
		ctx, err := a.begin(ctx, &quic.ClientInfo{RemoteAddr: &net.UDPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return ctx, cancel
	}
	const first = 40 // more than quic-go keeps
	var ctxs []context.Context
	var fails []func()
	for range first {
		ctx, fail := begin()
		ctxs, fails = append(ctxs, ctx), append(fails, fail)
	}
	if started != first {
		t.Errorf("%d wait for %d handshakes", started, first)
	}
	for _, ctx := range ctxs[:10] { // these complete
		a.accepted()
		established(ctx)
	}
	for _, ctx := range ctxs[10:20] { // these fail
		established(ctx)
	}
	for range 10 {
		_, fail := begin()
		fails = append(fails, fail)
	}
	if started != first {
		t.Errorf("%d were started, although 30 wait for 30 handshakes", started)
	}
	_, fail := begin()
	fails = append(fails, fail)
	if started != first+1 {
		t.Errorf("%d were started for one handshake more", started-first)
	}
	for _, fail := range fails {
		fail()
	}
}
