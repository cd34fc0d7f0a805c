package kafka

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/quota"
)

// conn is one connection. Three goroutines pass its requests on, in order:
//
//	read ──requests──▶ perform ──replies──▶ write
//
// A Produce is performed by handing its batches to the broker, and the next
// request follows at once: while a slot flies to the bucket, later batches are
// already gathering in the next. Anything else starts when all before it has been
// answered, as clients expect of Kafka, and so that at most one large response is
// in memory. When requests come faster than answers leave, read stops reading.
type conn struct {
	s    *Server
	nc   net.Conn
	br   *bufio.Reader
	bw   *bufio.Writer
	peer string

	listener  *Listener    // by which the client came
	known     atomic.Bool  // the client has proved who it is, or need not
	expires   atomic.Int64 // Unix nanoseconds when it must do so again; 0: never
	muted     atomic.Int64 // Unix nanoseconds until when nothing is read of it
	principal string       // who it is; this and the next two are owned by perform
	mechanism string       // by which it logged in
	login     *login       // that is under way

	requests chan *request
	replies  chan *reply
	flying   chan struct{}    // one token for each request that has no answer yet
	memory   *budget          // for the requests of this connection
	buf      []byte           // owned by write
	watch    *quota.Stopwatch // of the answer that was written last, nil if its time does not count; owned by write
	writing  atomic.Int64     // nanoseconds of work on answers that no request has paid for yet
}

// request is one frame that was read.
type request struct {
	api         *api
	version     int16
	correlation int32
	clientID    string
	body        []byte
	frame       *[]byte // of a Produce: what body is a part of
	size        int
	conn        *conn
	acls        *auth.Auth // by which it is judged; nil: see judge
	last        bool       // the connection ends behind the answer

	watch *quota.Stopwatch // of the work on it; handed on with it; nil if its time does not count
	wait  int32            // ms that the answer tells the client to

	began  time.Time     // when it had come in
	polled time.Duration // of that, how long a Fetch was to wait for records
}

// reply is the answer to a request, in its place in the order.
type reply struct {
	request *request
	ready   chan struct{}            // closed when finish may be called
	finish  func() (response, error) // without a response: none is sent
	sent    chan struct{}            // closed when the response is on its way
}

const (
	requestHeader = 8        // bytes: api key, version, correlation id
	unsureFrame   = 1 << 20  // of a longer frame, so much must arrive before all is allocated
	keepBuffer    = 64 << 10 // a larger buffer is not kept for the next response
	stride        = 1 << 20  // bytes that are written to a client within FrameTime
)

// errGone: the client is no longer there, or asked for it, and nobody needs to
// know.
var errGone = errors.New("connection ended")

func newConn(s *Server, nc net.Conn, l *Listener) *conn {
	if l.TLS != nil {
		nc = tls.Server(nc, l.TLS)
	}
	return &conn{
		listener: l,
		s:        s,
		nc:       nc,
		br:       bufio.NewReaderSize(nc, 8<<10),
		bw:       bufio.NewWriterSize(nc, 8<<10),
		peer:     nc.RemoteAddr().String(),
		requests: make(chan *request, s.o.MaxFlying),
		replies:  make(chan *reply, s.o.MaxFlying),
		flying:   make(chan struct{}, s.o.MaxFlying),
		memory:   newBudget(max(s.o.MaxRequest, s.o.MemoryBytes/2)), // one client does not keep out the others
	}
}

// serve returns when the connection is closed and nothing of it runs. What had
// been read from an acks=0 producer before it closed is still performed.
func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(ctx, func() { _ = c.nc.Close() })
	if err := c.greet(ctx); err != nil {
		cancel(err)
	} else {
		late := time.AfterFunc(c.s.o.LoginTime, func() {
			if !c.known.Load() {
				cancel(fmt.Errorf("client has not logged in within %v", c.s.o.LoginTime))
			}
		})
		defer late.Stop()
		var wg sync.WaitGroup
		wg.Go(func() { c.perform(ctx, cancel) })
		wg.Go(func() { cancel(c.write(ctx)) })
		cancel(c.read(ctx))
		close(c.requests)
		wg.Wait()
	}
	if err := context.Cause(ctx); !errors.Is(err, errGone) && !errors.Is(err, context.Canceled) {
		if errors.As(err, new(violation)) {
			c.s.count.violations.Inc()
		}
		c.s.o.Log.Warn("kafka connection closed", "peer", c.peer, "err", err)
	}
}

// read reads requests until the client goes, is idle, or breaks the protocol.
func (c *conn) read(ctx context.Context) error {
	for {
		size, err := c.awaitFrame()
		if err != nil {
			return gone(err)
		}
		if err := c.unmuted(ctx); err != nil {
			return err
		}
		r, err := c.readHead(size)
		if err != nil {
			return gone(err)
		}
		if err := r.hold(ctx); err != nil {
			return err
		}
		if err := c.readBody(r); err != nil {
			r.release()
			return gone(err)
		}
		c.s.count.read(r)
		select {
		case c.requests <- r:
		case <-ctx.Done():
			r.release()
			return ctx.Err()
		}
	}
}

// mute makes read wait: backpressure for one client alone. It never shortens what
// was to be waited before. Only perform calls it.
func (c *conn) mute(d time.Duration) {
	if until := time.Now().Add(d).UnixNano(); until > c.muted.Load() {
		c.muted.Store(until)
	}
}

// unmuted waits until the client may go on.
func (c *conn) unmuted(ctx context.Context) error {
	wait := time.Until(time.Unix(0, c.muted.Load()))
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return gone(c.nc.SetReadDeadline(time.Now().Add(c.s.o.FrameTime))) // it was not slow: we were
	case <-ctx.Done():
		return ctx.Err()
	}
}

// gone turns the many ways in which a peer leaves into one.
func gone(err error) error {
	for _, end := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE, syscall.ETIMEDOUT} {
		if errors.Is(err, end) {
			return errGone
		}
	}
	return err
}

// awaitFrame waits for the length of the next frame. Waiting for an answer is not
// being idle.
func (c *conn) awaitFrame() (int, error) {
	for {
		if err := c.nc.SetReadDeadline(time.Now().Add(c.s.o.IdleTimeout)); err != nil {
			return 0, err
		}
		p, err := c.br.Peek(4)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if len(c.flying) > 0 {
				continue
			}
			return 0, errGone
		}
		if err != nil {
			return 0, err
		}
		_, _ = c.br.Discard(4)
		return int(int32(binary.BigEndian.Uint32(p))), c.nc.SetReadDeadline(time.Now().Add(c.s.o.FrameTime))
	}
}

// readHead reads what decides whether the rest is read at all.
func (c *conn) readHead(size int) (*request, error) {
	if size < requestHeader || size > c.s.o.MaxRequest {
		return nil, violated("frame of %d bytes is not a request that is served here%s", size, foreign(size))
	}
	p, err := c.br.Peek(requestHeader)
	if err != nil {
		return nil, err
	}
	h := reader{p: p}
	key, version, correlation := h.int16(), h.int16(), h.int32()
	a := c.s.api(key)
	if a == nil {
		return nil, violated("api key %d is not served", key)
	}
	// Who asks for versions cannot know them: too new a request is answered.
	if version < a.min || version > a.max && a.key != kmsg.ApiVersions {
		return nil, violated("%s version %d is not served", a.key.Name(), version)
	}
	if err := c.admits(a.key); err != nil {
		return nil, violation{err}
	}
	if size > a.limit {
		return nil, violated("%s request of %d bytes, at most %d are allowed", a.key.Name(), size, a.limit)
	}
	return &request{api: a, version: version, correlation: correlation, size: size, conn: c}, nil
}

// foreign names the other protocol that a nonsensical length is the start of.
func foreign(size int) string {
	switch p := binary.BigEndian.AppendUint32(nil, uint32(size)); {
	case string(p) == "GET " || string(p) == "POST" || string(p) == "HEAD":
		return ": this looks like HTTP"
	case p[0] == 0x16 && p[1] == 3:
		return ": this looks like TLS"
	}
	return ""
}

// readBody reads the frame into memory of its own, which the records of a Produce
// alias until they are durable.
func (c *conn) readBody(r *request) error {
	p, err := c.readFrame(r)
	if err != nil {
		return frameError(err)
	}
	h := reader{p: p[requestHeader:]}
	r.clientID = string(h.nullableString()) // not compact in either header version
	if h.flexible = r.version >= r.api.flexible; h.flexible {
		h.tags()
	}
	if err := h.err(); err != nil {
		return violated("decode header of %s: %w", r.api.key.Name(), err)
	}
	r.body = h.p
	return nil
}

// readFrame reads into a frame that an earlier Produce has given back, if there is
// one: clearing a new one costs as much as reading it. A long one that is new is
// allocated in two steps, so that naming a length costs nobody anything.
func (c *conn) readFrame(r *request) ([]byte, error) {
	if r.api.key == kmsg.Produce {
		r.frame = frames.Get().(*[]byte)
		if cap(*r.frame) >= r.size {
			p := (*r.frame)[:r.size]
			_, err := io.ReadFull(c.br, p)
			return p, err
		}
	}
	p := make([]byte, min(r.size, unsureFrame))
	if _, err := io.ReadFull(c.br, p); err != nil {
		return nil, err
	}
	if len(p) < r.size {
		all := make([]byte, r.size)
		n := copy(all, p)
		if _, err := io.ReadFull(c.br, all[n:]); err != nil {
			return nil, err
		}
		p = all
	}
	if r.frame != nil {
		*r.frame = p
	}
	return p, nil
}

// frames holds those of Produces whose records have all landed.
var frames = sync.Pool{New: func() any { return new([]byte) }}

func frameError(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("request does not end: %w", err)
	}
	return err
}

// hold waits for room for the request: backpressure. With an error, nothing is
// held.
func (r *request) hold(ctx context.Context) error {
	c := r.conn
	select {
	case c.flying <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := c.memory.acquire(ctx, r.size); err != nil {
		return err
	}
	if err := c.s.memory.acquire(ctx, r.size); err != nil {
		c.memory.release(r.size)
		return err
	}
	// Time spent here is not the client's fault.
	if err := c.nc.SetReadDeadline(time.Now().Add(c.s.o.FrameTime)); err != nil {
		r.release()
		return gone(err)
	}
	return nil
}

// release gives the request's memory back: nobody refers to the frame any more.
// Only the first call counts.
func (r *request) release() {
	r.body = nil
	if r.frame != nil {
		frames.Put(r.frame)
		r.frame = nil
	}
	r.conn.memory.release(r.size)
	r.conn.s.memory.release(r.size)
	r.size = 0
}

// perform handles requests one after the other, and Produces without waiting.
// After an error the rest is dropped; when the client has just gone, what it
// produced before counts.
func (c *conn) perform(ctx context.Context, cancel context.CancelCauseFunc) {
	var last *reply
	failed := false
	for r := range c.requests {
		produce := r.api.key == kmsg.Produce
		if failed || ctx.Err() != nil && !produce {
			r.release()
			continue
		}
		var next *reply
		err := r.judge()
		switch {
		case err != nil:
			r.release()
		case produce:
			next, err = c.produce(r)
		default:
			next, err = c.answer(ctx, r, last)
		}
		if err != nil {
			failed = true
			cancel(fmt.Errorf("client %q: %w", r.clientID, err))
			continue
		}
		last = next
		select {
		case c.replies <- next:
		case <-ctx.Done():
		}
	}
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
	resp, err := c.s.handle(r.start(ctx), r)
	if f, ok := resp.(*fetchResponse); ok && err == nil {
		size := f.size()
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
	n.finish = func() (response, error) { return resp, nil }
	close(n.ready)
	return n, nil
}

// write sends the replies in order, each when it is ready; the connection is
// flushed whenever there is nothing to send.
func (c *conn) write(ctx context.Context) error {
	for {
		var n *reply
		if err := receive(ctx, c, c.replies, &n); err != nil {
			return err
		}
		if err := receive(ctx, c, n.ready, &struct{}{}); err != nil {
			return err
		}
		c.watch = n.request.watch
		c.watch.Lap() // until here its answer was waited for
		resp, err := n.finish()
		c.worked()
		if err != nil {
			return fmt.Errorf("client %q: %w", n.request.clientID, err)
		}
		c.s.count.answered(n.request, resp)
		if resp != nil {
			if err := c.send(n.request, resp); err != nil {
				return gone(err)
			}
		}
		close(n.sent)
		<-c.flying
		if n.request.last {
			return cmp.Or(c.flush(), errGone)
		}
	}
}

// receive takes from a channel, flushing what was written if it has to wait.
func receive[T any](ctx context.Context, c *conn, from <-chan T, to *T) error {
	select {
	case *to = <-from:
		return nil
	default:
	}
	if c.bw.Buffered() > 0 {
		if err := c.flush(); err != nil {
			return err
		}
	}
	select {
	case *to = <-from:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// flush sends what was written.
func (c *conn) flush() error {
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.o.FrameTime)); err != nil {
		return gone(err)
	}
	if err := c.working(c.bw.Buffered(), c.bw.Flush); err != nil {
		return gone(err)
	}
	return nil
}

// send writes one response. Record batches go from where they lie to the socket.
func (c *conn) send(r *request, resp response) error {
	p := append(c.buf[:0], 0, 0, 0, 0)
	p = binary.BigEndian.AppendUint32(p, uint32(r.correlation))
	if resp.IsFlexible() && r.api.key != kmsg.ApiVersions { // whose header never is (KIP-511)
		p = append(p, 0)
	}
	if f, ok := resp.(*fetchResponse); ok {
		chunks, size := f.chunks(p)
		binary.BigEndian.PutUint32(chunks[0], uint32(size-4))
		c.worked()
		return c.sendChunks(chunks)
	}
	p = resp.AppendTo(p)
	binary.BigEndian.PutUint32(p, uint32(len(p)-4))
	c.keep(p)
	c.worked()
	if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.o.FrameTime)); err != nil {
		return err
	}
	return c.working(len(p), func() error {
		_, err := c.bw.Write(p)
		return err
	})
}

// sendChunks writes what is too large to be copied. The time that a client has to
// take it grows with the size, but not with the client's patience.
func (c *conn) sendChunks(chunks net.Buffers) error {
	if err := c.flush(); err != nil {
		return err
	}
	for len(chunks) > 0 {
		n, size := 1, len(chunks[0])
		for n < len(chunks) && size+len(chunks[n]) <= stride {
			size += len(chunks[n])
			n++
		}
		some := chunks[:n:n]
		chunks = chunks[n:]
		if err := c.nc.SetWriteDeadline(time.Now().Add(c.s.o.FrameTime)); err != nil {
			return err
		}
		if err := c.working(size, func() error {
			_, err := some.WriteTo(c.nc)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (c *conn) keep(p []byte) {
	if cap(p) <= keepBuffer {
		c.buf = p
	}
}

// host is the client's address in Kafka's notation, for people.
func (c *conn) host() string {
	host, _, err := net.SplitHostPort(c.peer)
	if err != nil {
		host = c.peer
	}
	return "/" + host
}
