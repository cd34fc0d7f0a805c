package mqtt

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Options configures a Server. Listeners, Backend and Store are needed; every
// other zero value stands for the default in its comment.
type Options struct {
	Listeners []net.Listener // plain or TLS; the Server closes them
	Backend   Backend
	Store     Store // the Server closes it

	// Authenticate decides about a CONNECT: nil, ErrBadCredentials,
	// ErrNotAllowed, or another error for "unavailable". Without it everyone
	// is let in. It may be slow; at most one call per CPU runs at a time.
	Authenticate func(Connect) error

	// AllowSubscribe decides about one topic filter (with its $share prefix).
	// Without it everything is allowed.
	AllowSubscribe func(clientID, username, filter string) bool

	MaxConnections    int    // 10000
	MaxConnecting     int    // connections before their CONNECT; 512
	MaxPacketSize     int    // bytes of a whole packet, inbound; 1 MiB
	MaxConnectSize    int    // bytes of a CONNECT packet; 64 KiB
	ReceiveMaximum    uint16 // unacknowledged PUBLISH packets of one client; 256
	TopicAliasMaximum uint16 // inbound aliases per connection; 64
	MaxTopicLevels    int    // 64
	ServerKeepAlive   uint16 // seconds; longest keep alive granted to MQTT 5 clients, 0: whatever they ask

	MaxSessions      int           // connected and kept; 20000
	MaxSessionExpiry time.Duration // of a kept session, 3.x too; 0: none
	MaxSubscriptions int           // per session; 1024
	MaxInflight      int           // PUBLISH packets unacknowledged by one subscriber; 256
	MaxQueued        int           // messages waiting for one subscriber; 1000
	MaxQueuedBytes   int           // their bytes, and those in flight; 1 MiB
	MaxQueuedTotal   int           // bytes waiting for all subscribers; 64 MiB
	MaxRetained      int           // topics; 10000
	MaxRetainedBytes int           // 16 MiB

	QueueMessages int // waiting for the committer; 8192
	QueueBytes    int // 8 MiB
	BatchMessages int // 4096
	BatchBytes    int // 1 MiB

	ConnectTimeout time.Duration // from accept to CONNECT; 5 s
	WriteTimeout   time.Duration // a peer that takes nothing for so long is cut off; 30 s
	WriteBuffer    int           // bytes waiting for one socket; 256 KiB

	Log     *slog.Logger // slog.Default()
	Metrics *metrics.Set // a private one
}

func (o *Options) validate() error {
	if o.Backend == nil || o.Store == nil {
		return errors.New("mqtt needs a backend and a state store")
	}
	defaults := []struct {
		field *int
		value int
	}{
		{&o.MaxConnections, 10000}, {&o.MaxConnecting, 512},
		{&o.MaxPacketSize, 1 << 20}, {&o.MaxConnectSize, 64 << 10},
		{&o.MaxTopicLevels, 64}, {&o.MaxSessions, 20000},
		{&o.MaxSubscriptions, 1024}, {&o.MaxInflight, 256},
		{&o.MaxQueued, 1000}, {&o.MaxQueuedBytes, 1 << 20}, {&o.MaxQueuedTotal, 64 << 20},
		{&o.MaxRetained, 10000}, {&o.MaxRetainedBytes, 16 << 20},
		{&o.QueueMessages, 8192}, {&o.QueueBytes, 8 << 20},
		{&o.BatchMessages, 4096}, {&o.BatchBytes, 1 << 20},
		{&o.WriteBuffer, 256 << 10},
	}
	for _, d := range defaults {
		if *d.field == 0 {
			*d.field = d.value
		}
		if *d.field < 0 {
			return errors.New("mqtt: a limit is negative")
		}
	}
	if o.MaxPacketSize > maxFrame {
		return fmt.Errorf("mqtt: largest packet %d is above the protocol's %d", o.MaxPacketSize, maxFrame)
	}
	o.MaxInflight = min(o.MaxInflight, 65535)
	if o.ReceiveMaximum == 0 {
		o.ReceiveMaximum = 256
	}
	if o.TopicAliasMaximum == 0 {
		o.TopicAliasMaximum = 64
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	if o.WriteTimeout == 0 {
		o.WriteTimeout = 30 * time.Second
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Metrics == nil {
		o.Metrics = metrics.NewSet()
	}
	return nil
}

// Server is an MQTT server. New makes one, Serve runs it, Close ends it.
type Server struct {
	o          Options
	log        *slog.Logger
	count      *counters
	queue      *queue
	committer  *committer
	dispatcher *dispatcher
	buffers    sync.Pool     // *bytes.Buffer of outboxes
	auth       chan struct{} // one token per running Authenticate
	connecting chan struct{} // one token per connection before its CONNECT

	mu      sync.Mutex
	conns   map[*conn]struct{} // guarded by mu
	closed  bool               // guarded by mu
	serving bool               // guarded by mu: Serve was called
	done    chan struct{}      // closed when Close has finished
	closing chan struct{}      // closed when Close begins
	readers sync.WaitGroup     // accept loops and connections
	workers sync.WaitGroup     // committer and dispatcher
}

// New loads the state and makes a server that does not listen yet. QoS 2
// packet ids whose message the Backend does not hold are forgotten: their
// clients were never told that it does.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		o:          o,
		log:        o.Log,
		count:      newCounters(o.Metrics),
		queue:      newQueue(o.QueueMessages, o.QueueBytes),
		auth:       make(chan struct{}, runtime.GOMAXPROCS(0)),
		connecting: make(chan struct{}, o.MaxConnecting),
		conns:      make(map[*conn]struct{}),
		done:       make(chan struct{}),
		closing:    make(chan struct{}),
	}
	s.buffers.New = newBuffer
	l := newLedger(o.MaxRetained, o.MaxRetainedBytes)
	loaded, err := l.load(o.Store)
	if err != nil {
		return nil, fmt.Errorf("load mqtt state: %w", err)
	}
	l.forget(o.Backend.Stored)
	s.dispatcher = newDispatcher(s)
	s.dispatcher.restore(l)
	s.committer = newCommitter(s, l, loaded)
	s.count.attach(s, o.Metrics)
	return s, nil
}

// Serve accepts connections until Close is called, which makes it return
// ErrClosed, or until a listener fails. It returns when every goroutine of
// the server has ended.
func (s *Server) Serve() error {
	s.mu.Lock()
	if s.closed || s.serving {
		s.mu.Unlock()
		return ErrClosed
	}
	s.serving = true
	failed := make(chan error, len(s.o.Listeners))
	s.workers.Go(s.committer.run)
	s.workers.Go(s.dispatcher.run)
	for _, l := range s.o.Listeners {
		s.readers.Go(func() {
			if err := s.accept(l); err != nil {
				failed <- err
			}
		})
	}
	s.mu.Unlock()

	var cause error
	select {
	case cause = <-failed:
	case <-s.closing:
		cause = ErrClosed
	}
	err := s.Close()
	if cause == ErrClosed && err != nil {
		return err
	}
	return cause
}

// accept hands every new connection to its reader. Running out of file
// descriptors is waited out: the connections that are there matter more.
func (s *Server) accept(l net.Listener) error {
	for {
		nc, err := l.Accept()
		if err != nil {
			select {
			case <-s.closing:
				return nil
			default:
			}
			var ne net.Error
			if !errors.As(err, &ne) || !ne.Timeout() && !tooManyFiles(err) {
				return fmt.Errorf("accept on %s: %w", l.Addr(), err)
			}
			s.log.Warn("cannot accept a connection", "listener", l.Addr(), "error", err)
			select {
			case <-s.closing:
				return nil
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		s.admit(nc)
	}
}

// admit starts the reader of a new connection, or closes it when there are
// too many. While too many are before their CONNECT it waits: the others stay
// in the kernel's backlog, and each is through after ConnectTimeout.
func (s *Server) admit(nc net.Conn) {
	select {
	case s.connecting <- struct{}{}:
	case <-s.closing:
		nc.Close()
		return
	}
	s.mu.Lock()
	if s.closed || len(s.conns) >= s.o.MaxConnections {
		s.mu.Unlock()
		<-s.connecting
		s.count.refused.Inc()
		nc.Close()
		return
	}
	c := newConn(s, nc)
	s.conns[c] = struct{}{}
	s.readers.Add(1)
	s.mu.Unlock()
	s.count.accepted.Inc()
	go func() {
		defer s.readers.Done()
		c.serve()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
}

// Close stops accepting, tells MQTT 5 clients that the server shuts down
// (0x8B), publishes the wills, waits until everything that was read is
// durable and dispatched, and closes the state store. Calls after the first
// wait for the same end.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		<-s.done
		return nil
	}
	s.closed = true
	close(s.closing)
	serving := s.serving
	for c := range s.conns {
		go c.shutDown()
	}
	s.mu.Unlock()

	for _, l := range s.o.Listeners {
		l.Close()
	}
	s.readers.Wait()
	s.queue.close()
	if serving {
		s.workers.Wait()
	}
	err := s.o.Store.Close()
	close(s.done)
	if err != nil {
		return fmt.Errorf("close mqtt state: %w", err)
	}
	return nil
}

// tooManyFiles reports whether accept failed for want of a descriptor.
func tooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
