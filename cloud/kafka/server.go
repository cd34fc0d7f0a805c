package kafka

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/broker"
)

// Options of a Server. Listener and Broker are required; the zero value of any
// other field means its default.
type Options struct {
	Listener net.Listener
	Broker   *broker.Broker

	MaxRequest  int           // bytes of the largest request, which is a Produce; 16 MiB
	MaxResponse int           // bytes of records in one Fetch response, give or take a batch; 16 MiB
	MaxConns    int           // connections at once; 2,048
	MaxFlying   int           // requests of one connection that are not yet answered; 64
	MemoryBytes int           // all requests that are held at once; 256 MiB
	IdleTimeout time.Duration // a connection without any request is closed; 10 min
	FrameTime   time.Duration // for a request that has begun to be complete, and for a client to take 1 MiB; 30 s

	Log *slog.Logger // slog.Default
}

func (o Options) withDefaults() (Options, error) {
	if o.Listener == nil || o.Broker == nil {
		return o, errors.New("kafka door needs a listener and a broker")
	}
	o.MaxRequest = cmp.Or(o.MaxRequest, 16<<20)
	o.MaxResponse = cmp.Or(o.MaxResponse, 16<<20)
	o.MaxConns = cmp.Or(o.MaxConns, 2_048)
	o.MaxFlying = cmp.Or(o.MaxFlying, 64)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 256<<20)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.FrameTime = cmp.Or(o.FrameTime, 30*time.Second)
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if min(o.MaxRequest, o.MaxResponse, o.MaxConns, o.MaxFlying) < 1 || o.MemoryBytes < o.MaxRequest {
		return o, fmt.Errorf("kafka door: limits must be positive, and the memory for requests (%d) hold one of the largest (%d)", o.MemoryBytes, o.MaxRequest)
	}
	return o, nil
}

// Server is the door.
type Server struct {
	o      Options
	broker *broker.Broker
	apis   []api
	memory *budget       // for requests, of all connections
	decode chan struct{} // one token: who decodes a large request that is no Produce

	ctx  context.Context // ends when the server closes
	stop context.CancelFunc
	wg   sync.WaitGroup // one for each connection

	mu     sync.Mutex
	conns  map[*conn]struct{}
	closed bool
}

// New checks the options. The door opens with Serve.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o:      o,
		broker: o.Broker,
		memory: newBudget(o.MemoryBytes),
		decode: make(chan struct{}, 1),
		conns:  make(map[*conn]struct{}),
	}
	s.apis = s.table()
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections until Close (nil), or until the listener fails.
func (s *Server) Serve() error {
	for pause := time.Duration(0); ; {
		nc, err := s.o.Listener.Accept()
		if err == nil {
			pause = 0
			s.accept(nc)
			continue
		}
		if s.ctx.Err() != nil {
			return nil
		}
		// Out of file descriptors, or a peer that is gone already: it passes.
		var temporary interface{ Temporary() bool }
		if !errors.As(err, &temporary) || !temporary.Temporary() {
			return fmt.Errorf("accept kafka connections: %w", err)
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		s.o.Log.Warn("kafka connection not accepted", "err", err, "pause", pause)
		select {
		case <-time.After(pause):
		case <-s.ctx.Done():
			return nil
		}
	}
}

func (s *Server) accept(nc net.Conn) {
	c := newConn(s, nc)
	s.mu.Lock()
	full, closed := len(s.conns) >= s.o.MaxConns, s.closed
	if !full && !closed {
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if full && !closed {
		s.o.Log.Warn("kafka connection refused", "peer", nc.RemoteAddr(), "err", fmt.Sprintf("%d connections are open", s.o.MaxConns))
	}
	if full || closed {
		_ = nc.Close()
		return
	}
	go func() {
		defer s.wg.Done()
		c.serve(s.ctx)
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
}

// Close closes the listener and all connections, and waits until nothing of the
// door runs. Produced batches that the broker still holds are its own affair.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	err := s.o.Listener.Close()
	s.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
