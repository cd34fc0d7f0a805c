package amqp091

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/mem"
)

var errElsewhere = errors.New("another node has it")

// tunnels opens tunnels from one door to another, and can cut them.
type tunnels struct {
	to     *door
	served sync.WaitGroup
	mu     sync.Mutex
	ends   []io.Closer
	errs   []error // of ServeTunnel
}

func (x *tunnels) open(_ context.Context, t Tunnel) (io.ReadWriteCloser, error) {
	near, far := net.Pipe()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ends = append(x.ends, near, far)
	x.served.Go(func() {
		err := x.to.server.ServeTunnel(t, far)
		far.Close()
		x.mu.Lock()
		defer x.mu.Unlock()
		x.errs = append(x.errs, err)
	})
	return near, nil
}

func (x *tunnels) cut() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, end := range x.ends {
		end.Close()
	}
}

// openTunnels starts two doors. The vhost is at the second one.
func openTunnels(t *testing.T, change func(*Options)) (near, far *door, x *tunnels) {
	t.Helper()
	far = openDoor(t, mem.New(), nil)
	x = &tunnels{to: far}
	t.Cleanup(x.served.Wait)
	near = openDoor(t, mem.New(), func(o *Options) {
		o.Queues = func(string) (*queue.Engine, error) { return nil, errElsewhere }
		o.Remote = x.open
		if change != nil {
			change(o)
		}
	})
	return near, far, x
}

// TestTunnel: a client at a node that does not have its vhost works as at the one that
// has it, which lists its connection.
func TestTunnel(t *testing.T) {
	near, far, x := openTunnels(t, nil)
	c := near.client("guest")
	ch := near.channel(c)
	declareQueue(t, ch, "q", nil)
	if err := errors.Join(ch.Confirm(false), ch.Qos(500, 0, false)); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume("q", "", false, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	large := strings.Repeat("x", 1<<20)
	const messages = 1000
	var confirms []*amqp.DeferredConfirmation
	for i := range messages {
		body := fmt.Sprint(i)
		if i%100 == 0 {
			body += large
		}
		d, err := ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{Body: []byte(body)})
		if err != nil {
			t.Fatal(err)
		}
		confirms = append(confirms, d)
	}
	for i := range messages {
		d := next(t, deliveries)
		if want := fmt.Sprint(i); !strings.HasPrefix(string(d.Body), want) || i%100 == 0 && len(d.Body) != len(want)+len(large) {
			t.Fatalf("message %d has %d bytes: %.20s", i, len(d.Body), d.Body)
		}
		if err := d.Ack(false); err != nil {
			t.Fatal(err)
		}
	}
	for i, d := range confirms {
		if !d.Wait() {
			t.Errorf("message %d is not confirmed", i)
		}
	}
	all := far.server.Connections()
	if len(all) != 1 || all[0].User != "guest" || all[0].Name() != c.LocalAddr().String()+" -> "+c.RemoteAddr().String() || len(all[0].Channels) != 1 {
		t.Errorf("the vhost's node lists %+v", all)
	}
	if all := near.server.Connections(); len(all) != 0 {
		t.Errorf("the client's node lists %+v", all)
	}
	if _, err := ch.QueueDeclare("q", false, false, false, false, nil); !strings.Contains(fmt.Sprint(err), "PRECONDITION_FAILED") {
		t.Errorf("a wrong declaration: %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	x.served.Wait()
	if all := far.server.Connections(); len(all) != 0 || x.errs[0] != nil {
		t.Errorf("after the end: %+v, %v", all, x.errs)
	}
}

// TestTunnelEnds: what a client is told when the vhost's node goes, its connection is
// closed there, or one of the two nodes stops; and that its messages go back.
func TestTunnelEnds(t *testing.T) {
	for name, end := range map[string]struct {
		end  func(near, far *door, x *tunnels)
		want string
	}{
		"cut":      {func(_, _ *door, x *tunnels) { x.cut() }, "the node that has vhost '/' is gone"},
		"closed":   {func(_, far *door, _ *tunnels) { c := far.server.Connections()[0]; c.Close("by an administrator") }, "by an administrator"},
		"far ends": {func(_, far *door, _ *tunnels) { far.server.Close() }, "shutdown"},
		"ends":     {func(near, _ *door, _ *tunnels) { near.server.Close() }, "shutdown"},
	} {
		t.Run(name, func(t *testing.T) {
			near, far, x := openTunnels(t, nil)
			c := near.client("guest")
			ch := near.channel(c)
			declareQueue(t, ch, "q", nil)
			deliveries, err := ch.Consume("q", "", false, false, false, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			publish(t, ch, "q", "one")
			next(t, deliveries)
			closed := c.NotifyClose(make(chan *amqp.Error, 1))
			end.end(near, far, x)
			select {
			case err := <-closed:
				if err == nil || err.Code != amqp.ConnectionForced || !strings.Contains(err.Reason, end.want) {
					t.Errorf("the client is told %v, want %q", err, end.want)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("the client is told nothing")
			}
			x.served.Wait()
			if q, err := far.engine.Queue("/", "q", ""); err != nil || q.Ready != 1 {
				t.Errorf("the queue afterwards: %+v, %v", q, err)
			}
		})
	}
}

// TestTunnelHeartbeats: the client's node answers for the other one, and ends the
// connection of a client that says nothing.
func TestTunnelHeartbeats(t *testing.T) {
	near, _, x := openTunnels(t, nil)
	r := near.dial()
	if m := r.handshake("guest", "guest", "/", 1); m.ID() != wire.IDConnectionOpenOk {
		t.Fatalf("got %+v", m)
	}
	r.ended()
	x.served.Wait()
}

// TestTunnelRefused: descriptions that cannot be served.
func TestTunnelRefused(t *testing.T) {
	d := openDoor(t, mem.New(), func(o *Options) {
		engine := o.Queues
		o.MaxConns = 1
		o.Queues = func(vhost string) (*queue.Engine, error) {
			if vhost == "elsewhere" {
				return nil, errElsewhere
			}
			return engine(vhost)
		}
	})
	good := Tunnel{Vhost: "/", Principal: "User:guest", User: "guest", Guest: true, FrameMax: maxFrame, ChannelMax: 10}
	for name, c := range map[string]struct {
		change func(*Tunnel)
		want   error
	}{
		"vhost elsewhere": {func(t *Tunnel) { t.Vhost = "elsewhere" }, ErrNoVhost},
		"small frames":    {func(t *Tunnel) { t.FrameMax = 1 }, errTunnel},
		"large frames":    {func(t *Tunnel) { t.FrameMax = 1 << 30 }, errTunnel},
		"no channels":     {func(t *Tunnel) { t.ChannelMax = 0 }, errTunnel},
		"nobody":          {func(t *Tunnel) { t.Principal = "" }, errTunnel},
	} {
		bad := good
		c.change(&bad)
		_, far := net.Pipe()
		if err := d.server.ServeTunnel(bad, far); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	near, far := net.Pipe()
	served := make(chan error, 1)
	go func() { served <- d.server.ServeTunnel(good, far) }()
	in := wire.NewReader(near)
	if f, err := in.Next(); err != nil || f.Channel != 0 {
		t.Fatalf("%+v, %v", f, err)
	}
	_, second := net.Pipe()
	if err := d.server.ServeTunnel(good, second); !errors.Is(err, errFull) {
		t.Errorf("one too many: %v", err)
	}
	near.Close()
	if err := <-served; err != nil {
		t.Error(err)
	}
	if err := d.server.Close(); err != nil {
		t.Error(err)
	}
	_, late := net.Pipe()
	if err := d.server.ServeTunnel(good, late); !errors.Is(err, errFull) {
		t.Errorf("after Close: %v", err)
	}
}

// closes counts how often a stream is closed.
type closes struct {
	io.ReadWriter
	n atomic.Int32
}

func (c *closes) Close() error { c.n.Add(1); return nil }

// TestTunnelDeadline: the stream is closed at the deadline, and not once more when it was
// closed before.
func TestTunnelDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, early := range []bool{false, true} {
			c := new(closes)
			e := &tunnelEnd{ReadWriteCloser: c}
			if err := e.SetReadDeadline(time.Now().Add(time.Second)); err != nil {
				t.Fatal(err)
			}
			if early {
				e.Close()
			}
			if err := e.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2*time.Second - 1)
			if before := c.n.Load(); early != (before == 1) {
				t.Errorf("closed %d times before the last deadline", before)
			}
			time.Sleep(time.Minute)
			if n := c.n.Load(); n != 1 {
				t.Errorf("closed %d times", n)
			}
		}
	})
}
