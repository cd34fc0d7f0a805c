package mqtt

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestOwedStop: what was acknowledged before the server was stopped does not
// come again, however short a time before it was.
func TestOwedStop(t *testing.T) {
	bubbleOwed(t, Options{}, func(t *testing.T, d *disks, s *testServer) {
		sub := join(t, s, 4, "sub", false)
		sub.subscribe(filter("a", 1))
		pub := join(t, s, 4, "pub", true)
		for i := range 30 {
			pub.publish("a", fmt.Sprint(i), 1, 1)
		}
		sub.collect(0, 20)
		_, s = d.stop(t, s, Options{})
		sub = join(t, s, 4, "sub", false)
		sub.collect(20, 10)
		sub.silent()
	})
}

// stuckConn is a connection of which a write returns only when the gate opens, even
// after Close.
type stuckConn struct {
	net.Conn
	gate <-chan struct{}
}

func (c stuckConn) Write([]byte) (int, error) {
	<-c.gate
	return 0, net.ErrClosed
}

// TestServeWaits: Serve returns when every goroutine of the server has ended, that
// which sends to a socket too.
func TestServeWaits(t *testing.T) {
	bubble(t, Options{}, func(t *testing.T, s *testServer) {
		gate := make(chan struct{})
		near, far := net.Pipe()
		s.o.Listeners[0].(*pipes).conns <- stuckConn{far, gate}
		c := &testClient{t: t, nc: near, version: 4}
		c.send(connectPacket(4, "c", true))
		synctest.Wait() // its CONNACK is stuck
		closed := make(chan error, 1)
		go func() { closed <- s.Close() }()
		time.Sleep(time.Minute)
		select {
		case err := <-s.served:
			t.Fatalf("Serve returned %v while a packet was being sent", err)
		case err := <-closed:
			t.Fatalf("Close returned %v while a packet was being sent", err)
		default:
		}
		close(gate)
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if err := <-s.served; !errors.Is(err, ErrClosed) {
			t.Error(err)
		}
		near.Close()
	})
}
