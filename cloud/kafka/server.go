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

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth/bearer"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/storage/freelist"
)

// Options of a Server. Broker and Access are required; the zero value of any other field
// means its default.
type Options struct {
	Listeners []listener.Listener // none: it performs requests for clients of other nodes only
	Broker    *broker.Broker
	Access    *access.Access // what clients may do; required

	Records    *broker.Records   // of all partitions; default: of those that this node leads
	Owner      *Owner            // performs requests of clients while this node is a standby; nil: it cannot be asked
	Relay      Relay             // to the owners, for listeners with route=here
	Penalties  *budget.Penalties // of addresses with wrong secrets; default: its own
	Tokens     *bearer.Verifier  // for listeners with OAUTHBEARER
	Sessions   *login.Sessions   // of all doors; default: its own
	LoginTime  time.Duration     // a client must have logged in within this time; 10 s
	LoginPause time.Duration     // before the answer to a login that failed; 1 s

	Conns      *budget.Conns // counts the connections of the whole process; default: its own
	MaxConns   int           // connections at once on each listener; 2,048
	PerAddress int           // of those, from one address; half

	MaxTunnels int // connections at once whose clients are at other nodes; 4,096

	MaxRequest  int           // bytes of the largest request, which is a Produce; 16 MiB
	MaxResponse int           // bytes of records in one Fetch response, plus or minus a batch; 16 MiB
	MaxFlying   int           // requests of one connection without an answer; 64
	MemoryBytes int           // for requests of clients that have logged in, or need not; 32 MiB
	AnswerBytes int           // for answers; 64 MiB
	IdleTimeout time.Duration // a connection without requests is closed after this long; 10 min
	LateTime    time.Duration // an owner answers a Fetch this long after its max_wait at the latest, for a client of this node: its part is left out then; 3 s
	AnswerTime  time.Duration // likewise, any other request that it performs for such a client; 5 s, as offsets.commit.timeout.ms
	FrameTime   time.Duration // for a client to complete a request that it has begun, and to take 1 MiB; 30 s

	Metrics *measure.Registry // for this server only; default: a registry that is not shown

	Log *slog.Logger     // slog.Default
	Now func() time.Time // time.Now; for the expiry of logins
}

func (o Options) withDefaults() (Options, error) {
	if o.Broker == nil || o.Access == nil {
		return o, errors.New("kafka door needs a broker, and to know what clients may do")
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
	o.MaxTunnels = cmp.Or(o.MaxTunnels, 4_096)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 32<<20)
	o.AnswerBytes = cmp.Or(o.AnswerBytes, 64<<20)
	o.IdleTimeout = cmp.Or(o.IdleTimeout, 10*time.Minute)
	o.LateTime = cmp.Or(o.LateTime, 3*time.Second)
	o.AnswerTime = cmp.Or(o.AnswerTime, 5*time.Second)
	o.FrameTime = cmp.Or(o.FrameTime, 30*time.Second)
	if o.Metrics == nil {
		o.Metrics = measure.New()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Records == nil {
		o.Records = broker.NewRecords(o.Broker, broker.RecordsOptions{})
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
	o        Options
	broker   *broker.Broker
	access   *access.Access
	apis     []api
	acceptor *listener.Acceptor
	count    *counters
	lines    *budget.Lines // about clients

	strangers *budget.Pool // for requests of clients that have not logged in
	memory    *budget.Pool // for requests of all others
	relayed   *budget.Pool // for requests that come through tunnels
	answers   *budget.Pool
	owners    *budget.Pool   // for answers of owners to clients of this node
	polls     *budget.Pool   // for a Fetch while it waits for records
	buffers   *freelist.List // memory of Produces that were answered, for the frames of the next ones

	readers, writers sync.Pool // of *bufio.Reader and *bufio.Writer; each connection has one of each

	decode decoding
	logins *login.Logins
	shares *share.Sessions

	relays    map[kmsg.Key]relaying // how operations are passed on
	tunnelled *listener.Traffic     // of tunnels
	spreads   *share.Sessions       // of clients whose partitions several nodes lead

	ctx  context.Context // ends when the server closes
	stop context.CancelFunc
	wg   sync.WaitGroup // counts police, and connections through tunnels

	mu      sync.Mutex // guards what follows, and that no tunnel begins after Close
	conns   map[*conn]struct{}
	tunnels int
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
		buffers: freelist.New(o.MemoryBytes / 2),
		decode:  newDecoding(),
		shares:  share.NewSessions(maxShareSessions),
		conns:   make(map[*conn]struct{}),

		tunnelled: new(listener.Traffic),
		spreads:   share.NewSessions(maxShareSessions),
	}
	s.logins = login.New(login.Options{Users: o.Access.Users, Tokens: o.Tokens, Penalties: o.Penalties, Waited: o.Metrics.Waiting("login")})
	s.readers.New = func() any { return bufio.NewReaderSize(nil, smallFrame) }
	s.writers.New = func() any { return bufio.NewWriterSize(nil, smallFrame) }
	if err := s.makePools(); err != nil {
		return nil, err
	}
	s.acceptor = listener.NewAcceptor(listener.AcceptorOptions{Door: "kafka", Listeners: o.Listeners, Conns: o.Conns, MaxConns: o.MaxConns, PerAddress: o.PerAddress, Log: o.Log, Open: s.open})
	s.apis = s.table()
	s.relays = relays()
	s.count = newCounters(o.Metrics, s.apis)
	o.Metrics.Door(measure.Door{Name: "kafka", Counts: s.acceptor.Counts, Totals: totals()})
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Serve accepts connections until Close, and then returns nil. If a listener fails,
// Serve closes the others and returns the error.
func (s *Server) Serve() error {
	s.wg.Go(func() { s.answers.Police(s.ctx, s.closeStuck) })
	return s.acceptor.Serve()
}

// open makes a connection from one that a listener has accepted.
func (s *Server) open(nc net.Conn, l *listener.Listener) listener.Conn {
	c := newConn(s, nc, l)
	return listener.Conn{From: c.from, GiveWay: c.giveWay, Refuse: c.refuse, Serve: func(seat *budget.Seat) {
		c.seat = seat
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		c.serve()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.conns, c)
	}}
}

// Close closes the listeners and all connections, and waits until none of the door's
// goroutines runs. It does not wait for batches that the broker still holds.
func (s *Server) Close() error {
	s.mu.Lock()
	s.stop()
	s.mu.Unlock()
	err := s.acceptor.Close()
	s.wg.Wait()
	return err
}
