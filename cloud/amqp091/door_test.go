package amqp091

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/commitlog"
	logstate "github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/mem"
)

// door is a server with an engine and users on a log of its own.
type door struct {
	t      testing.TB
	addr   string
	engine *queue.Engine
	users  *auth.Auth
	server *Server
}

// openDoor starts a door on loopback, which ends with the test.
func openDoor(t testing.TB, bucket storage.Bucket, change func(*Options)) *door {
	t.Helper()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return openOn(t, bucket, nl, change)
}

func openOn(t testing.TB, bucket storage.Bucket, nl net.Listener, change func(*Options)) *door {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	d := &door{t: t, addr: nl.Addr().String(), engine: queue.New(queue.Options{Log: quiet}), users: auth.New(auth.Options{})}
	log, err := commitlog.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: "a", Log: quiet, Machines: []logstate.Machine{d.engine, d.users}})
	if err != nil {
		t.Fatal(err)
	}
	d.engine.Start(t.Context(), machine.WaitingLog{Log: log})
	d.users.Start(t.Context(), machine.WaitingLog{Log: log})
	o := Options{
		Listeners:  []listener.Listener{{Listener: nl, Name: "default", SASL: []string{login.Plain}, Guests: true}},
		Queues:     func(string) (*queue.Engine, error) { return d.engine, nil },
		Access:     access.New(access.Options{Broker: broker.New(broker.Options{}), Users: func() *auth.Auth { return d.users }}),
		LoginPause: time.Millisecond, Log: quiet,
	}
	if change != nil {
		change(&o)
	}
	if d.server, err = New(o); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- d.server.Serve() }()
	t.Cleanup(func() {
		if err := d.server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		log.Close()
		d.engine.Close()
		d.users.Close()
	})
	return d
}

// client connects RabbitMQ's Go client.
func (d *door) client(user string) *amqp.Connection {
	d.t.Helper()
	c, err := amqp.Dial("amqp://" + user + ":" + user + "@" + d.addr + "/")
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { c.Close() })
	return c
}

// channel opens a channel of RabbitMQ's Go client.
func (d *door) channel(c *amqp.Connection) *amqp.Channel {
	d.t.Helper()
	ch, err := c.Channel()
	if err != nil {
		d.t.Fatal(err)
	}
	return ch
}

// declareQueue declares a durable queue.
func declareQueue(t testing.TB, ch *amqp.Channel, name string, arguments amqp.Table) {
	t.Helper()
	if _, err := ch.QueueDeclare(name, true, false, false, false, arguments); err != nil {
		t.Fatal(err)
	}
}

// next returns the next message of a consumer.
func next(t testing.TB, in <-chan amqp.Delivery) amqp.Delivery {
	t.Helper()
	select {
	case m, ok := <-in:
		if !ok {
			t.Fatal("the consumer has ended")
		}
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message came")
		panic("not reached")
	}
}

// publish publishes bodies to a queue, durable on return.
func publish(t testing.TB, ch *amqp.Channel, to string, bodies ...string) {
	t.Helper()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for _, b := range bodies {
		c, err := ch.PublishWithDeferredConfirm("", to, false, false, amqp.Publishing{Body: []byte(b)})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := c.WaitContext(t.Context()); !ok || err != nil {
			t.Fatalf("publish %s: %v, %v", b, ok, err)
		}
	}
}

// raw is a client that sends what it is told.
type raw struct {
	t      testing.TB
	nc     net.Conn
	frames *wire.Reader
	out    *wire.Writer
}

// dial connects, without a word.
func (d *door) dial() *raw {
	d.t.Helper()
	nc, err := net.Dial("tcp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { nc.Close() })
	nc.SetDeadline(time.Now().Add(20 * time.Second))
	return &raw{t: d.t, nc: nc, frames: wire.NewReader(nc), out: wire.NewWriter()}
}

// opened is a connection to the default vhost with channel 1.
func (d *door) opened() *raw {
	d.t.Helper()
	r := d.dial()
	r.handshake("guest", "guest", "/", 0)
	r.send(1, &wire.ChannelOpen{})
	r.expect(1, wire.IDChannelOpenOk)
	return r
}

// clientProperties are those of a client that understands everything.
func clientProperties(t testing.TB) wire.Table {
	var can, all wire.Builder
	for _, name := range []string{"authentication_failure_close", "consumer_cancel_notify", "connection.blocked"} {
		can.Add(name, wire.Bool(true))
	}
	capabilities, err := can.Table()
	if err != nil {
		t.Fatal(err)
	}
	all.Add("capabilities", wire.Nested(capabilities))
	table, err := all.Table()
	if err != nil {
		t.Fatal(err)
	}
	return table
}

// handshake opens the connection as far as the server lets it, and returns the last method.
func (r *raw) handshake(user, password, vhost string, heartbeat uint16) wire.Method {
	r.t.Helper()
	header := wire.PrefaceOf091()
	r.write(header[:])
	r.expect(0, wire.IDConnectionStart)
	r.send(0, &wire.ConnectionStartOk{ClientProperties: clientProperties(r.t), Mechanism: "PLAIN", Response: []byte("\x00" + user + "\x00" + password), Locale: "en_US"})
	if _, m := r.method(); m.ID() != wire.IDConnectionTune {
		return m
	}
	r.send(0, &wire.ConnectionTuneOk{ChannelMax: 2047, FrameMax: 4096, Heartbeat: heartbeat})
	r.send(0, &wire.ConnectionOpen{VirtualHost: vhost})
	_, m := r.method()
	return m
}

func (r *raw) write(p []byte) {
	r.t.Helper()
	if _, err := r.nc.Write(p); err != nil {
		r.t.Fatal(err)
	}
}

func (r *raw) send(channel uint16, m wire.Method) {
	r.t.Helper()
	if err := r.out.Method(channel, m); err != nil {
		r.t.Fatal(err)
	}
	r.flush()
}

func (r *raw) publish(channel uint16, m *wire.BasicPublish, properties []byte, body string) {
	r.t.Helper()
	if err := r.out.Content(channel, m, properties, []byte(body)); err != nil {
		r.t.Fatal(err)
	}
	r.flush()
}

func (r *raw) flush() {
	r.t.Helper()
	if _, err := r.out.WriteTo(r.nc); err != nil {
		r.t.Fatal(err)
	}
}

// method returns the next method, without heartbeats and content.
func (r *raw) method() (uint16, wire.Method) {
	r.t.Helper()
	for {
		f, err := r.frames.Next()
		if err != nil {
			r.t.Fatalf("no method: %v", err)
		}
		if f.Type != wire.FrameMethod {
			continue
		}
		m, err := wire.ParseMethod(f.Payload)
		if err != nil {
			r.t.Fatal(err)
		}
		return f.Channel, m
	}
}

func (r *raw) expect(channel uint16, id wire.MethodID) wire.Method {
	r.t.Helper()
	got, m := r.method()
	if got != channel || m.ID() != id {
		r.t.Fatalf("%+v on channel %d, want %v on %d", m, got, id, channel)
	}
	return m
}

// ended fails unless the server closes the connection.
func (r *raw) ended() {
	r.t.Helper()
	for {
		_, err := r.frames.Next()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return
		}
		if op, ok := errors.AsType[*net.OpError](err); ok && !op.Timeout() {
			return
		}
		if err != nil {
			r.t.Fatalf("the connection is still open: %v", err)
		}
	}
}

// frame returns the bytes of a frame.
func frame(kind wire.FrameType, channel uint16, payload ...byte) []byte {
	b := []byte{byte(kind), byte(channel >> 8), byte(channel), 0, 0, byte(len(payload) >> 8), byte(len(payload))}
	return append(append(b, payload...), 0xce)
}

// TestRound: what is published comes, is settled, and comes again if it is not.
func TestRound(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	c := d.client("guest")
	ch := d.channel(c)
	declareQueue(t, ch, "q", nil)
	publish(t, ch, "q", "a", "b", "c", "d")
	if err := ch.Qos(3, 0, false); err != nil {
		t.Fatal(err)
	}
	in, err := ch.Consume("q", "tag", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for range 3 {
		m := next(t, in)
		got = append(got, string(m.Body))
		if string(m.Body) == "b" {
			if err := m.Ack(false); err != nil {
				t.Fatal(err)
			}
		}
	}
	got = append(got, string(next(t, in).Body))
	if !slices.Equal(got, []string{"a", "b", "c", "d"}) {
		t.Errorf("got %v", got)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	ch = d.channel(d.client("guest"))
	for _, want := range []string{"a", "c", "d"} {
		m, ok, err := ch.Get("q", true)
		if err != nil || !ok || string(m.Body) != want || !m.Redelivered {
			t.Errorf("got %q, %v, %v, want %s, redelivered", m.Body, ok, err, want)
		}
	}
	if _, ok, err := ch.Get("q", true); ok || err != nil {
		t.Errorf("what was acknowledged is still there: %v", err)
	}
}

// TestLargeBody: a body of many frames arrives as it was.
func TestLargeBody(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	ch := d.channel(d.client("guest"))
	declareQueue(t, ch, "q", nil)
	body := bytes.Repeat([]byte("0123456789"), 300_000)
	publish(t, ch, "q", string(body))
	m, ok, err := ch.Get("q", true)
	if err != nil || !ok || !bytes.Equal(m.Body, body) {
		t.Fatalf("%d bytes, %v, %v", len(m.Body), ok, err)
	}
	_, err = ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{Body: make([]byte, 5<<20)})
	closed := ch.NotifyClose(make(chan *amqp.Error, 1))
	if err == nil {
		if e := <-closed; e == nil || e.Code != 406 {
			t.Errorf("a body of 5 MiB: %v", e)
		}
	}
}
