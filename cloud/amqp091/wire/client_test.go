package wire

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// queueServer is as much of a server as a client needs to see that the codec is right: one
// connection, queues in memory, the default exchange, confirms.
type queueServer struct {
	r      *Reader
	w      *Writer
	conn   net.Conn
	states map[uint16]*Assembler
	queues map[string][]message
	tag    map[uint16]uint64 // of the last confirm of each channel
}

type message struct {
	properties, body []byte
}

// serve answers one connection until it is closed.
func serve(conn net.Conn) error {
	defer conn.Close()
	if p, err := ReadPreface(conn); err != nil || p.Protocol() != AMQP091 {
		return errors.Join(err, errors.New("no preface of 0-9-1"))
	}
	s := &queueServer{NewReader(conn), NewWriter(), conn, make(map[uint16]*Assembler), make(map[string][]message), make(map[uint16]uint64)}
	var properties Builder
	properties.Add("product", Text("test"))
	t, err := properties.Table()
	if err != nil {
		return err
	}
	err = s.w.Method(0, &ConnectionStart{VersionMinor: 9, ServerProperties: t, Mechanisms: []byte("PLAIN"), Locales: []byte("en_US")})
	for err == nil {
		if !s.r.Buffered() && s.w.Len() > 0 {
			if _, err = s.w.WriteTo(conn); err != nil {
				break
			}
		}
		err = s.next()
	}
	if errors.Is(err, errClosed) {
		_, err = s.w.WriteTo(conn)
	}
	return err
}

var errClosed = errors.New("closed")

func (s *queueServer) next() error {
	f, err := s.r.Next()
	if err != nil || f.Type == FrameHeartbeat {
		return err
	}
	a := s.states[f.Channel]
	if a == nil {
		a = &Assembler{From: Client, MaxBody: 16 << 20}
		s.states[f.Channel] = a
	}
	done, err := a.Add(f)
	if err != nil || !done {
		return err
	}
	return s.handle(f.Channel, a)
}

func (s *queueServer) handle(channel uint16, a *Assembler) error {
	switch m := a.Method().(type) {
	case *ConnectionStartOk:
		if string(m.Response) != "\x00guest\x00secret" || !m.ClientProperties.Lookup("product").Exists() {
			return errors.New("another login")
		}
		return s.w.Method(0, &ConnectionTune{ChannelMax: 100, FrameMax: 8192, Heartbeat: 60})
	case *ConnectionTuneOk:
		s.r.SetFrameMax(m.FrameMax)
		s.w.SetFrameMax(m.FrameMax)
		return nil
	case *ConnectionOpen:
		return s.w.Method(0, new(ConnectionOpenOk))
	case *ConnectionClose:
		return errors.Join(s.w.Method(0, new(ConnectionCloseOk)), errClosed)
	case *ChannelOpen:
		return s.w.Method(channel, new(ChannelOpenOk))
	case *ChannelClose:
		return s.w.Method(channel, new(ChannelCloseOk))
	case *ConfirmSelect:
		return s.w.Method(channel, new(ConfirmSelectOk))
	case *QueueDeclare:
		return s.declare(channel, m)
	case *BasicPublish:
		return s.publish(channel, m, message{append([]byte(nil), a.Properties()...), append([]byte(nil), a.Body()...)})
	case *BasicGet:
		return s.get(channel, m)
	case *BasicConsume:
		return s.consume(channel, m)
	case *BasicAck, *ChannelCloseOk:
		return nil
	}
	return errors.New(a.Method().ID().String())
}

func (s *queueServer) declare(channel uint16, m *QueueDeclare) error {
	if m.Passive && s.queues[m.Queue] == nil {
		e := &Error{Code: NotFound, Text: "no queue '" + m.Queue + "' in vhost '/'", Method: m.ID()}
		on, closing := e.Close(channel)
		return s.w.Method(on, closing)
	}
	if n, ok := m.Arguments.Lookup("x-max-length").Int(); !ok || n != 1000 {
		return errors.New("other arguments")
	}
	s.queues[m.Queue] = []message{}
	return s.w.Method(channel, &QueueDeclareOk{Queue: m.Queue})
}

func (s *queueServer) publish(channel uint16, m *BasicPublish, msg message) error {
	q, ok := s.queues[m.RoutingKey]
	if ok {
		s.queues[m.RoutingKey] = append(q, msg)
	} else if err := s.w.Content(channel, &BasicReturn{ReplyCode: uint16(NoRoute), ReplyText: NoRoute.String(), RoutingKey: m.RoutingKey}, msg.properties, msg.body); err != nil {
		return err
	}
	s.tag[channel]++
	return s.w.Method(channel, &BasicAck{DeliveryTag: s.tag[channel]})
}

func (s *queueServer) get(channel uint16, m *BasicGet) error {
	q := s.queues[m.Queue]
	if len(q) == 0 {
		return s.w.Method(channel, new(BasicGetEmpty))
	}
	s.queues[m.Queue] = q[1:]
	return s.w.Content(channel, &BasicGetOk{DeliveryTag: 1, RoutingKey: m.Queue, MessageCount: uint32(len(q) - 1)}, q[0].properties, q[0].body)
}

func (s *queueServer) consume(channel uint16, m *BasicConsume) error {
	err := s.w.Method(channel, &BasicConsumeOk{ConsumerTag: m.ConsumerTag})
	for i, msg := range s.queues[m.Queue] {
		err = errors.Join(err, s.w.Content(channel, &BasicDeliver{ConsumerTag: m.ConsumerTag, DeliveryTag: uint64(i + 1), RoutingKey: m.Queue}, msg.properties, msg.body))
	}
	return err
}

// dial returns a channel of RabbitMQ's client, connected to a server of this codec.
func dial(t *testing.T) (*amqp.Channel, func()) {
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(there) }()
	c, ch := open(t, here)
	return ch, func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
		if err := <-served; err != nil && !errors.Is(err, io.ErrClosedPipe) {
			t.Error(err)
		}
	}
}

// open logs RabbitMQ's client in, and opens a channel.
func open(t testing.TB, conn net.Conn) (*amqp.Connection, *amqp.Channel) {
	c, err := amqp.Open(conn, amqp.Config{SASL: []amqp.Authentication{&amqp.PlainAuth{Username: "guest", Password: "secret"}}, Vhost: "/", Locale: "en_US"})
	if err != nil {
		t.Fatal(err)
	}
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	return c, ch
}

// RabbitMQ's own client opens, declares, publishes, gets, consumes and closes.
func TestRabbitMQClient(t *testing.T) {
	ch, end := dial(t)
	defer end()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	returns := ch.NotifyReturn(make(chan amqp.Return, 1))
	if q, err := ch.QueueDeclare("q", true, false, false, false, amqp.Table{"x-max-length": int64(1000)}); err != nil || q.Name != "q" {
		t.Fatal(q, err)
	}
	headers := amqp.Table{
		"bool": true, "i8": int8(-1), "u8": byte(255), "i16": int16(-2), "i32": int32(-3), "i64": int64(-4), "f32": float32(1.5), "f64": 2.5,
		"text": "x", "bytes": []byte{0xff}, "time": time.Unix(1e9, 0), "decimal": amqp.Decimal{Scale: 2, Value: 314},
		"table": amqp.Table{"a": nil}, "array": []any{int32(1), "two"},
	}
	bodies := []string{"", "hello", strings.Repeat("x", 8192-FrameOverhead), strings.Repeat("y", 100_000)}
	for _, body := range bodies {
		publish(ctx, t, ch, "q", amqp.Publishing{
			Headers: headers, ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: 2, Priority: 9, CorrelationId: "c", ReplyTo: "r",
			Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1e9, 0), Type: "t", UserId: "guest", AppId: "a", Body: []byte(body),
		})
	}
	deliveries, err := ch.Consume("q", "tag", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, body := range bodies {
		d := <-deliveries
		compare(t, d, body, headers)
	}
	for _, body := range bodies {
		d, ok, err := ch.Get("q", true)
		if err != nil || !ok {
			t.Fatal(ok, err)
		}
		compare(t, d, body, headers)
	}
	if _, ok, err := ch.Get("q", true); ok || err != nil {
		t.Error(ok, err)
	}
	publish(ctx, t, ch, "nowhere", amqp.Publishing{Body: []byte("back")})
	if r := <-returns; r.ReplyCode != 312 || r.RoutingKey != "nowhere" || string(r.Body) != "back" {
		t.Errorf("%+v", r)
	}
	var e *amqp.Error
	if _, err := ch.QueueDeclarePassive("none", true, false, false, false, nil); !errors.As(err, &e) || e.Code != 404 || e.Reason != "NOT_FOUND - no queue 'none' in vhost '/'" {
		t.Error(err)
	}
}

func publish(ctx context.Context, t *testing.T, ch *amqp.Channel, key string, p amqp.Publishing) {
	t.Helper()
	c, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", key, false, false, p)
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := c.WaitContext(ctx); !ok || err != nil {
		t.Fatal(ok, err)
	}
}

func compare(t *testing.T, d amqp.Delivery, body string, headers amqp.Table) {
	t.Helper()
	if string(d.Body) != body || d.RoutingKey != "q" || d.ContentType != "text/plain" || d.ContentEncoding != "utf-8" || d.DeliveryMode != 2 || d.Priority != 9 ||
		d.CorrelationId != "c" || d.ReplyTo != "r" || d.Expiration != "60000" || d.MessageId != "m" || d.Timestamp.Unix() != 1e9 || d.Type != "t" || d.UserId != "guest" || d.AppId != "a" {
		t.Errorf("got %+v", d)
	}
	if err := headers.Validate(); err != nil || len(d.Headers) != len(headers) || d.Headers["i16"] != int16(-2) || d.Headers["f64"] != 2.5 || d.Headers["decimal"] != (amqp.Decimal{Scale: 2, Value: 314}) {
		t.Errorf("got %v, want %v (%v)", d.Headers, headers, err)
	}
}

// mute is a connection that stops sending when it is told to.
type mute struct {
	net.Conn
	on atomic.Bool
}

func (m *mute) Write(p []byte) (int, error) {
	if m.on.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

// BenchmarkWritePublish writes the same publish with this codec and with RabbitMQ's client,
// both to nowhere.
func BenchmarkWritePublish(b *testing.B) {
	for _, x := range []struct {
		name string
		size int
	}{{"100B", 100}, {"1KiB", 1024}} {
		body := make([]byte, x.size)
		b.Run("wire/"+x.name, func(b *testing.B) { writePublishes(b, body) })
		b.Run("amqp091-go/"+x.name, func(b *testing.B) { writeClientPublishes(b, body) })
	}
}

func writePublishes(b *testing.B, body []byte) {
	w, m, p, raw := NewWriter(), &BasicPublish{Exchange: "amq.topic", RoutingKey: "a.b.c"}, &Properties{Flags: HasContentType | HasDeliveryMode, ContentType: "text/plain", DeliveryMode: 2}, []byte(nil)
	w.SetFrameMax(8192)
	b.ReportAllocs()
	for b.Loop() {
		var err error
		if raw, err = p.Append(raw[:0]); err != nil {
			b.Fatal(err)
		}
		if err := w.Content(1, m, raw, body); err != nil {
			b.Fatal(err)
		}
		if _, err := w.WriteTo(io.Discard); err != nil {
			b.Fatal(err)
		}
	}
}

func writeClientPublishes(b *testing.B, body []byte) {
	here, there := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- serve(there) }()
	silent := &mute{Conn: here}
	_, ch := open(b, silent)
	silent.on.Store(true)
	b.ReportAllocs()
	for b.Loop() {
		if err := ch.PublishWithContext(b.Context(), "amq.topic", "a.b.c", false, false, amqp.Publishing{ContentType: "text/plain", DeliveryMode: 2, Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	here.Close()
	if err := <-served; !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		b.Error(err)
	}
}
