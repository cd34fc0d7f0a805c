package mqtt

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"
	"log/slog"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/mochi-mqtt/server/v2/packets"
)

// memStore keeps events in memory, like a file that survives its process.
type memStore struct {
	mu     sync.Mutex
	events [][]byte
	fail   func() error
	broken bool

	latency time.Duration
	last    chan struct{} // with latency: closed when the newest Append is done
}

func (s *memStore) Load(fn func([]byte) error) error {
	for _, p := range s.events {
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

func (s *memStore) Append(events [][]byte, done func(error)) {
	s.later(done, func() error { return s.append(events) })
}

// later calls done with what fn returns, after the latency and in the order of the calls.
func (s *memStore) later(done func(error), fn func() error) {
	if s.latency == 0 {
		done(fn())
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before, mine := s.last, make(chan struct{})
	s.last = mine
	go func() {
		defer close(mine)
		<-time.After(s.latency)
		if before != nil {
			<-before
		}
		done(fn())
	}()
}

func (s *memStore) append(events [][]byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken {
		return ErrPoisoned
	}
	if s.fail != nil {
		if err := s.fail(); err != nil {
			s.broken = true
			return err
		}
	}
	for _, p := range events {
		s.events = append(s.events, slices.Clone(p))
	}
	return nil
}

func (s *memStore) Rewrite(events iter.Seq[[]byte]) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fail != nil {
		if err := s.fail(); err != nil {
			return err
		}
	}
	s.events, s.broken = slices.Collect(events), false
	return nil
}

func (s *memStore) Close() error { return nil }

// snapshot is the store as a crash would leave it now.
func (s *memStore) snapshot() *memStore {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &memStore{events: slices.Clone(s.events)}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// testServer is a Server on a loopback port.
type testServer struct {
	*Server
	addr    string
	backend *memBackend
	store   *memStore
	served  chan error
	latency time.Duration // of the backend
}

// start runs a server with the options, a memory backend and a memory store
// where they are not set.
func start(t testing.TB, o Options) *testServer {
	t.Helper()
	ts := &testServer{served: make(chan error, 1)}
	if o.Backend == nil {
		o.Backend = newBackend()
	}
	if o.Store == nil {
		o.Store = new(memStore)
	}
	ts.backend, _ = o.Backend.(*memBackend)
	if ts.backend != nil && overLog(t) {
		o.Backend, ts.latency = &memLog{memBackend: ts.backend}, logLatency
	}
	if ts.store, _ = o.Store.(*memStore); ts.store != nil && overLog(t) {
		ts.store.latency = storeLatency
	}
	if o.Log == nil {
		o.Log = quiet()
	}
	if len(o.Listeners) == 0 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listeners = []net.Listener{l}
	}
	ts.addr = o.Listeners[0].Addr().String()
	var err error
	if ts.Server, err = New(o); err != nil {
		t.Fatal(err)
	}
	go func() { ts.served <- ts.Serve() }()
	t.Cleanup(func() { ts.Close() })
	return ts
}

// client is a raw MQTT client: it sends what it is told and shows what comes.
type testClient struct {
	t       testing.TB
	nc      net.Conn
	r       *bufio.Reader
	version byte
}

const patience = 5 * time.Second

// pipes is a listener for synctest: connections are pipes in memory.
type pipes struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case nc := <-p.conns:
		return nc, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return pipeAddr{} }

type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// bubble runs fn in a synctest bubble with a server behind pipes: time is
// exact and costs nothing.
func bubble(t *testing.T, o Options, fn func(t *testing.T, s *testServer)) {
	synctest.Test(t, func(t *testing.T) {
		o.Listeners = []net.Listener{newPipes()}
		s := start(t, o)
		fn(t, s)
	})
}

// settled waits, in a bubble, until the Backend has stored what it was given.
func settled() {
	time.Sleep(5 * logLatency)
	synctest.Wait()
}

// dial connects to a server of start.
func dial(t testing.TB, s *testServer) *testClient {
	t.Helper()
	var nc net.Conn
	if p, ok := s.o.Listeners[0].(*pipes); ok {
		var far net.Conn
		nc, far = net.Pipe()
		p.conns <- far
	} else {
		nc = dialTCP(t, s.addr)
	}
	t.Cleanup(func() { nc.Close() })
	return &testClient{t: t, nc: nc, r: bufio.NewReader(nc)}
}

func dialTCP(t testing.TB, addr string) net.Conn {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// connectPacket is a CONNECT with the usual fields.
func connectPacket(version byte, id string, clean bool) packets.Packet {
	name := "MQTT"
	if version == 3 {
		name = "MQIsdp"
	}
	return packets.Packet{
		FixedHeader:     packets.FixedHeader{Type: packets.Connect},
		ProtocolVersion: version,
		Connect:         packets.ConnectParams{ProtocolName: []byte(name), ClientIdentifier: id, Clean: clean, Keepalive: 60},
	}
}

// logIn dials and connects, and returns the CONNACK too.
func logIn(t testing.TB, s *testServer, pk packets.Packet) (*testClient, packets.Packet) {
	t.Helper()
	c := dial(t, s)
	c.version = pk.ProtocolVersion
	c.send(pk)
	ack := c.expect(packets.Connack)
	return c, ack
}

// join is logIn with a CONNACK that must be a success.
func join(t testing.TB, s *testServer, version byte, id string, clean bool) *testClient {
	t.Helper()
	c, ack := logIn(t, s, connectPacket(version, id, clean))
	if ack.ReasonCode != 0 {
		t.Fatalf("CONNACK %#x for %s", ack.ReasonCode, id)
	}
	return c
}

// joinKept connects with MQTT 5 and a session that outlives the connection.
func joinKept(t testing.TB, s *testServer, id string) (*testClient, packets.Packet) {
	t.Helper()
	pk := connectPacket(5, id, false)
	pk.Properties.SessionExpiryInterval, pk.Properties.SessionExpiryIntervalFlag = 3600, true
	return logIn(t, s, pk)
}

func encode(pk packets.Packet) []byte {
	var b bytes.Buffer
	var err error
	pk.Mods.AllowResponseInfo = true
	switch pk.FixedHeader.Type {
	case packets.Connect:
		err = pk.ConnectEncode(&b)
	case packets.Subscribe:
		pk.FixedHeader.Qos = 1
		err = pk.SubscribeEncode(&b)
	case packets.Unsubscribe:
		pk.FixedHeader.Qos = 1
		err = pk.UnsubscribeEncode(&b)
	case packets.Pingreq:
		err = pk.PingreqEncode(&b)
	case packets.Auth:
		err = pk.AuthEncode(&b)
	default:
		err = encodePacket(&b, &pk)
	}
	if err != nil {
		panic(err)
	}
	return b.Bytes()
}

func (c *testClient) send(pk packets.Packet) {
	c.t.Helper()
	pk.ProtocolVersion = c.version
	c.raw(encode(pk))
}

func (c *testClient) raw(p []byte) {
	c.t.Helper()
	c.nc.SetWriteDeadline(time.Now().Add(patience))
	if _, err := c.nc.Write(p); err != nil {
		c.t.Errorf("write: %v", err)
	}
}

// readFrame reads one packet, as a client does.
func readFrame(r *bufio.Reader) (packets.FixedHeader, []byte, error) {
	h, err := readHeader(r, maxFrame, false, nil)
	if err != nil {
		return h, nil, err
	}
	body := make([]byte, h.Remaining)
	_, err = io.ReadFull(r, body)
	return h, body, err
}

// next reads one packet.
func (c *testClient) next(timeout time.Duration) (packets.Packet, error) {
	c.nc.SetReadDeadline(time.Now().Add(timeout))
	h, body, err := readFrame(c.r)
	if err != nil {
		return packets.Packet{}, err
	}
	pk := packets.Packet{FixedHeader: h, ProtocolVersion: c.version}
	switch h.Type {
	case packets.Connack:
		err = pk.ConnackDecode(body)
	case packets.Publish:
		err = pk.PublishDecode(body)
	case packets.Puback:
		err = pk.PubackDecode(body)
	case packets.Pubrec:
		err = pk.PubrecDecode(body)
	case packets.Pubrel:
		err = pk.PubrelDecode(body)
	case packets.Pubcomp:
		err = pk.PubcompDecode(body)
	case packets.Suback:
		err = pk.SubackDecode(body)
	case packets.Unsuback:
		err = pk.UnsubackDecode(body)
	case packets.Pingresp:
	case packets.Disconnect:
		err = pk.DisconnectDecode(body)
		if len(body) == 1 {
			pk.ReasonCode = body[0]
		}
	default:
		err = fmt.Errorf("packet type %d from a server", h.Type)
	}
	return pk, err
}

// expect reads one packet, which must have the type.
func (c *testClient) expect(kind byte) packets.Packet {
	c.t.Helper()
	pk, err := c.next(patience)
	if err != nil {
		c.t.Fatalf("waiting for %s: %v", packets.PacketNames[kind], err)
	}
	if pk.FixedHeader.Type != kind {
		c.t.Fatalf("got %s, want %s: %+v", packets.PacketNames[pk.FixedHeader.Type], packets.PacketNames[kind], pk)
	}
	return pk
}

// silent checks that nothing comes: a PINGREQ is answered first of all.
func (c *testClient) silent() {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Pingreq}})
	c.expect(packets.Pingresp)
}

// closed checks that the server ends the connection, after a DISCONNECT with
// the reason for MQTT 5 when reason is not 0.
func (c *testClient) closed(reason byte) {
	c.t.Helper()
	if reason != 0 {
		if pk := c.expect(packets.Disconnect); pk.ReasonCode != reason {
			c.t.Fatalf("DISCONNECT %#x, want %#x", pk.ReasonCode, reason)
		}
	}
	pk, err := c.next(patience)
	if err == nil {
		c.t.Fatalf("got %+v, want the end", pk)
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.t.Fatal("the connection stays open")
	}
}

func (c *testClient) disconnect() {
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Disconnect}})
	c.nc.SetReadDeadline(time.Now().Add(patience))
	io.Copy(io.Discard, c.r)
	c.nc.Close()
}

func publishPacket(topic, payload string, qos byte, id uint16) packets.Packet {
	return packets.Packet{
		FixedHeader: packets.FixedHeader{Type: packets.Publish, Qos: qos},
		TopicName:   topic, Payload: []byte(payload), PacketID: id,
	}
}

func ackPacket(kind byte, id uint16) packets.Packet {
	return packets.Packet{FixedHeader: packets.FixedHeader{Type: kind}, PacketID: id}
}

// publish sends a message and waits for whatever its QoS promises.
func (c *testClient) publish(topic, payload string, qos byte, id uint16) {
	c.t.Helper()
	c.send(publishPacket(topic, payload, qos, id))
	switch qos {
	case 1:
		c.ackOf(packets.Puback, id)
	case 2:
		c.ackOf(packets.Pubrec, id)
		c.send(ackPacket(packets.Pubrel, id))
		c.ackOf(packets.Pubcomp, id)
	}
}

func (c *testClient) ackOf(kind byte, id uint16) packets.Packet {
	c.t.Helper()
	pk := c.expect(kind)
	if pk.PacketID != id {
		c.t.Fatalf("%s for %d, want %d", packets.PacketNames[kind], pk.PacketID, id)
	}
	return pk
}

// subscribe subscribes and returns the SUBACK's codes.
func (c *testClient) subscribe(subs ...packets.Subscription) []byte {
	c.t.Helper()
	c.send(packets.Packet{FixedHeader: packets.FixedHeader{Type: packets.Subscribe}, PacketID: 77, Filters: subs})
	return c.ackOf(packets.Suback, 77).ReasonCodes
}

func filter(f string, qos byte) packets.Subscription {
	return packets.Subscription{Filter: f, Qos: qos}
}

// message expects a PUBLISH with the payload and acknowledges it.
func (c *testClient) message(payload string) packets.Packet {
	c.t.Helper()
	pk := c.expect(packets.Publish)
	if string(pk.Payload) != payload {
		c.t.Fatalf("got message %q, want %q", pk.Payload, payload)
	}
	c.settle(pk)
	return pk
}

// settle acknowledges a message.
func (c *testClient) settle(pk packets.Packet) {
	c.t.Helper()
	switch pk.FixedHeader.Qos {
	case 1:
		c.send(ackPacket(packets.Puback, pk.PacketID))
	case 2:
		c.send(ackPacket(packets.Pubrec, pk.PacketID))
		c.ackOf(packets.Pubrel, pk.PacketID)
		c.send(ackPacket(packets.Pubcomp, pk.PacketID))
	}
}

func newTestReaderOf(r io.Reader) *bufio.Reader { return bufio.NewReader(r) }
