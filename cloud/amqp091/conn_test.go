package amqp091

import (
	"context"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/mem"
)

// gated is a bucket in which nothing is created while the gate is closed.
type gated struct {
	storage.Bucket
	gate sync.RWMutex
}

func (g *gated) Create(ctx context.Context, key string, body []byte) error {
	g.gate.RLock()
	defer g.gate.RUnlock()
	return g.Bucket.Create(ctx, key, body)
}

// TestConfirmIsDurable: a publish is confirmed when the bucket has it, not before, and so
// is the commit of a transaction.
func TestConfirmIsDurable(t *testing.T) {
	bucket := &gated{Bucket: mem.New()}
	d := openDoor(t, bucket, nil)
	r := d.opened()
	r.send(1, &wire.QueueDeclare{Queue: "q"})
	r.expect(1, wire.IDQueueDeclareOk)
	r.send(1, &wire.ConfirmSelect{})
	r.expect(1, wire.IDConfirmSelectOk)
	bucket.gate.Lock()
	r.publish(1, &wire.BasicPublish{RoutingKey: "q"}, nil, "x")
	r.send(2, &wire.ChannelOpen{}) // is answered by the same goroutine, after the publish was submitted
	r.expect(2, wire.IDChannelOpenOk)
	if i, err := d.engine.Queue("/", "q", ""); err != nil || i.Ready != 0 {
		t.Errorf("%d messages are in the queue before they are durable: %v", i.Ready, err)
	}
	r.nc.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if f, err := r.frames.Next(); err == nil {
		t.Errorf("a frame came before the message is durable: %+v", f)
	}
	r.nc.SetReadDeadline(time.Now().Add(20 * time.Second))
	bucket.gate.Unlock()
	if ack := r.expect(1, wire.IDBasicAck).(*wire.BasicAck); ack.DeliveryTag != 1 {
		t.Errorf("confirmed %d", ack.DeliveryTag)
	}
}

// TestPermissions: what a user may do depends on the names, and a change acts at once.
func TestPermissions(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	ctx := t.Context()
	set := func(configure, write, read string) {
		t.Helper()
		if err := d.users.SetVhostPermissions(ctx, auth.VhostPermissions{User: "u", Vhost: "/", Configure: configure, Write: write, Read: read}); err != nil {
			t.Fatal(err)
		}
	}
	secret, err := auth.NewCredential(auth.SCRAMSHA256, "u")
	if err != nil {
		t.Fatal(err)
	}
	if err := d.users.SetCredentials(ctx, "u", secret); err != nil {
		t.Fatal(err)
	}
	if _, err := amqp.Dial("amqp://guest:guest@" + d.addr + "/"); err == nil {
		t.Error("guest comes in although there are users")
	}
	if _, err := amqp.Dial("amqp://u:u@" + d.addr + "/"); err == nil {
		t.Error("a user without permissions opens the vhost")
	}
	set("^own", "^(own|amq\\.default)", "^own")
	c := d.client("u")
	refused := func(what, want string, do func(*amqp.Channel) error) {
		t.Helper()
		ch := d.channel(c)
		closed := ch.NotifyClose(make(chan *amqp.Error, 1))
		err := do(ch)
		if err == nil {
			err = <-closed
		}
		if e, ok := err.(*amqp.Error); !ok || e == nil || e.Code != 403 || e.Reason != "ACCESS_REFUSED - access to "+want+" in vhost '/' refused for user 'u'" {
			t.Errorf("%s: %v", what, err)
		}
	}
	ch := d.channel(c)
	declareQueue(t, ch, "own", nil)
	publish(t, ch, "own", "a")
	if _, ok, err := ch.Get("own", true); !ok || err != nil {
		t.Errorf("get from own: %v, %v", ok, err)
	}
	refused("declare", "queue 'other'", func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare("other", false, false, false, false, nil)
		return err
	})
	refused("consume", "queue 'other'", func(ch *amqp.Channel) error {
		_, err := ch.Consume("other", "", false, false, false, false, nil)
		return err
	})
	refused("publish", "exchange 'amq.topic'", func(ch *amqp.Channel) error {
		return ch.Publish("amq.topic", "k", false, false, amqp.Publishing{})
	})
	refused("bind", "exchange 'amq.topic'", func(ch *amqp.Channel) error { return ch.QueueBind("own", "k", "amq.topic", false, nil) })
	set("^$", "^$", "^$")
	refused("publish", "exchange 'amq.default'", func(ch *amqp.Channel) error {
		return ch.Publish("", "own", false, false, amqp.Publishing{})
	})
}

// TestHeartbeats: the server sends them, and closes the connection of a client that is
// silent for two of them.
func TestHeartbeats(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), nil)
	r := d.dial()
	if m := r.handshake("guest", "guest", "/", 1); m.ID() != wire.IDConnectionOpenOk {
		t.Fatalf("%+v", m)
	}
	f, err := r.frames.Next()
	if err != nil || f.Type != wire.FrameHeartbeat {
		t.Fatalf("%+v, %v", f, err)
	}
	r.ended()
}

// TestCancelled: consumers of a queue that is deleted are told.
func TestCancelled(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	r := d.opened()
	r.send(1, &wire.QueueDeclare{Queue: "q"})
	r.expect(1, wire.IDQueueDeclareOk)
	r.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
	r.expect(1, wire.IDBasicConsumeOk)
	if _, err := d.engine.DeleteQueue(t.Context(), "/", "q", "", false, false); err != nil {
		t.Fatal(err)
	}
	if m := r.expect(1, wire.IDBasicCancel).(*wire.BasicCancel); m.ConsumerTag != "t" || !m.NoWait {
		t.Errorf("%+v", m)
	}
}

// TestEngineEnds: clients of a node that does not serve the queues any more are told to
// connect again, whether they consume or publish.
func TestEngineEnds(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	consumer, publisher := d.opened(), d.opened()
	consumer.send(1, &wire.QueueDeclare{Queue: "q"})
	consumer.expect(1, wire.IDQueueDeclareOk)
	consumer.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
	consumer.expect(1, wire.IDBasicConsumeOk)
	d.engine.Close()
	publisher.publish(1, &wire.BasicPublish{RoutingKey: "q"}, nil, "x")
	for _, r := range []*raw{consumer, publisher} {
		m := r.expect(0, wire.IDConnectionClose).(*wire.ConnectionClose)
		if m.ReplyCode != uint16(wire.ConnectionForced) {
			t.Errorf("%+v", m)
		}
		r.send(0, &wire.ConnectionCloseOk{})
		r.ended()
	}
}

// pipes is a listener of connections in memory.
type pipes struct{ all chan net.Conn }

func (p *pipes) Accept() (net.Conn, error) {
	c, ok := <-p.all
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (p *pipes) Close() error {
	defer func() { _ = recover() }() // closed before
	close(p.all)
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// FuzzConn: whatever a client sends after it has opened its vhost, the connection ends, and
// the next client is served.
func FuzzConn(f *testing.F) {
	p := &pipes{make(chan net.Conn)}
	d := openOn(f, mem.New(), p, func(o *Options) { o.Listeners[0].Guests, o.Listeners[0].Anonymous = false, true })
	connect := func(t testing.TB) *raw {
		ours, theirs := net.Pipe()
		p.all <- theirs
		ours.SetDeadline(time.Now().Add(20 * time.Second))
		r := &raw{t: t, nc: ours, frames: wire.NewReader(ours), out: wire.NewWriter()}
		if m := r.handshake("a", "b", "/", 0); m.ID() != wire.IDConnectionOpenOk {
			t.Fatalf("%+v", m)
		}
		return r
	}
	open := frame(wire.FrameMethod, 1, 0, 20, 0, 10, 0)
	for _, more := range [][]byte{
		frame(wire.FrameMethod, 1, 0, 50, 0, 10, 0, 0, 1, 'q', 0, 0, 0, 0, 0),
		frame(wire.FrameMethod, 1, 0, 60, 0, 20, 0, 0, 1, 'q', 0, 0, 0, 0, 0, 0),
		append(append(frame(wire.FrameMethod, 1, 0, 60, 0, 40, 0, 0, 0, 1, 'q', 0), frame(wire.FrameHeader, 1, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0)...), frame(wire.FrameBody, 1, 'x')...),
		frame(wire.FrameMethod, 1, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0, 1),
		frame(wire.FrameMethod, 1, 0, 85, 0, 10, 0), frame(wire.FrameMethod, 1, 0, 90, 0, 10), frame(wire.FrameMethod, 1, 0, 90, 0, 20),
		frame(wire.FrameMethod, 0, 0, 10, 0, 51), frame(wire.FrameHeartbeat, 0),
	} {
		f.Add(append(append([]byte(nil), open...), more...))
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := connect(t)
		go func() {
			_, _ = r.nc.Write(sent)
			_, _ = r.nc.Write(frame(wire.FrameMethod, 0, 0, 10, 0, 51)) // the answer, if it was asked to close
			_ = r.nc.Close()
		}()
		_, _ = io.Copy(io.Discard, r.nc)
		connect(t).nc.Close()
		if used := d.server.memory.Used(); used > int64(d.server.o.MemoryBytes) {
			t.Errorf("%d bytes are held", used)
		}
	})
}

// TestShutdown: a server that closes tells its clients, and does not wait long for those
// that do not answer.
func TestShutdown(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	polite, silent := d.opened(), d.opened()
	closed := make(chan error, 1)
	go func() { closed <- d.server.Close() }()
	for _, r := range []*raw{polite, silent} {
		if m := r.expect(0, wire.IDConnectionClose).(*wire.ConnectionClose); m.ReplyCode != uint16(wire.ConnectionForced) {
			t.Errorf("%+v", m)
		}
	}
	polite.send(0, &wire.ConnectionCloseOk{})
	polite.ended()
	silent.ended()
	if err := <-closed; err != nil {
		t.Error(err)
	}
}
