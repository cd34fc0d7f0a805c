package listener

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weirmq/weir/cloud/budget"
)

// scripted is a listener that accepts what a test sends it.
type scripted struct {
	net.Listener
	next   chan net.Conn
	errs   chan error
	closed chan struct{}
}

func newScripted() *scripted {
	return &scripted{next: make(chan net.Conn), errs: make(chan error), closed: make(chan struct{})}
}

func (s *scripted) Accept() (net.Conn, error) {
	select {
	case nc := <-s.next:
		return nc, nil
	case err := <-s.errs:
		return nil, err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *scripted) Close() error {
	select {
	case <-s.closed:
		return net.ErrClosed
	default:
		close(s.closed)
		return nil
	}
}

// TestAcceptor: it serves who has a seat, turns others away, goes on after errors that
// pass, and ends when all connections have.
func TestAcceptor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l, end := newScripted(), make(chan struct{})
		var served, refused int
		quiet := slog.New(slog.DiscardHandler)
		a := NewAcceptor(AcceptorOptions{Door: "test", Listeners: []Listener{{Listener: l}}, MaxConns: 1, PerAddress: 1,
			Conns: budget.NewConns(budget.ConnsOptions{Log: quiet}), Log: quiet,
			Open: func(nc net.Conn, _ *Listener) Conn {
				return Conn{GiveWay: func() {}, Refuse: func() { refused++; nc.Close() },
					Serve: func(seat *budget.Seat) { served++; seat.Known(); <-end }}
			}})
		ended := make(chan error, 1)
		go func() { ended <- a.Serve() }()
		connect := func() {
			_, there := net.Pipe()
			l.next <- there
			synctest.Wait()
		}
		connect()
		connect()
		if served != 1 || refused != 1 {
			t.Errorf("%d served, %d refused of one seat", served, refused)
		}
		a.o.Listeners[0].Traffic.Requests.Add(7)
		if got, want := a.Counts(), (Counts{GateCounts: budget.GateCounts{Open: 1, Accepted: 1, Refused: 1}, Requests: 7}); len(got) != 1 || got[0] != want {
			t.Errorf("counted %+v, want %+v", got, want)
		}
		began := time.Now()
		for range 3 {
			l.errs <- &net.OpError{Op: "accept", Err: os.NewSyscallError("accept", syscall.EMFILE)}
		}
		connect()
		if refused != 2 || time.Since(began) < 20*time.Millisecond {
			t.Errorf("after errors that pass: %d refused, after %v", refused, time.Since(began))
		}
		closed := make(chan error, 1)
		go func() { closed <- a.Close() }()
		synctest.Wait()
		select {
		case <-closed:
			t.Error("Close does not wait for a connection")
		default:
		}
		close(end)
		if err := errors.Join(<-closed, <-ended); err != nil {
			t.Error(err)
		}
	})
}

// TestAcceptorFails: an error that does not pass ends all listeners of the door.
func TestAcceptorFails(t *testing.T) {
	bad, good := newScripted(), newScripted()
	a := NewAcceptor(AcceptorOptions{Door: "test", Listeners: []Listener{{Listener: bad}, {Listener: good}}, MaxConns: 1, PerAddress: 1,
		Conns: budget.NewConns(budget.ConnsOptions{}), Log: slog.New(slog.DiscardHandler)})
	ended := make(chan error, 1)
	go func() { ended <- a.Serve() }()
	bad.errs <- errors.New("no network")
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "accept test connections: no network") {
		t.Error(err)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
}
