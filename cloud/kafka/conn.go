package kafka

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/share"
	"github.com/weirmq/weir/cloud/stopwatch"
)

// conn is one connection. Three goroutines process its requests in order:
//
//	read ──requests──▶ perform ──replies──▶ write
//
// To perform a Produce is to pass its batches to the broker; then the next request
// follows at once. So while a slot is in flight to the bucket, later batches are
// gathered in the next. Any other request starts when all before it have been
// answered. Clients expect that of Kafka, and it keeps at most one large response in
// memory. When requests come faster than answers leave, read stops reading.
type conn struct {
	s      *Server
	ctx    context.Context // ends with the connection
	cancel context.CancelCauseFunc
	nc     net.Conn
	br     *bufio.Reader
	bw     *bufio.Writer
	peer   string
	from   netip.Addr // for which the connection is counted

	listener *listener.Listener           // that accepted the connection
	seat     *budget.Seat                 // the connection's place in its listener's count
	met      bool                         // a request has come; owned by read
	session  *login.Session               // who the client is
	shares   map[[2]string]*share.Session // its share sessions, by group and member; owned by perform
	here     *node                        // what the client takes for the only node; nil: it knows the nodes
	relay    *relay                       // to the owners; nil unless the listener has route=here
	tunnel   bool                         // the client is at another node
	poll     polling                      // of a tunnel
	muted    atomic.Int64                 // Unix nanoseconds until which nothing is read
	login    *login.Login                 // the one under way; owned by perform

	requests chan *request
	replies  chan *reply
	flying   chan struct{} // one token for each request without an answer
	turn     chan struct{} // one token: a request other than Produce, without an answer

	memory  atomic.Pointer[budget.Peer] // of its requests; from the strangers' pool until it has logged in
	answers *budget.Peer                // of its answers
	polls   *budget.Peer                // of a Fetch that waits
	stuck   atomic.Int64                // Unix nanoseconds since which the client has taken nothing of an answer; 0: nothing is being written

	buf   []byte       // owned by write
	meter access.Meter // of the work on answers
}

// request is one frame that was read.
type request struct {
	api         *api
	version     int16
	correlation int32
	clientID    string
	body        []byte
	frame       []byte        // contains body; from buffers
	claim       *budget.Claim // memory of the frame
	answer      *budget.Claim // memory of the answer, nil if it is small
	size        int
	conn        *conn
	rights      access.Rights // what the client may do
	refreshed   bool          // the copy was refreshed for it
	confirmed   bool          // the bucket has confirmed, since it began, that this node owns the catalogue
	behalf      bool          // it is for a client of another node
	relayed     bool          // owners have performed it, and counted its bytes
	last        bool          // the connection is closed after the answer

	watch     *stopwatch.Stopwatch // measures the work on it; passed on with it; nil if its time does not count
	wait      int32                // throttle time in the answer, in ms
	waitLater atomic.Int32         // likewise, as owners have said of a Produce

	began  time.Time     // when it had arrived
	polled time.Duration // time since then that a Fetch has waited for records
}

// reply is the answer to a request, queued in order.
type reply struct {
	request *request
	ready   chan struct{}                 // closed when finish may be called
	finish  func() (kmsg.Response, error) // returns nil if no response is sent
	sent    chan struct{}                 // closed when the response is on its way
}

const (
	requestHeader = 8        // bytes: api key, version, correlation id
	smallFrame    = 8 << 10  // bytes of a frame that is paid for only after it has arrived: it fits the connection's own buffer
	keepBuffer    = 64 << 10 // a larger buffer is not kept for the next response
	stride        = 1 << 20  // bytes that are written to a client within FrameTime
)

// errGone means that the client has closed the connection, or has asked for that. It
// is not logged.
var errGone = errors.New("connection ended")

// newConn makes a connection that has no seat yet.
func newConn(s *Server, nc net.Conn, l *listener.Listener) *conn {
	from := budget.Address(nc.RemoteAddr())
	if l.TLS != nil {
		nc = tls.Server(nc, l.TLS)
	}
	c := s.connect(nc, l)
	c.from = from
	if len(l.SASL) > 0 {
		c.memory.Store(s.strangers.Peer(from.String()))
	} else {
		c.memory.Store(s.memory.Peer(""))
	}
	c.session = s.o.Sessions.Open(l, s.o.Now, c.cancel)
	if l.Here {
		c.lead()
	}
	return c
}

// connect makes a connection without memory for requests and without a session.
func (s *Server) connect(nc net.Conn, l *listener.Listener) *conn {
	c := &conn{
		listener: l,
		s:        s,
		nc:       nc,
		br:       s.readers.Get().(*bufio.Reader),
		bw:       s.writers.Get().(*bufio.Writer),
		peer:     nc.RemoteAddr().String(),
		requests: make(chan *request, s.o.MaxFlying),
		replies:  make(chan *reply, s.o.MaxFlying),
		flying:   make(chan struct{}, s.o.MaxFlying),
		turn:     make(chan struct{}, 1),
		answers:  s.answers.Peer(""),
		polls:    s.polls.Peer(""),
	}
	c.br.Reset(nc)
	c.bw.Reset(nc)
	c.ctx, c.cancel = context.WithCancelCause(s.ctx)
	return c
}

// serve returns when the connection is closed and none of its goroutines runs.
// Requests of an acks=0 producer that were read before the close are still performed.
func (c *conn) serve() {
	context.AfterFunc(c.ctx, func() { _ = c.nc.Close() })
	if err := c.greet(c.ctx); err != nil {
		c.cancel(err)
	} else {
		if !c.tunnel {
			defer c.session.Hurry(c.s.o.LoginTime)()
		}
		var wg sync.WaitGroup
		wg.Go(func() { c.perform(c.ctx) })
		wg.Go(func() { c.cancel(c.write(c.ctx)) })
		c.cancel(c.read(c.ctx))
		close(c.requests)
		wg.Wait()
		c.leaveShares()
		c.relay.end()
		close(c.replies)
		for n := range c.replies {
			n.request.dropAnswer()
		}
	}
	c.memory.Load().Close()
	c.answers.Close()
	c.polls.Close()
	c.relay.close()
	c.recycle()
	if err := context.Cause(c.ctx); !errors.Is(err, errGone) && !errors.Is(err, context.Canceled) {
		if errors.As(err, new(violation)) {
			c.s.count.violation(c.listener.Traffic)
		}
		c.warn("kafka connection closed", "err", err)
	}
}

// warn logs what a client has done, unless too much is logged about its address.
func (c *conn) warn(what string, args ...any) {
	c.s.lines.Warn(c.s.o.Log, c.from, what, append([]any{"address", c.peer}, args...)...)
}

// gone maps the many errors of a closed connection to errGone.
func gone(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT} {
		if errors.Is(err, end) {
			return errGone
		}
	}
	return err
}

// perform handles requests one after the other, and Produces without waiting. After
// an error the rest is dropped. If the client has only closed the connection, what it
// produced before is still performed.
func (c *conn) perform(ctx context.Context) {
	var last *reply
	failed := false
	for r := range c.requests {
		produce := r.api.key == kmsg.Produce
		if failed || ctx.Err() != nil && !produce {
			r.release()
			continue
		}
		var next *reply
		var err error
		if produce {
			next, err = c.hand(r)
		} else {
			next, err = c.answer(ctx, r, last)
		}
		r.rights.Settle()
		if err != nil {
			r.dropAnswer()
			failed = true
			c.cancel(fmt.Errorf("client %q: %w", r.clientID, err))
			continue
		}
		last = next
		select {
		case c.replies <- next:
		case <-ctx.Done():
			r.dropAnswer()
		}
	}
}

// hand performs a Produce.
func (c *conn) hand(r *request) (*reply, error) {
	if err := r.judge(); err != nil {
		r.release()
		return nil, err
	}
	return c.produce(r)
}

// answer performs a request once all before it are answered.
func (c *conn) answer(ctx context.Context, r *request, last *reply) (*reply, error) {
	defer r.release()
	if last != nil {
		select {
		case <-last.sent:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	c.s.broker.AwaitSure(ctx)
	if err := r.judge(); err != nil {
		return nil, err
	}
	resp, err := c.s.handle(r.start(ctx), r)
	if size := recordBytes(resp); err == nil && size > 0 && !r.relayed {
		r.countBytes(quota.Consume, size)
		c.s.count.fetchedBytes.Add(size)
	}
	r.countTime()
	if err != nil {
		return nil, err
	}
	if t, ok := resp.(kmsg.SetThrottleResponse); ok && r.wait > 0 {
		t.SetThrottle(r.wait)
	}
	n := &reply{request: r, ready: make(chan struct{}), sent: make(chan struct{})}
	n.finish = func() (kmsg.Response, error) { return resp, nil }
	close(n.ready)
	return n, nil
}

// recordBytes returns the bytes of the records in an answer.
func recordBytes(resp kmsg.Response) int {
	switch f := resp.(type) {
	case *fetchResponse:
		if f != nil {
			return f.size()
		}
	case *kmsg.ShareFetchResponse:
		if f != nil {
			return shareBytes(f)
		}
	}
	return 0
}

// host returns the client's address in Kafka's notation, for display.
func (c *conn) host() string {
	host, _, err := net.SplitHostPort(c.peer)
	if err != nil {
		host = c.peer
	}
	return "/" + host
}
