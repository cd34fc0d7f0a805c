package peer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
)

const (
	// handshakeTime bounds the TLS handshake of a new connection.
	handshakeTime = 5 * time.Second
	// idleTime is how long a connection without requests stays open.
	idleTime = 2 * time.Minute
	// maxBody bounds the body of most requests in bytes, maxCalls the requests under way on
	// one connection.
	maxBody  = maxReport
	maxCalls = 64
	// maxUnread bounds what arrives on one stream before it is read, in bytes. A connection
	// takes that much for each of maxCalls, so that a stream that nobody reads for a while
	// does not stop the others.
	maxUnread = 256 << 10
)

// Options configure a Server. Listener, Identity, Gate and Self are required.
type Options struct {
	Listener net.Listener
	// Identity.Admit also judges nodes that have come before: one that it refuses gets
	// nothing but the catalogue any more, which says why.
	Identity *join.NodeIdentity
	Gate     *budget.Gate  // counts the connections
	Self     func() Answer // returns what this node says of itself

	// Forwarded, if set, answers a request to the admin port that the named node
	// forwards. If own is set, the caller has shown that node its admin token, of which
	// own is the hash in hex. Otherwise the request carries a credential that is to be
	// checked here.
	Forwarded func(w http.ResponseWriter, r *http.Request, node, own string)

	// Ready, if set, returns why this node does not know yet, or any more, which nodes are
	// revoked. While it does, it answers only what nodes ask to find each other and the
	// catalogue.
	Ready func() error

	// Report, if set, answers the report of a node with that of this one. An error means
	// that it cannot be read.
	Report func(node string, report []byte) ([]byte, error)

	// Succession, if set, answers a step of a hand-over. It may wait. An error means that the
	// step cannot be read.
	Succession func(ctx context.Context, step []byte) (answer []byte, err error)

	// Heard, if set, is called with the name of each node that sends a request.
	Heard func(node string)

	// Copy, if set, answers nodes of an earlier version, which do not know Catalogue. It
	// returns what has changed since the tag: everything if the tag is not
	// known, and only the tag if nothing has changed. Errors: ErrTooLarge; any other
	// means "not now". Calls are not concurrent.
	Copy func(after string) (*Copy, error)

	// Catalogue, if set, returns what a node that keeps a mirror of the catalogue lacks. An
	// error means "not now".
	Catalogue func(ctx context.Context, q CatalogueQuestion) (*Catalogue, error)

	// CreateTopic and NewProducerID, if set, act for a client of another node. code is
	// Kafka's, 0 for success.
	CreateTopic   func(ctx context.Context, b Behalf, name string) (t state.Topic, code int16)
	NewProducerID func(ctx context.Context, b Behalf) (id int64, code int16)

	// Kafka, if set, performs a request of Kafka's protocol for a client of another node,
	// and returns the body of the response.
	Kafka func(ctx context.Context, q KafkaRequest) (answer []byte, err error)

	// VerifyTransaction and EndTransaction, if set, answer what another node asks about
	// transactions; the bodies are those of package txn. An error means that the question
	// cannot be read.
	VerifyTransaction func(ctx context.Context, question []byte) (answer []byte, err error)
	EndTransaction    func(ctx context.Context, question []byte) (answer []byte, err error)

	// Create, if set, creates a topic unless it exists.
	Create func(ctx context.Context, name string, partitions int32, configs map[string]string) (state.Topic, error)

	// Drop, if set, drops a topic from a shard that this node owns, at a position of the
	// catalogue. nil means that this is durable.
	Drop func(ctx context.Context, shard uint32, topic weir.TopicID, at journal.Position) error

	// Slices, if set, answers what another node asks about a move of slices between shards.
	// moved is for SlicesVoid.
	Slices func(ctx context.Context, call SlicesCall, m weir.Move) (moved bool, err error)

	// AMQP, if set, serves a connection of AMQP 0-9-1 whose client is at another node, and
	// returns when it has ended. An error comes before anything was written: ErrElsewhere
	// if this node does not have what the description says, any other one if it cannot
	// serve the connection now.
	AMQP func(description []byte, stream io.ReadWriteCloser) error

	// Relay, if set, likewise serves a connection of Kafka's protocol.
	Relay func(description []byte, stream io.ReadWriteCloser) error

	// Records, if set, answers what another node asks about records that this node leads, and
	// FollowRecords tells it which partitions of a shard grow, until ctx ends. The bodies are
	// those of package broker. An error of Records means that the question cannot be read, or
	// that ctx has ended.
	Records       func(ctx context.Context, what string, question []byte) (answer []byte, err error)
	FollowRecords func(ctx context.Context, shard uint32, tell func(message []byte) error) error

	// Management, if set, performs a request to the management HTTP API for a client of another
	// node. An error means that the question cannot be read.
	Management func(ctx context.Context, question []byte) (answer []byte, err error)

	// Sessions, if set, returns the sessions of gateways at this node, in JSON.
	Sessions func() ([]byte, error)

	// Status, if set, returns what this node says of itself, in JSON.
	Status func(context.Context) ([]byte, error)

	// Notices, if set, takes what a node has noticed of gateways, in JSON.
	Notices func(node string, body []byte) error

	// Attachments and Membership are for gateways that are connected to another node.
	Attachments Attachments
	Membership  Membership

	// Nodes is for nodes that do not have the CA's key.
	Nodes NodeMembership

	// Race, if set, is called when another node has invited to a race in the bucket. It
	// must not block.
	Race func()
	Log  *slog.Logger // default: slog.Default
}

// Server is a node's peer port.
type Server struct {
	o        Options
	http     *http.Server
	entered  chan net.Conn // connections of nodes whose certificate was checked
	copying  chan struct{} // one token: held while a copy is made
	refused  *budget.Episode
	ctx      context.Context // ends when the server is closed
	cancel   context.CancelFunc
	newcomer sync.WaitGroup // counts the handshakes under way, and accept
	traffic  listener.Traffic

	mu    sync.Mutex
	conns map[*conn]struct{} // of nodes whose certificate was checked; guarded by mu
}

// New makes a Server on a listener, which it closes.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.Default()
	}
	if o.Heard == nil {
		o.Heard = func(string) {}
	}
	s := &Server{o: o, entered: make(chan net.Conn), conns: make(map[*conn]struct{}), copying: make(chan struct{}, 1), refused: budget.NewEpisode(budget.EpisodeOptions{
		Begin: "a connection to --peer was refused: it is for nodes of this cluster, whose clocks must agree",
		End:   "connections to --peer are no longer refused", Log: o.Log})}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pingPath, s.ping)
	mux.HandleFunc("POST "+reportPath, answering(s.report()))
	mux.HandleFunc("GET "+racePath, s.race)
	mux.HandleFunc("GET "+copyPath, s.copyOf)
	mux.HandleFunc("GET "+cataloguePath, s.catalogue)
	mux.HandleFunc("POST "+topicPath, s.topic)
	mux.HandleFunc("POST "+producerPath, s.producer)
	mux.HandleFunc("POST "+kafkaPath, s.kafka)
	mux.HandleFunc("POST "+verifyPath, answering(plain(o.VerifyTransaction)))
	mux.HandleFunc("POST "+dropPath, s.drop)
	mux.Handle("POST "+successionPath, http.MaxBytesHandler(answering(plain(o.Succession)), maxSuccession))
	mux.HandleFunc("POST "+slicesPath, s.slices)
	mux.HandleFunc("POST "+createPath, s.create)
	mux.HandleFunc("GET "+sessionsPath, s.sessions)
	mux.HandleFunc("GET "+statusPath, s.status)
	mux.HandleFunc("POST "+noticesPath, answering(s.notices()))
	mux.HandleFunc("POST "+joinPath, s.join)
	mux.HandleFunc("POST "+renewPath, s.renew)
	mux.HandleFunc("POST "+resolvePath, s.resolve)
	mux.HandleFunc("POST "+nodeJoinPath, s.nodeJoin)
	mux.HandleFunc("POST "+nodeRenewPath, s.nodeRenew)
	if o.Forwarded != nil {
		mux.HandleFunc(adminPath+"/", s.forwarded)
	}
	all := http.NewServeMux()
	all.Handle("/", http.MaxBytesHandler(mux, maxBody))
	all.Handle("POST "+endPath, http.MaxBytesHandler(answering(plain(o.EndTransaction)), maxDecision))
	all.HandleFunc("POST "+amqpPath, stream(o.AMQP)) // a stream has no limit
	all.HandleFunc("POST "+relayPath, stream(o.Relay))
	all.Handle("POST "+managementPath, http.MaxBytesHandler(answering(plain(o.Management)), maxManagementQuestion))
	all.HandleFunc("POST "+attachPath, s.attach)
	all.Handle("POST "+recordsPath+"/{what}", http.MaxBytesHandler(answering(s.records()), maxRecordsQuestion))
	all.HandleFunc("GET "+recordsPath, s.followRecords)
	s.http = &http.Server{
		Handler:   s.traffic.Handler(s.ready(all)),
		Protocols: new(http.Protocols),
		HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxCalls, SendPingTimeout: streamPing, PingTimeout: streamGrace,
			MaxReceiveBufferPerStream: maxUnread, MaxReceiveBufferPerConnection: maxUnread * maxCalls},
		ReadHeaderTimeout: handshakeTime,
		IdleTimeout:       idleTime,
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c.(*conn))
		},
		ErrorLog: slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}
	// enter performs the handshake before net/http sees the connection. To net/http the
	// connection is unencrypted HTTP/2.
	s.http.Protocols.SetUnencryptedHTTP2(true)
	return s
}

// ready refuses requests while Options.Ready returns an error, but for those without which
// that could last for ever, and those of nodes that are not admitted any more.
func (s *Server) ready(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != cataloguePath {
			if err := r.Context().Value(connKey{}).(*conn).admitted(); err != nil {
				http.Error(w, err.Error(), http.StatusForbidden)
				return
			}
		}
		switch r.URL.Path {
		case pingPath, reportPath, successionPath, racePath, copyPath, cataloguePath, statusPath:
		default:
			if s.o.Ready == nil {
				break
			}
			if err := s.o.Ready(); err != nil {
				http.Error(w, err.Error(), http.StatusServiceUnavailable)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// Serve answers until Close, and then returns nil.
func (s *Server) Serve() error {
	accepting := make(chan error, 1)
	s.newcomer.Go(func() { accepting <- s.accept() })
	err := s.http.Serve(entrance{s})
	if errors.Is(err, http.ErrServerClosed) || s.ctx.Err() != nil && errors.Is(err, net.ErrClosed) {
		err = nil // after Close; or accept has failed and returns why
	}
	s.cancel()
	if closed := s.o.Listener.Close(); closed != nil && !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	if failed := <-accepting; failed != nil {
		err = errors.Join(failed, err)
	}
	s.newcomer.Wait()
	return err
}

// Counts returns what was counted at the port; bytes are without what TLS adds.
func (s *Server) Counts() []listener.Counts {
	return []listener.Counts{s.traffic.Counts("", s.o.Gate.Counts())}
}

// Close ends every connection, and Serve.
func (s *Server) Close() error {
	s.cancel()
	err := s.http.Close()
	if closed := s.o.Listener.Close(); closed != nil && !errors.Is(closed, net.ErrClosed) {
		err = errors.Join(err, closed)
	}
	return err
}

// accept accepts connections until the server is closed.
func (s *Server) accept() error {
	for rest := time.Duration(0); ; {
		c, err := s.o.Listener.Accept()
		switch {
		case s.ctx.Err() != nil:
			if err == nil {
				c.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			s.cancel()
			return fmt.Errorf("accept: %w", err)
		case err != nil: // for example, no file descriptor is free
			rest = min(max(2*rest, 5*time.Millisecond), time.Second)
			s.o.Log.Warn("--peer accepts no connection for now", "err", err)
			_ = pause.For(s.ctx, rest)
			continue
		}
		rest = 0
		seat, err := s.o.Gate.Enter(budget.Address(c.RemoteAddr()), func() { c.Close() })
		if err != nil { // the gate has logged it
			c.Close()
			continue
		}
		s.newcomer.Go(func() { s.enter(c, seat) })
	}
}

// enter checks the certificate of a new connection and passes the connection on.
func (s *Server) enter(raw net.Conn, seat *budget.Seat) {
	ctx, cancel := context.WithTimeout(s.ctx, handshakeTime)
	defer cancel()
	secure := tls.Server(raw, s.o.Identity.ServerTLS())
	err := secure.HandshakeContext(ctx)
	if err == nil && join.Joins(secure.ConnectionState()) {
		if s.o.Nodes.Join != nil {
			defer context.AfterFunc(s.ctx, func() { raw.Close() })()
			s.answerStranger(secure)
		}
	} else if err == nil {
		cert := secure.ConnectionState().PeerCertificates[0]
		name, _ := join.NodeName(cert) // ServerTLS has checked it
		seat.Known()
		c := &conn{Conn: s.traffic.Conn(secure), s: s, raw: raw, node: name, cert: cert, seat: seat}
		s.keep(c)
		if c.admitted() == nil { // once more: before keep, Expel has not seen it
			select {
			case s.entered <- c:
				return
			case <-s.ctx.Done():
			}
		}
		s.forget(c)
	} else if s.ctx.Err() == nil && !errors.Is(err, net.ErrClosed) {
		s.refused.Note("address", raw.RemoteAddr().String(), "err", err)
	}
	seat.Leave()
	raw.Close()
}

// conn is the connection of a node, without TLS from net/http's point of view.
type conn struct {
	net.Conn
	s    *Server
	raw  net.Conn // below TLS
	node string
	cert *x509.Certificate
	seat *budget.Seat
}

// admitted returns why the node is not admitted any more with the certificate that it has
// shown.
func (c *conn) admitted() error {
	if admit := c.s.o.Identity.Admit; admit != nil {
		return admit(c.node, c.cert)
	}
	return nil
}

func (s *Server) keep(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns[c] = struct{}{}
}

func (s *Server) forget(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
}

// Expel ends the connections of nodes that are not admitted any more.
func (s *Server) Expel() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for c := range s.conns {
		if c.admitted() != nil {
			c.raw.Close() // net/http notices, and closes c
		}
	}
}

// Close may be called more than once.
func (c *conn) Close() error {
	c.s.forget(c)
	c.seat.Leave()
	return c.Conn.Close()
}

// entrance is the port as net/http sees it.
type entrance struct{ s *Server }

func (l entrance) Accept() (net.Conn, error) {
	select {
	case c := <-l.s.entered:
		return c, nil
	case <-l.s.ctx.Done():
		return nil, net.ErrClosed
	}
}

func (l entrance) Close() error   { return nil } // Server.Close closes it
func (l entrance) Addr() net.Addr { return l.s.o.Listener.Addr() }

// connKey is of the connection that a request has come on, in its context.
type connKey struct{}

// asker returns the name of the node that has sent a request.
func asker(r *http.Request) string { return r.Context().Value(connKey{}).(*conn).node }
