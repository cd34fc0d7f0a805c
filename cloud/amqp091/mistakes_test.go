package amqp091

import (
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/mem"
)

// table makes a table of one value.
func table(t testing.TB, name string, v wire.Value) wire.Table {
	t.Helper()
	var b wire.Builder
	b.Add(name, v)
	of, err := b.Table()
	if err != nil {
		t.Fatal(err)
	}
	return of
}

// TestMistakes: each mistake has RabbitMQ's code and text, and names the method. A soft one
// closes its channel only.
func TestMistakes(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	setup := d.opened()
	setup.send(1, &wire.QueueDeclare{Queue: "q"})
	setup.expect(1, wire.IDQueueDeclareOk)
	setup.send(1, &wire.QueueDeclare{Queue: "mine", Exclusive: true})
	setup.expect(1, wire.IDQueueDeclareOk)
	const q, vhost = "queue 'q'", " in vhost '/'"
	method := func(m wire.Method) func(*raw) { return func(r *raw) { r.send(1, m) } }
	bytes := func(p []byte) func(*raw) { return func(r *raw) { r.write(p) } }
	for name, c := range map[string]struct {
		do   func(*raw)
		want *wire.Error
	}{
		"403 reserved":    {method(&wire.QueueDeclare{Queue: "amq.x"}), &wire.Error{Code: wire.AccessRefused, Text: "queue name 'amq.x' contains reserved prefix 'amq.*'", Method: wire.IDQueueDeclare}},
		"404 queue":       {method(&wire.QueuePurge{Queue: "none"}), &wire.Error{Code: wire.NotFound, Text: "no queue 'none'" + vhost, Method: wire.IDQueuePurge}},
		"404 no last":     {method(&wire.BasicGet{}), &wire.Error{Code: wire.NotFound, Text: "no previously declared queue", Method: wire.IDBasicGet}},
		"405 exclusive":   {method(&wire.BasicGet{Queue: "mine"}), &wire.Error{Code: wire.ResourceLocked, Text: "cannot obtain exclusive access to locked queue 'mine'" + vhost + ". It could be originally declared on another connection or the exclusive property value does not match that of the original declaration.", Method: wire.IDBasicGet}},
		"406 unequal":     {method(&wire.QueueDeclare{Queue: "q", Durable: true}), &wire.Error{Code: wire.PreconditionFailed, Text: "inequivalent arg 'durable' for " + q + vhost + ": received 'true' but current is 'false'", Method: wire.IDQueueDeclare}},
		"406 tag":         {method(&wire.BasicAck{DeliveryTag: 7}), &wire.Error{Code: wire.PreconditionFailed, Text: "unknown delivery tag 7", Method: wire.IDBasicAck}},
		"406 stream":      {method(&wire.QueueDeclare{Queue: "s", Arguments: table(t, "x-queue-type", wire.Text("stream"))}), &wire.Error{Code: wire.PreconditionFailed, Text: "invalid property 'non-durable' for queue 's'" + vhost, Method: wire.IDQueueDeclare}},
		"406 no cache":    {method(&wire.ExchangeDeclare{Exchange: "x", Type: "x-message-deduplication"}), &wire.Error{Code: wire.PreconditionFailed, Text: "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0", Method: wire.IDExchangeDeclare}},
		"406 cache":       {method(&wire.ExchangeDeclare{Exchange: "x", Type: "x-message-deduplication", Arguments: table(t, "x-cache-size", wire.Text("0"))}), &wire.Error{Code: wire.PreconditionFailed, Text: "Missing or invalid argument, 'x-cache-size' must be an integer greater than 0", Method: wire.IDExchangeDeclare}},
		"406 no tx":       {method(&wire.TxCommit{}), &wire.Error{Code: wire.PreconditionFailed, Text: "channel is not transactional", Method: wire.IDTxCommit}},
		"501 frame end":   {bytes([]byte{1, 0, 1, 0, 0, 0, 4, 0, 9, 0, 1, 0xff}), &wire.Error{Code: wire.FrameError, Text: "type 1, all octets = <<0,9,0,1>>: {invalid_frame_end_marker,255}"}},
		"501 too large":   {bytes([]byte{1, 0, 1, 0, 0, 0x20, 0}), &wire.Error{Code: wire.FrameError, Text: "type 1, all octets = <<>>: {frame_too_large,8192,4088}"}},
		"502 table":       {bytes(frame(wire.FrameMethod, 1, 0, 50, 0, 10, 0, 0, 1, 'x', 0, 0, 0, 0, 2, 1, 'a')), &wire.Error{Code: wire.SyntaxError, Method: wire.IDQueueDeclare}},
		"503 direction":   {method(&wire.QueueDeclareOk{}), &wire.Error{Code: wire.CommandInvalid, Text: "unimplemented method", Method: wire.IDQueueDeclareOk}},
		"503 type":        {method(&wire.ExchangeDeclare{Exchange: "x", Type: "square"}), &wire.Error{Code: wire.CommandInvalid, Text: "invalid exchange type 'square'", Method: wire.IDExchangeDeclare}},
		"504 not open":    {func(r *raw) { r.send(2, &wire.TxSelect{}) }, &wire.Error{Code: wire.ChannelError, Text: "expected 'channel.open'", Method: wire.IDTxSelect}},
		"504 second open": {method(&wire.ChannelOpen{}), &wire.Error{Code: wire.ChannelError, Text: "second 'channel.open' seen", Method: wire.IDChannelOpen}},
		"504 channel 0":   {func(r *raw) { r.send(0, &wire.TxSelect{}) }, &wire.Error{Code: wire.ChannelError, Text: "unexpected method in connection state running", Method: wire.IDTxSelect}},
		"505 body":        {bytes(frame(wire.FrameBody, 1, 0)), &wire.Error{Code: wire.UnexpectedFrame, Text: "expected method frame, got non method frame instead"}},
		"530 reused tag": {func(r *raw) {
			r.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t", NoWait: true})
			r.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
		}, &wire.Error{Code: wire.NotAllowed, Text: "attempt to reuse consumer tag 't'", Method: wire.IDBasicConsume}},
		"540 unknown":   {bytes(frame(wire.FrameMethod, 1, 0, 60, 0, 99)), &wire.Error{Code: wire.NotImplemented, Text: "no method 99 in class 60", Method: 60<<16 | 99}},
		"540 prefetch":  {method(&wire.BasicQos{PrefetchSize: 1}), &wire.Error{Code: wire.NotImplemented, Text: "prefetch_size!=0 (1)", Method: wire.IDBasicQos}},
		"540 immediate": {func(r *raw) { r.publish(1, &wire.BasicPublish{RoutingKey: "q", Immediate: true}, nil, "") }, &wire.Error{Code: wire.NotImplemented, Text: "immediate=true", Method: wire.IDBasicPublish}},
		"406 body": {func(r *raw) {
			r.write(frame(wire.FrameMethod, 1, 0, 60, 0, 40, 0, 0, 0, 1, 'q', 0))
			r.write(frame(wire.FrameHeader, 1, 0, 60, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0))
		}, &wire.Error{Code: wire.PreconditionFailed, Text: "message size 16777216 is larger than configured max size 4177920", Method: wire.IDBasicPublish}},
	} {
		t.Run(name, func(t *testing.T) {
			r := d.opened()
			r.t = t
			c.do(r)
			channel, m := r.method()
			wantChannel, want := c.want.Close(1)
			if c.want.Text == "" {
				if got, ok := m.(*wire.ConnectionClose); ok && strings.HasPrefix(got.ReplyText, c.want.Code.String()) {
					got.ReplyText = c.want.Code.String()
				}
			}
			if channel != wantChannel || !equal(m, want) {
				t.Fatalf("channel %d: %+v, want %d: %+v", channel, m, wantChannel, want)
			}
			if c.want.Code.Hard() {
				r.send(0, &wire.ConnectionCloseOk{})
				r.ended()
				return
			}
			r.send(1, &wire.ChannelCloseOk{})
			r.send(1, &wire.ChannelOpen{})
			r.expect(1, wire.IDChannelOpenOk)
		})
	}
}

// equal compares two methods by their bytes.
func equal(a, b wire.Method) bool {
	x, err := a.Append(nil)
	y, err2 := b.Append(nil)
	return errors.Join(err, err2) == nil && a.ID() == b.ID() && string(x) == string(y)
}

// TestLogin: who cannot come in is told why, if the client understands that.
func TestLogin(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	for name, c := range map[string]struct {
		user, vhost string
		want        *wire.Error
	}{
		"password": {"wrong", "/", &wire.Error{Code: wire.AccessRefused, Text: "Login was refused using authentication mechanism PLAIN. For details see the broker logfile."}},
		"vhost":    {"guest", "none", &wire.Error{Code: wire.NotAllowed, Text: "vhost none not found", Method: wire.IDConnectionOpen}},
	} {
		r := d.dial()
		m := r.handshake("guest", c.user, c.vhost, 0)
		if _, want := c.want.Close(0); !equal(m, want) {
			t.Errorf("%s: %+v, want %+v", name, m, want)
		}
		r.send(0, &wire.ConnectionCloseOk{})
		r.ended()
	}
}

// TestStandby: a node that does not have the vhost sends clients to the next address.
func TestStandby(t *testing.T) {
	d := openDoor(t, mem.New(), func(o *Options) {
		o.Queues = func(string) (*queue.Engine, error) { return nil, broker.ErrUnavailable }
	})
	r := d.dial()
	m := r.handshake("guest", "guest", "/", 0)
	got, ok := m.(*wire.ConnectionClose)
	if !ok || got.ReplyCode != uint16(wire.ConnectionForced) {
		t.Errorf("%+v", m)
	}
}

// TestPreface: what is not AMQP 0-9-1 gets its header, and is closed.
func TestPreface(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	for _, p := range []string{"AMQP\x00\x01\x00\x00", "GET / HT", "\x00\x00\x00\x00\x00\x00\x00\x00"} {
		r := d.dial()
		r.write([]byte(p))
		got, err := wire.ReadPreface(r.nc)
		if err != nil || got != wire.PrefaceOf091() {
			t.Errorf("%q: %q, %v", p, got, err)
		}
		r.ended()
	}
}
