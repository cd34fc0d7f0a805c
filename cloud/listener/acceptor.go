package listener

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/pause"
)

// acceptRate is how many connections a listener accepts per second, and acceptBurst
// how many at once beyond that. More would take time from the open connections.
const (
	acceptRate  = 5_000
	acceptBurst = 1_000
)

// AcceptorOptions configure an Acceptor. All fields are required.
type AcceptorOptions struct {
	Door       string // for errors and log lines
	Listeners  []Listener
	Conns      *budget.Conns // counts the connections of the whole process
	MaxConns   int           // connections at once on each listener
	PerAddress int           // of those, from one address
	Log        *slog.Logger

	// Open makes a connection of the door from an accepted one. It must not wait.
	Open func(nc net.Conn, l *Listener) Conn
}

// Conn is a connection as an Acceptor knows it.
type Conn struct {
	From    netip.Addr         // the address for which it is counted
	GiveWay func()             // closes it, because another connection gets its seat. It must not wait
	Refuse  func()             // closes it instead of Serve: no seat is free, or the door has closed
	Serve   func(*budget.Seat) // returns when it is closed and none of its goroutines runs
}

// Acceptor accepts the connections of a door on all its listeners, no faster than
// acceptRate, and serves those that get a seat. A door makes one and calls Serve. To
// stop, it closes its connections and calls Close.
type Acceptor struct {
	o      AcceptorOptions
	gates  []*budget.Gate // of the listeners
	ctx    context.Context
	stop   context.CancelFunc
	serves sync.WaitGroup // counts connections that are served

	mu     sync.Mutex
	closed bool // guarded by mu: nothing is added to serves any more
}

// NewAcceptor returns an Acceptor of listeners that are open.
func NewAcceptor(o AcceptorOptions) *Acceptor {
	a := &Acceptor{o: o}
	a.ctx, a.stop = context.WithCancel(context.Background())
	for i := range o.Listeners {
		if o.Listeners[i].Traffic == nil {
			o.Listeners[i].Traffic = new(Traffic)
		}
		a.gates = append(a.gates, o.Conns.Gate(budget.GateOptions{Name: o.Listeners[i].Name, Max: o.MaxConns, PerAddress: o.PerAddress}))
	}
	return a
}

// Counts returns what the Acceptor and its door have counted, for each listener.
func (a *Acceptor) Counts() []Counts {
	var all []Counts
	for i, g := range a.gates {
		l := &a.o.Listeners[i]
		all = append(all, l.Traffic.Counts(l.Name, g.Counts()))
	}
	return all
}

// Serve accepts connections until Close, and then returns nil. If a listener fails,
// Serve closes the others and returns the error.
func (a *Acceptor) Serve() error {
	ended := make(chan error, len(a.o.Listeners))
	for i := range a.o.Listeners {
		go func() { ended <- a.listen(i) }()
	}
	var err error
	for range a.o.Listeners {
		if failed := <-ended; failed != nil && err == nil {
			err = failed
			_ = a.closeListeners()
		}
	}
	return err
}

// listen accepts connections on listener i.
func (a *Acceptor) listen(i int) error {
	var pace pacer
	for rest := time.Duration(0); ; {
		nc, err := a.o.Listeners[i].Accept()
		if err == nil {
			rest = 0
			a.accept(nc, i)
			if err := a.wait(pace.next(time.Now())); err != nil {
				return nil
			}
			continue
		}
		if a.ctx.Err() != nil {
			return nil
		}
		// The process is out of file descriptors, or the peer has gone already: try again.
		if op, ok := errors.AsType[*net.OpError](err); !ok || !op.Temporary() {
			return fmt.Errorf("accept %s connections: %w", a.o.Door, err)
		}
		rest = min(max(2*rest, 5*time.Millisecond), time.Second)
		a.o.Log.Warn(a.o.Door+" connection not accepted: trying again", "err", err, "retry_in", rest)
		if err := a.wait(rest); err != nil {
			return nil
		}
	}
}

// wait returns after d, with an error if the door has closed.
func (a *Acceptor) wait(d time.Duration) error {
	if d <= 0 {
		return a.ctx.Err()
	}
	return pause.For(a.ctx, d)
}

// accept serves a connection to listener i, if it has a seat.
func (a *Acceptor) accept(nc net.Conn, i int) {
	c := a.o.Open(nc, &a.o.Listeners[i])
	seat, err := a.gates[i].Enter(c.From, c.GiveWay)
	if err != nil {
		c.Refuse()
		return
	}
	a.mu.Lock()
	closed := a.closed
	if !closed {
		a.serves.Add(1)
	}
	a.mu.Unlock()
	if closed {
		seat.Leave()
		c.Refuse()
		return
	}
	go func() {
		defer a.serves.Done()
		defer seat.Leave()
		c.Serve(seat)
	}()
}

// Close closes the listeners and waits until no connection is served. The door itself
// ends the connections.
func (a *Acceptor) Close() error {
	a.mu.Lock()
	a.closed = true
	a.mu.Unlock()
	a.stop()
	err := a.closeListeners()
	a.serves.Wait()
	return err
}

// closeListeners closes those that are open.
func (a *Acceptor) closeListeners() error {
	var errs []error
	for _, l := range a.o.Listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// pacer computes how long to wait before the next connection is accepted.
type pacer struct {
	spent  float64 // of the burst
	latest time.Time
}

func (p *pacer) next(now time.Time) time.Duration {
	p.spent = max(p.spent-now.Sub(p.latest).Seconds()*acceptRate, 0) + 1
	p.latest = now
	if p.spent <= acceptBurst {
		return 0
	}
	return time.Duration((p.spent - acceptBurst) / acceptRate * float64(time.Second))
}
