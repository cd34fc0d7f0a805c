package mqtt

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/edge/websocket"
)

var (
	errStopped    = errors.New("connection was stopped by the server")
	errDisconnect = errors.New("client sent DISCONNECT")
	errRefused    = errors.New("connection was refused")
)

// readBuffer is how many bytes one connection reads at once. The buffer is most of what
// an idle connection costs.
const readBuffer = 4 << 10

// conn is one network connection. Its reader runs serve. Other goroutines only write to
// the outbox, or stop it.
type conn struct {
	s       *Server
	nc      net.Conn
	out     outbox
	peer    net.Addr
	address netip.Addr   // the address of peer, as limits use it
	seat    *budget.Seat // one of the listener's connections

	// Set by the CONNECT packet, before other goroutines know the connection.
	version        byte
	bridge         bool // the client is another broker, according to the version that it sent
	clientID       string
	username       string
	assigned       bool          // the server chose the client id
	receiveMaximum uint16        // of the client
	maxPacket      uint32        // of the client; 0: any
	problemInfo    bool          // the client wants reason strings
	outAliases     outAliases    // guarded by the mutex of the session
	keepAlive      time.Duration // 0: none
	expiry         uint32        // session expiry of CONNECT
	session        *session      // set by the dispatcher before login.done
	account        *account      // of the session; set with it

	// Owned by the reader.
	br            *bufio.Reader
	fresh         bool         // the next read waits for a new packet
	until         time.Time    // the read deadline that the reader has set
	keepAliveEnds time.Time    // when the keep alive ends, or before CONNECT the time for it; zero: never
	budget        *budget.Peer // for arriving packets
	aliases       map[uint16]string
	charged       int64 // bytes of aliases charged to account
	ending        ending

	queued     int           // guarded by the mutex of the queue; works of this connection in it
	held       int           // owned by the committer; works that wait though the Backend has answered
	failedFrom uint64        // owned by the committer: nothing after this work is stored; 0: everything is
	window     chan struct{} // one token per PUBLISH between reader and dispatcher
	unacked    atomic.Int32  // QoS 1 and 2 PUBLISH packets that hold the client's send quota
	greeted    atomic.Bool   // CONNACK with success was written: the fields above do not change any more
	stopped    atomic.Bool

	succession succession

	login context.Context // ends when the connection is closed for a newer one, or has logged in
	leave context.CancelFunc
}

// ending says how a connection ended.
type ending struct {
	clean     bool // by a DISCONNECT that removes the will
	hasExpiry bool
	expiry    uint32 // MQTT 5: as changed by DISCONNECT
}

func newConn(s *Server, nc net.Conn) *conn {
	c := &conn{s: s, nc: nc, peer: nc.RemoteAddr(), window: make(chan struct{}, s.o.ReceiveMaximum)}
	c.succession.left = make(chan struct{})
	c.address = budget.Address(c.peer)
	c.login, c.leave = context.WithCancel(s.ctx)
	c.br = bufio.NewReaderSize(c, readBuffer)
	raw := nc
	if t, ok := nc.(*tls.Conn); ok {
		raw = t.NetConn()
	}
	c.out = outbox{nc: nc, raw: raw, all: &s.outgoing, running: &s.senders, buffers: &s.buffers, limit: s.o.WriteBuffer, timeout: s.o.WriteTimeout, ready: c.ready}
	return c
}

// ready is called by the flusher when the outbox has room again.
func (c *conn) ready() {
	if c.session != nil {
		c.session.pump()
	}
}

// serve runs the connection from its first byte to its end.
func (c *conn) serve() {
	joined, err := c.connect()
	c.leave()
	if err == nil {
		c.budget = c.s.arriving.Peer(c.address.String())
		err = c.read()
		c.budget.Close()
	}
	c.finish(err)
	if joined {
		c.account.charge(-c.charged)
		c.charged = 0
		c.s.queue.put(&work{kind: workGone, conn: c, client: c.clientID, req: &request{ending: &c.ending}})
	}
	c.leaveSuccession()
	c.linger()
}

// read handles packets until the connection ends; it never returns nil.
func (c *conn) read() error {
	for {
		c.fresh = true
		h, body, claim, err := c.packet(c.s.o.MaxPacketSize)
		switch {
		case err == nil:
			err = c.handle(h, body)
		case c.mayDiscard(err, h):
			err = c.discard(h)
		}
		release(claim)
		if err != nil {
			return err
		}
	}
}

// packet reads one packet of at most limit bytes. What has arrived of it is in the read
// buffer or paid for with the claim, which may be nil. The caller must release the
// claim, also after an error.
func (c *conn) packet(limit int) (h packets.FixedHeader, body []byte, claim *budget.Claim, err error) {
	if h, err = readHeader(c.br, limit, c.version == 3, c.hurry); err != nil {
		return h, nil, nil, err
	}
	c.s.count.packetsIn.Inc()
	body, claim, err = c.body(h.Remaining)
	return h, body, claim, err
}

// body reads the next n bytes of a packet that has begun.
func (c *conn) body(n int) (body []byte, claim *budget.Claim, err error) {
	// Nothing is allocated before some of the bytes have arrived.
	if first := min(n, readBuffer); c.br.Buffered() < first {
		c.hurry()
		if _, err := c.br.Peek(first); err != nil {
			return nil, nil, unexpected(err)
		}
	}
	if n <= readBuffer {
		body = make([]byte, n)
		_, err = io.ReadFull(c.br, body)
		return body, nil, err
	}
	claim = c.budget.Claim(int64(n))
	rate := c.s.o.PacketRate
	frame := budget.Frame{Whole: c.s.o.PacketTimeout + time.Duration(n/rate)*time.Second, Floor: rate}
	body, err = frame.Read(c.s.ctx, c.frameDeadline, c.br, claim, n)
	return body, claim, err
}

func release(claim *budget.Claim) {
	if claim != nil {
		claim.Release()
	}
}

// hurry limits the time for the rest of a packet that has begun.
func (c *conn) hurry() {
	until := time.Now().Add(c.s.o.PacketTimeout)
	if !c.keepAliveEnds.IsZero() && c.keepAliveEnds.Before(until) {
		until = c.keepAliveEnds
	}
	c.fresh = false
	c.setReadDeadline(until)
}

// frameDeadline is setReadDeadline for budget.Frame. While the rest of a packet arrives, the keep
// alive does not count. The deadline of a CONNECT does.
func (c *conn) frameDeadline(t time.Time) error {
	c.fresh = false
	if c.session == nil && (t.IsZero() || c.keepAliveEnds.Before(t)) {
		if t = c.keepAliveEnds; !time.Now().Before(t) {
			return os.ErrDeadlineExceeded
		}
	}
	return c.setReadDeadline(t)
}

// Read reads from the socket with the keep alive as its deadline: one and a half times
// the interval, counted from the last whole packet [MQTT-3.1.2-22].
func (c *conn) Read(p []byte) (int, error) {
	if c.fresh {
		c.fresh = false
		c.keepAliveEnds = time.Time{}
		if c.keepAlive > 0 {
			c.keepAliveEnds = time.Now().Add(c.keepAlive + c.keepAlive/2)
		}
		c.setReadDeadline(c.keepAliveEnds)
	}
	return c.readSome(p)
}

// handle handles a packet of a connected client.
func (c *conn) handle(h packets.FixedHeader, body []byte) error {
	switch h.Type {
	case packets.Publish:
		return c.handlePublish(h, body)
	case packets.Puback, packets.Pubrec, packets.Pubrel, packets.Pubcomp:
		return c.handleAck(h, body)
	case packets.Subscribe:
		return c.handleSubscribe(h, body)
	case packets.Unsubscribe:
		return c.handleUnsubscribe(h, body)
	case packets.Pingreq:
		return c.handlePingreq(body)
	case packets.Disconnect:
		return c.handleDisconnect(h, body)
	case packets.Connect:
		return packets.ErrProtocolViolationSecondConnect // [MQTT-3.1.0-2]
	case packets.Auth:
		return packets.ErrProtocolViolation // no authentication method was agreed [MQTT-4.12.0-7]
	default:
		return packets.ErrProtocolViolation // only servers send it
	}
}

// certificates completes the handshakes below MQTT, within the connect deadline, and
// returns the client's verified chain.
func (c *conn) certificates() ([]*x509.Certificate, error) {
	nc := c.nc
	if up, ok := nc.(*websocket.Conn); ok {
		if err := up.Handshake(); err != nil {
			return nil, err
		}
		nc = up.NetConn()
	}
	t, ok := nc.(*tls.Conn)
	if !ok {
		return nil, nil
	}
	if err := t.HandshakeContext(context.Background()); err != nil {
		return nil, err
	}
	if chains := t.ConnectionState().VerifiedChains; len(chains) > 0 {
		return chains[0], nil
	}
	return nil, nil
}

// stop ends the connection from any goroutine. It sends DISCONNECT with the reason to
// MQTT 5 clients [MQTT-3.14.0-1], lets the buffered bytes go out, and wakes the reader.
func (c *conn) stop(reason packets.Code) {
	if c.stopped.Swap(true) {
		return
	}
	if c.greeted.Load() && c.version == 5 {
		pk := packets.Packet{
			FixedHeader:     packets.FixedHeader{Type: packets.Disconnect},
			ProtocolVersion: 5,
			ReasonCode:      reason.Code,
		}
		c.writeWithReason(&pk, reason)
	}
	c.close()
}

// close lets the outbox run empty and wakes the reader.
func (c *conn) close() {
	c.out.close()
	c.nc.SetReadDeadline(time.Unix(1, 0))
}

// shutDown is stop for a server that closes. A connection that is still at its CONNECT
// gets no DISCONNECT. Acknowledgements that have arrived count: their messages are not
// sent again after the next start.
func (c *conn) shutDown() {
	if c.greeted.Load() {
		c.empty(nil)
	}
	c.stop(packets.ErrServerShuttingDown)
}

// finish stops the connection for the reason that ended its reader, and logs what an
// operator should know.
func (c *conn) finish(err error) {
	var code packets.Code
	switch {
	case errors.Is(err, errDisconnect), errors.Is(err, io.EOF), errors.Is(err, errRefused):
		c.stopped.Store(true)
		c.close()
	case errors.Is(err, os.ErrDeadlineExceeded) && !c.stopped.Load():
		c.tell("connection closed: the client is silent", "reason", "keep alive")
		c.stop(packets.ErrKeepAliveTimeout)
	case errors.Is(err, budget.ErrSlow):
		c.tell("connection closed: the rest of a packet did not arrive in time", "err", err)
		c.stop(packets.ErrServerBusy)
	case errors.As(err, &code):
		c.s.count.malformed.Inc()
		c.tell("connection closed: protocol error", "reason", code.Reason, "code", code.Code)
		c.stop(code)
	default:
		if cause := c.out.cause(); cause == errOverflow {
			c.tell("connection closed: the client does not read", "err", cause)
		} else {
			c.s.log.Debug("connection ended", c.who("err", err)...)
		}
		c.stopped.Store(true)
		c.close()
	}
}

// who returns the log fields that name the peer.
func (c *conn) who(more ...any) []any {
	return append([]any{"address", c.peer, "client", c.clientID}, more...)
}

// linger reads on for a moment before the socket is closed: closing it with unread bytes
// would reset the connection, and our last packet could be lost.
func (c *conn) linger() {
	var scrap [512]byte
	for deadline := time.Now().Add(lingerTime); time.Now().Before(deadline); {
		c.nc.SetReadDeadline(deadline) // repeated, because stop may set another deadline once
		if _, err := c.nc.Read(scrap[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
	}
	c.out.raw.Close()
	if up, ok := c.nc.(*websocket.Conn); ok {
		up.Wait()
	}
}

// ack writes one of the four acknowledgements, with a reason string for a failure if the
// client wants one.
func (c *conn) ack(kind byte, id uint16, reason packets.Code) error {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: kind},
		ProtocolVersion: c.version,
		PacketID:        id,
		ReasonCode:      reason.Code,
	}
	return c.writeWithReason(&pk, reason)
}

// writeWithReason adds the reason string of an error unless the client
// declined it or it would not fit [MQTT-3.4.2-2].
func (c *conn) writeWithReason(pk *packets.Packet, reason packets.Code) error {
	explain := c.problemInfo || pk.FixedHeader.Type == packets.Disconnect
	if c.version == 5 && reason.Code >= 0x80 && explain {
		pk.Properties.ReasonString = reason.Reason
		if err := c.out.write(pk, c.maxPacket); err != errTooBig {
			return err
		}
		pk.Properties.ReasonString = ""
	}
	return c.out.write(pk, c.maxPacket)
}

// reply writes a SUBACK or UNSUBACK, with a reason string if there is one to give.
func (c *conn) reply(kind byte, id uint16, codes []byte, reason string) {
	pk := packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: kind},
		ProtocolVersion: c.version,
		PacketID:        id,
		ReasonCodes:     codes,
	}
	if c.version == 5 && c.problemInfo && reason != "" {
		pk.Properties.ReasonString = reason
		if c.out.write(&pk, c.maxPacket) != errTooBig {
			return
		}
		pk.Properties.ReasonString = "" // [MQTT-3.9.2-1]
	}
	c.out.write(&pk, c.maxPacket)
}
