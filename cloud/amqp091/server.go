package amqp091

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/queue"
)

// Options of a Server. Queues and Access are required; the zero value of any other field
// means its default.
type Options struct {
	Listeners []listener.Listener                       // none: all clients are at other nodes
	Queues    func(vhost string) (*queue.Engine, error) // an error: this node does not have the vhost
	Access    *access.Access                            // what clients may do

	// Sure waits until this node may tell clients what it knows, see broker.Broker.AwaitSure.
	// Confirm returns nil if the bucket says that this node still has a vhost. A client is told
	// only then that something does not exist. nil: it is so.
	Sure    func(ctx context.Context)
	Confirm func(ctx context.Context, vhost string) error

	// Remote opens a tunnel to the node that has t.Vhost; nil: clients of such vhosts are
	// told to go.
	Remote func(ctx context.Context, t Tunnel) (io.ReadWriteCloser, error)

	// TopicOf returns a topic that gets what is published to amq.topic with a routing key, ""
	// if none does; may reports whether the publisher may do op to a topic; default: none does.
	TopicOf func(ctx context.Context, key string, may func(op auth.Operation, topic string) bool) (string, error)

	Penalties  *budget.Penalties // of addresses with wrong secrets; default: its own
	Sessions   *login.Sessions   // of all doors; default: its own
	LoginTime  time.Duration     // a client must have opened its vhost within this time; 10 s
	LoginPause time.Duration     // before the answer to a login that failed; 1 s

	Conns      *budget.Conns // counts the connections of the whole process; default: its own
	MaxConns   int           // connections at once on each listener; 2,048
	PerAddress int           // of those, from one address; half

	MaxBody      int           // bytes of the largest message body; 4 MiB - 16 KiB
	MemoryBytes  int           // of messages that arrive and that are not durable yet; 32 MiB
	AnswerBytes  int           // of what clients have not read yet; 64 MiB
	PendingBytes int           // of publishes in transactions that are not committed; 16 MiB
	Heartbeat    time.Duration // that clients are asked for, in whole seconds; 60 s
	WriteTime    time.Duration // for a client to take what is written to it; 30 s

	Metrics *measure.Registry // for this server only; default: a registry that is not shown
	Version string            // of this program, in the server's properties; default: none

	Log *slog.Logger     // slog.Default
	Now func() time.Time // time.Now; for the expiry of logins
}

// What the door offers in connection.tune, as RabbitMQ does.
const (
	maxChannels = 2047
	maxFrame    = 128 << 10
)

func (o Options) withDefaults() (Options, error) {
	if o.Queues == nil || o.Access == nil {
		return o, errors.New("AMQP door needs the queues, and to know what clients may do")
	}
	for i := range o.Listeners {
		if err := checkMechanisms(&o.Listeners[i]); err != nil {
			return o, err
		}
	}
	if o.Sure == nil {
		o.Sure = func(context.Context) {}
	}
	if o.Confirm == nil {
		o.Confirm = func(context.Context, string) error { return nil }
	}
	o.LoginTime = cmp.Or(o.LoginTime, 10*time.Second)
	o.LoginPause = cmp.Or(o.LoginPause, time.Second)
	o.Heartbeat = cmp.Or(o.Heartbeat, time.Minute)
	o.WriteTime = cmp.Or(o.WriteTime, 30*time.Second)
	o.MaxConns = cmp.Or(o.MaxConns, 2_048)
	o.PerAddress = cmp.Or(o.PerAddress, max(o.MaxConns/2, 1))
	o.MaxBody = cmp.Or(o.MaxBody, 4<<20-16<<10)
	o.MemoryBytes = cmp.Or(o.MemoryBytes, 32<<20)
	o.AnswerBytes = cmp.Or(o.AnswerBytes, 64<<20)
	o.PendingBytes = cmp.Or(o.PendingBytes, 16<<20)
	if o.TopicOf == nil {
		o.TopicOf = func(context.Context, string, func(auth.Operation, string) bool) (string, error) { return "", nil }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sessions == nil {
		o.Sessions = login.NewSessions()
	}
	if o.Metrics == nil {
		o.Metrics = measure.New()
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Conns == nil {
		o.Conns = budget.NewConns(budget.ConnsOptions{Log: o.Log})
	}
	if min(o.MaxConns, o.PerAddress, o.MaxBody, o.MemoryBytes, o.AnswerBytes, o.PendingBytes) < 1 {
		return o, errors.New("AMQP door: limits must be positive")
	}
	return o, nil
}

// Server is the door.
type Server struct {
	o        Options
	acceptor *listener.Acceptor
	logins   *login.Logins
	lines    *budget.Lines // about clients
	count    *counters

	memory  *budget.Pool // of messages that arrive
	answers *budget.Pool // of what is written to clients
	pending *budget.Pool // of transactions

	name     string // of this run, in the names of sessions
	sessions atomic.Uint64
	replies  replies // clients that wait for direct replies
	bursts   bursts
	spare    wire.Spare // memory of writers

	ctx  context.Context // ends when the server closes
	stop context.CancelFunc
	wg   sync.WaitGroup // counts police

	tunnelled *listener.Listener // of connections whose clients have logged in at other nodes
	serving   sync.WaitGroup     // counts those

	mu      sync.Mutex
	conns   map[*conn]struct{} // guarded by mu
	tunnels int                // of conns; guarded by mu
	closed  bool               // guarded by mu
}

// New checks the options. The door opens with Serve.
func New(o Options) (*Server, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Server{
		o:     o,
		lines: budget.NewLines(budget.LinesOptions{}),
		count: newCounters(o.Metrics),
		name:  randomName(),
		conns: make(map[*conn]struct{}),

		tunnelled: tunnelListener(),
	}
	s.logins = login.New(login.Options{Users: o.Access.Users, Penalties: o.Penalties, Waited: o.Metrics.Waiting("amqp_login")})
	if err := s.makePools(); err != nil {
		return nil, err
	}
	s.acceptor = listener.NewAcceptor(listener.AcceptorOptions{Door: "amqp", Listeners: o.Listeners, Conns: o.Conns, MaxConns: o.MaxConns, PerAddress: o.PerAddress, Log: o.Log, Open: s.open})
	o.Metrics.Door(measure.Door{Name: "amqp", Counts: s.acceptor.Counts})
	s.ctx, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// randomName returns 22 characters that nobody can guess.
func randomName() string {
	var b [16]byte
	rand.Read(b[:]) // never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// nextSession returns the name of a new session. No other one ever has it.
func (s *Server) nextSession() string {
	return s.name + "." + strconv.FormatUint(s.sessions.Add(1), 10)
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

// shutdownTime is how long clients have to answer that the server closes.
const shutdownTime = 500 * time.Millisecond

// Close tells the clients, closes the listeners and all connections, and waits until none
// of the door's goroutines runs.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.fail(&wire.Error{Code: wire.ConnectionForced, Text: "broker forced connection closure with reason 'shutdown'"})
	}
	s.mu.Unlock()
	defer time.AfterFunc(shutdownTime, s.stop).Stop()
	err := s.acceptor.Close()
	s.serving.Wait() // their clients are told, too
	s.stop()
	s.wg.Wait()
	return err
}

// makePools makes the pools of memory and their metrics.
func (s *Server) makePools() (err error) {
	largest := int64(arrivingBytes(s.o.MaxBody))
	for _, p := range []struct {
		pool **budget.Pool
		o    budget.PoolOptions
	}{
		{&s.memory, budget.PoolOptions{Name: "amqp_messages", Bytes: int64(s.o.MemoryBytes), Largest: largest, Peer: max(largest, int64(s.o.MemoryBytes)/4)}},
		{&s.answers, budget.PoolOptions{Name: "amqp_answers", Bytes: int64(s.o.AnswerBytes), Largest: int64(s.o.AnswerBytes) / 4}},
		{&s.pending, budget.PoolOptions{Name: "amqp_transactions", Bytes: int64(s.o.PendingBytes), Reserve: 1, Largest: int64(s.o.MaxBody) + smallMessage, Peer: int64(s.o.PendingBytes) / 2}},
	} {
		p.o.Small, p.o.Log = smallMessage, s.o.Log
		if *p.pool, err = s.o.Metrics.Pool(p.o); err != nil {
			return fmt.Errorf("AMQP door: %w", err)
		}
	}
	return nil
}

// smallMessage is how many bytes of messages count as a small request for memory.
const smallMessage = 40 << 10

// arrivingBytes is the most memory of one connection for bodies that have not arrived
// whole: clients may send bodies on several channels at once.
func arrivingBytes(maxBody int) int { return 2 * maxBody }

// closeStuck closes connections whose clients have read nothing since before.
func (s *Server) closeStuck(before time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if since := c.stuck.Load(); since != 0 && since < before.UnixNano() {
			c.cancel(budget.ErrUnread)
		}
	}
}
