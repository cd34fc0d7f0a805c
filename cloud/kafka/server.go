package kafka

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/storage/pause"
)

// Options of a Server. Listeners, Broker and Access are required; the zero value of any
// other field means its default.
type Options struct {
	Listeners []listener.Listener
	Broker    *broker.Broker
	Access    *access.Access // what clients may do; required

	Owner      Owner             // asked for clients while this node stands by; nil: it cannot be
	Penalties  *budget.Penalties // of addresses that showed wrong secrets; of its own
	Tokens     *bearer.Verifier  // of listeners with OAUTHBEARER
	Sessions   *login.Sessions   // of all doors; its own
	LoginTime  time.Duration     // in which a client must have logged in; 10 s
	LoginPause time.Duration     // before the answer to a login that failed; 1 s

	Conns      *budget.Conns // counts the connections of the whole process; its own
	MaxConns   int           // connections at once on each listener; 2,048
	PerAddress int           // of those, from one address; half

	MaxRequest  int           // bytes of the largest request, which is a Produce; 16 MiB
	MaxResponse int           // bytes of records in one Fetch response, give or take a batch; 16 MiB
	MaxFlying   int           // requests of one connection that are not yet answered; 64
	MemoryBytes int           // all requests of clients who have logged in, or need not, that are held at once; 32 MiB
	AnswerBytes int           // all answers that are held at once; 64 MiB
	IdleTimeout time.Duration // a connection without any request is closed; 10 min
	FrameTime   time.Duration // for a request that has begun to be complete, and for a client to take 1 MiB; 30 s

	Metrics *metrics.Set // where this server, and no other, counts; a set that nobody sees

	Log *slog.Logger     // slog.Default
	Now func() time.Time // time.Now: when logins expire
}

func (o Options) withDefaults() (Options, error) {
	if len(o.Listeners) == 0 || o.Broker == nil || o.Access == nil {
		return o, errors.New("kafka door needs a listener, a broker, and to know what clients may do")
	}
	for _, l := range o.Listeners {
		for _, m := range l.SASL {
			if !slices.Contains(login.Mechanisms(), m) || m == login.OAuthBearer && o.Tokens == nil {
				return o, fmt.Errorf("kafka door cannot offer %s on listener %q", m, l.Name)
			}
		}
	}
	o.LoginTime = cmp.Or(o.LoginTime, 10*time.Second)
	o.LoginPause = cmp.Or(o.LoginPause, time.Second)
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sessions == nil {
		o.Sessions = login.NewSessions()
	}
	o.MaxRequest = cmp.Or(o.MaxRequest, 16<<20)
	o.MaxResponse = cmp.Or(o.MaxResponse, 16<<20)
	o.MaxConns = cmp.Or(o.MaxConns, 2_048)
	o.PerAddress = cmp.Or(o.PerAddress, max(o.MaxConns/2, 1))
	o.MaxFlying = cmp.Or(o.MaxFlying, 64)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 32<<20)
	o.AnswerBytes = cmp.Or(o.AnswerBytes, 64<<20)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.FrameTime = cmp.Or(o.FrameTime, 30*time.Second)
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Conns == nil {
		o.Conns = budget.NewConns(budget.ConnsOptions{Log: o.Log})
	}
	if min(o.MaxRequest, o.MaxResponse, o.MaxConns, o.PerAddress, o.MaxFlying) < 1 {
		return o, errors.New("kafka door: limits must be positive")
	}
	return o, nil
}

// Server is the door.
type Server struct {
	o      Options
	broker *broker.Broker
	access *access.Access
	apis   []api
	count  *counters
	lines  *budget.Lines  // about clients
	gates  []*budget.Gate // of the listeners

	strangers *budget.Pool // for requests of clients who have not logged in
	memory    *budget.Pool // for those of all others
	answers   *budget.Pool
	polls     *budget.Pool    // for what is left of a Fetch while it waits for records
	buffers   *budget.Buffers // for Produces

	readers, writers sync.Pool // of *bufio.Reader and *bufio.Writer: each connection has one of both

	decode decoding
	logins *login.Logins

	ctx  context.Context // ends when the server closes
	stop context.CancelFunc
	wg   sync.WaitGroup // one for each connection, and police

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
		o:       o,
		broker:  o.Broker,
		access:  o.Access,
		lines:   budget.NewLines(budget.LinesOptions{}),
		buffers: new(budget.Buffers),
		decode:  newDecoding(),
		conns:   make(map[*conn]struct{}),
	}
	waiting := o.Metrics.GetOrCreatePrometheusHistogramExt(`weir_budget_waiting_seconds{pool="login"}`, exposition.Seconds())
	s.logins = login.New(login.Options{Users: o.Access.Users, Tokens: o.Tokens, Penalties: o.Penalties, Waited: func(d time.Duration) { waiting.Update(d.Seconds()) }})
	s.readers.New = func() any { return bufio.NewReaderSize(nil, smallFrame) }
	s.writers.New = func() any { return bufio.NewWriterSize(nil, smallFrame) }
	if err := s.makePools(); err != nil {
		return nil, err
	}
	for i := range o.Listeners {
		s.gates = append(s.gates, o.Conns.Gate(budget.GateOptions{Name: o.Listeners[i].Name, Max: o.MaxConns, PerAddress: o.PerAddress}))
	}
	s.apis = s.table()
	s.count = newCounters(o.Metrics, s.apis)
	o.Metrics.GetOrCreateGauge("weir_kafka_connections", func() float64 {
		s.mu.Lock()
		defer s.mu.Unlock()
		return float64(len(s.conns))
	})
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections until Close (nil), or until a listener fails, which
// closes the others.
func (s *Server) Serve() error {
	s.wg.Go(s.police)
	ended := make(chan error, len(s.o.Listeners))
	for i := range s.o.Listeners {
		go func() { ended <- s.listen(i) }()
	}
	var err error
	for range s.o.Listeners {
		if failed := <-ended; failed != nil && err == nil {
			err = failed
			_ = s.closeListeners()
		}
	}
	return err
}

// listen accepts connections on listener i.
func (s *Server) listen(i int) error {
	var pace pacer
	for pause := time.Duration(0); ; {
		nc, err := s.o.Listeners[i].Accept()
		if err == nil {
			pause = 0
			s.accept(nc, i)
			if err := s.wait(pace.next(time.Now())); err != nil {
				return nil
			}
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
		if err := s.wait(pause); err != nil {
			return nil
		}
	}
}

// wait returns after a while, with an error when the server has closed.
func (s *Server) wait(d time.Duration) error {
	if d <= 0 {
		return s.ctx.Err()
	}
	return pause.For(s.ctx, d)
}

// accept serves a connection to listener i, if it has a seat.
func (s *Server) accept(nc net.Conn, i int) {
	c := newConn(s, nc, &s.o.Listeners[i])
	var err error
	if c.seat, err = s.gates[i].Enter(c.from, c.giveWay); err != nil {
		s.count.refused.Inc()
		c.refuse()
		return
	}
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.conns[c] = struct{}{}
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if closed {
		c.seat.Leave()
		c.refuse()
		return
	}
	s.count.accepted.Inc()
	go func() {
		defer s.wg.Done()
		c.serve()
		c.seat.Leave()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}()
}

// Close closes the listeners and all connections, and waits until nothing of the
// door runs. Produced batches that the broker still holds are its own affair.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	err := s.closeListeners()
	s.wg.Wait()
	return err
}

// closeListeners closes those that are open.
func (s *Server) closeListeners() error {
	var errs []error
	for _, l := range s.o.Listeners {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
