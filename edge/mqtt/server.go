package mqtt

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/budget"
)

// Options configures a Server. Listeners, Backend and Store are required. A zero value in
// any other field stands for the default in its comment.
type Options struct {
	Listeners []net.Listener // plain or TLS; the Server closes them
	Backend   Backend
	Store     Store // the Server closes it

	// Owed keeps what sessions that outlive their connection are owed at QoS 1 and 2.
	// Without it their queues are in memory and end with the process. The Server closes
	// it.
	Owed *OwedLog

	// Authenticate decides about a CONNECT. It returns nil, ErrBadCredentials,
	// ErrNotAllowed, or another error for "unavailable". Without it every client may
	// connect. It may take up to LoginTimeout, and must return when its context ends. It
	// must limit its own work. The method of Users is one.
	Authenticate func(context.Context, Connect) error

	May Permissions // what clients may do

	MaxConnections    int    // of each listener; 2000
	MaxPerAddress     int    // from one address, of MaxConnections; half of MaxConnections
	MaxConnecting     int    // not logged in yet, of MaxConnections; an eighth of MaxConnections, 256 at most
	MaxPacketSize     int    // bytes of a whole packet, inbound; 1 MiB
	MaxConnectSize    int    // bytes of a CONNECT packet; 64 KiB
	ReceiveMaximum    uint16 // unacknowledged PUBLISH packets of one client; 256
	TopicAliasMaximum uint16 // inbound aliases per connection; 64
	MaxTopicLevels    int    // of topics and filters; 200
	ServerKeepAlive   uint16 // seconds; longest keep alive granted to MQTT 5 clients, 0: whatever they ask

	// What clients make the server remember. When the room for it is used up, sessions
	// without connection are ended, the oldest first.
	MaxState         int           // bytes of sessions, subscriptions, packet ids, wills, aliases, queues and retained messages; 16 MiB
	MaxClientState   int           // bytes of the same for one client, and as many of messages in its queue; 1 MiB
	MaxSessions      int           // sessions that outlive their connection; 10000
	MaxSessionExpiry time.Duration // of a session without connection, 3.x too; 0: none
	MaxSubscriptions int           // per session; 1024
	MaxInflight      int           // PUBLISH packets unacknowledged by one subscriber; 256
	MaxQueued        int           // QoS 1 and 2 messages waiting for one subscriber; 1000
	MaxQueuedBytes   int           // bytes of these messages, and as many of QoS 0, and as many in flight; twice MaxClientState
	MaxClientOwed    int           // bytes of Owed that one session may have; a quarter of all
	MaxQueuedTotal   int           // bytes waiting for all subscribers; half of MaxState
	MaxRetained      int           // topics; 10000
	MaxRetainedBytes int           // nine sixteenths of MaxState

	MaxArriving int // bytes of packets that are arriving, a quarter of it from one address; 8 MiB, and 4 packets of MaxPacketSize at least
	MaxOutgoing int // bytes that wait for all sockets; 4 MiB

	SystemInterval time.Duration // between two reports below $SYS; 0: none
	Software       string        // name and version, as $SYS/broker/version has it

	QueueMessages int // waiting for the committer; 8192
	QueueBytes    int // 8 MiB
	BatchMessages int // 4096
	BatchBytes    int // 1 MiB

	ConnectTimeout time.Duration // from accept to CONNECT; 5 s, and 2 s at most when many connect
	LoginTimeout   time.Duration // from CONNECT to the end of Authenticate; 30 s
	PacketTimeout  time.Duration // for the rest of a packet whose first byte came, longer for a large one; 30 s
	PacketRate     int           // bytes a second: a slower large packet is cut off; 2048
	WriteTimeout   time.Duration // a peer that takes nothing for this long is disconnected; 30 s
	WriteBuffer    int           // bytes waiting for one socket; 256 KiB

	Log     *slog.Logger // slog.Default()
	Metrics *metrics.Set // a private one
}

func (o *Options) validate() error {
	if o.Backend == nil || o.Store == nil {
		return errors.New("mqtt needs a backend and a state store")
	}
	if o.MaxState == 0 {
		o.MaxState = 16 << 20
	}
	if o.MaxClientState == 0 {
		o.MaxClientState = min(1<<20, o.MaxState/2)
	}
	defaults := []struct {
		field *int
		value int
	}{
		{&o.MaxConnections, 2000},
		{&o.MaxPacketSize, 1 << 20}, {&o.MaxConnectSize, 64 << 10},
		{&o.MaxTopicLevels, 200}, {&o.MaxSessions, 10000},
		{&o.MaxSubscriptions, 1024}, {&o.MaxInflight, 256},
		{&o.MaxQueued, 1000}, {&o.MaxQueuedBytes, 2 * o.MaxClientState}, {&o.MaxQueuedTotal, o.MaxState / 2},
		{&o.MaxRetained, 10000}, {&o.MaxRetainedBytes, o.MaxState / 16 * 9},
		{&o.QueueMessages, 8192}, {&o.QueueBytes, 8 << 20},
		{&o.BatchMessages, 4096}, {&o.BatchBytes, 1 << 20},
		{&o.WriteBuffer, 256 << 10}, {&o.MaxOutgoing, 4 << 20}, {&o.PacketRate, 2 << 10},
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
	o.MaxPerAddress = cmp.Or(o.MaxPerAddress, max(1, o.MaxConnections/2))
	o.MaxConnecting = cmp.Or(o.MaxConnecting, max(1, min(o.MaxConnections/8, 256)))
	o.MaxConnectSize = min(o.MaxConnectSize, o.MaxPacketSize)
	o.MaxArriving = max(cmp.Or(o.MaxArriving, 8<<20), 4*o.MaxPacketSize)
	o.MaxInflight = min(o.MaxInflight, 10000) // fewer than there are packet ids of each kind
	if o.Owed != nil && o.MaxClientOwed == 0 {
		o.MaxClientOwed = int(o.Owed.limit / 4)
	}
	if o.ReceiveMaximum == 0 {
		o.ReceiveMaximum = 256
	}
	if o.TopicAliasMaximum == 0 {
		o.TopicAliasMaximum = 64
	}
	if o.ConnectTimeout == 0 {
		o.ConnectTimeout = 5 * time.Second
	}
	o.LoginTimeout = cmp.Or(o.LoginTimeout, 30*time.Second)
	o.PacketTimeout = cmp.Or(o.PacketTimeout, 30*time.Second)
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
	memory     *memoryUse
	stateFull  *budget.Episode // sessions are ended for lack of room
	troubles   troubles
	owedFull   *budget.Episode // the log of what is owed is full
	changes    changes
	loaders    sync.WaitGroup // goroutines that read what is owed
	reading    chan struct{}  // one token for each goroutine that reads
	queue      *queue
	committer  *committer
	dispatcher *dispatcher
	buffers    sync.Pool // *bytes.Buffer of outboxes
	outgoing   outgoing
	arriving   *budget.Pool   // for packets of logged-in clients, while they arrive
	connecting *budget.Pool   // for CONNECT packets, while they arrive
	gates      []*budget.Gate // one per listener
	lines      *budget.Lines  // log lines about misbehaving peers
	denials    denials
	began      time.Time
	logins     atomic.Uint64   // number of calls of Expel
	ctx        context.Context // ends when Close begins
	cancel     context.CancelFunc

	mu          sync.Mutex
	conns       map[*conn]struct{} // guarded by mu
	newest      map[string]*conn   // guarded by mu; by client id, of logged-in clients
	mostClients int                // guarded by mu; most connections at one time
	closed      bool               // guarded by mu
	serving     bool               // guarded by mu: Serve was called
	done        chan struct{}      // closed when Close has finished
	closing     chan struct{}      // closed when Close begins
	readers     sync.WaitGroup     // accept loops and connections
	enders      sync.WaitGroup     // goroutines that send DISCONNECT for Close
	senders     sync.WaitGroup     // goroutines that send to sockets; none starts when all of the above have ended
	workers     sync.WaitGroup     // committer and dispatcher
}

// New loads the state and makes a server that does not listen yet. It drops QoS 2 packet ids
// whose message the Backend does not hold: it was never acknowledged.
func New(o Options) (*Server, error) {
	if err := o.validate(); err != nil {
		return nil, err
	}
	s := &Server{
		o:       o,
		log:     o.Log,
		count:   newCounters(o.Metrics),
		queue:   newQueue(o.QueueMessages, o.QueueBytes),
		lines:   budget.NewLines(budget.LinesOptions{Burst: lineBurst}),
		conns:   make(map[*conn]struct{}),
		newest:  make(map[string]*conn),
		done:    make(chan struct{}),
		closing: make(chan struct{}),
		reading: make(chan struct{}, maxReading),
	}
	s.began = time.Now()
	s.denials.clients = make(map[string]*denial)
	s.changes.wake = s.queue.wake
	s.buffers.New = newBuffer
	s.outgoing.limit, s.outgoing.sweep = int64(o.MaxOutgoing), s.cutStalled
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.openBudgets(); err != nil {
		return nil, err
	}
	s.stateFull = budget.NewEpisode(budget.EpisodeOptions{
		Begin: "--mqtt-sessions or --mqtt-state is used up: the oldest sessions without a connection end",
		End:   "there is room for MQTT sessions again", Log: o.Log})
	s.owedFull = budget.NewEpisode(budget.EpisodeOptions{
		Begin: "--mqtt-owed is used up: the oldest messages for sessions without a connection are dropped",
		End:   "messages for sessions without a connection are within --mqtt-owed again", Log: o.Log})
	s.troubles = newTroubles(o.Log)
	s.memory = newMemoryUse(&o)
	l := newState(&o, s.memory)
	loaded, over, err := l.load(o.Store)
	if err != nil {
		return nil, fmt.Errorf("load mqtt state: %w", err)
	}
	if over != (trimmed{}) {
		s.log.Warn("the stored MQTT state exceeds the limits: the rest is dropped; raise --mqtt-state to keep more",
			"bytes", loaded, "sessions", over.sessions, "subscriptions", over.subscriptions,
			"packet_ids", over.ids, "retained", over.retained, "wills", over.wills)
	}
	changed, err := s.loadOwed(l)
	if err != nil {
		return nil, err
	}
	s.dispatcher = newDispatcher(s)
	s.dispatcher.restore(l)
	s.committer = newCommitter(s, l, loaded)
	if changed || over != (trimmed{}) {
		s.committer.rewrite() // otherwise the next start leaves the same out again
	}
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
	if s.o.SystemInterval > 0 {
		s.readers.Go(s.reportSystem)
	}
	for i, l := range s.o.Listeners {
		s.readers.Go(func() {
			if err := s.accept(l, s.gates[i]); err != nil {
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

// accept passes every new connection to its reader. If file descriptors run out, it waits, so
// that existing connections continue.
func (s *Server) accept(l net.Listener, gate *budget.Gate) error {
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
			s.log.Warn("connection not accepted: trying again", "listener", l.Addr(), "err", err)
			select {
			case <-s.closing:
				return nil
			case <-time.After(200 * time.Millisecond):
			}
			continue
		}
		s.admit(nc, gate)
	}
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
	s.cancel()
	serving := s.serving
	for c := range s.conns {
		s.enders.Go(c.shutDown)
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
	s.loaders.Wait()
	s.enders.Wait()
	s.senders.Wait()
	err := s.o.Store.Close()
	if s.o.Owed != nil {
		err = errors.Join(err, s.o.Owed.Close())
	}
	close(s.done)
	if err != nil {
		return fmt.Errorf("close mqtt state: %w", err)
	}
	return nil
}

// tooManyFiles reports whether accept failed because file descriptors have run out.
func tooManyFiles(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
}
