package peer

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
)

// TestDroppedLink: a question whose connection is being opened does not fail because another
// one over the same link has failed: it learns by itself whether the node is there.
func TestDroppedLink(t *testing.T) {
	ca := newCA(t)
	c := client(t, identity(t, ca, "a"))
	var dials atomic.Int32
	opening := make(chan struct{}, 2)
	fails := make(chan struct{})
	c.Dial = func(ctx context.Context, _ string) (net.Conn, error) {
		n := dials.Add(1)
		if n <= 2 {
			opening <- struct{}{}
		}
		switch n {
		case 1:
			<-fails
			return nil, syscall.ECONNRESET
		case 2:
			<-ctx.Done() // until the link is given up
			return nil, ctx.Err()
		}
		return nil, syscall.ECONNREFUSED
	}
	results := make(chan error, 2)
	for range 2 {
		go func() {
			_, err := c.Ping(t.Context(), "b", "b:1")
			results <- err
		}()
		<-opening
	}
	close(fails)
	if err := <-results; !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the question that fails: %v", err)
	}
	if err := <-results; !Refused(err) {
		t.Errorf("the one whose link was given up: %v", err)
	}
}
