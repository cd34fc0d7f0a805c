package amqp091

import (
	"log/slog"
	"net"
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/cloud/streamqueue"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// streamDoor is a door of a node that has topics.
type streamDoor struct {
	door
	broker *broker.Broker
	quotas *quota.Quotas
}

func openStreamDoor(t *testing.T, authorize bool) *streamDoor {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Options{Self: broker.Node{ID: 1, Name: "a"}, Partitions: 1, AutoCreate: true})
	topics := streamqueue.New(streamqueue.Options{Broker: b, MaxTopics: 10})
	s := shard.New(shard.Options{Log: quiet, Queues: queue.Options{Topics: topics.Calls()}})
	if err := s.Open(t.Context(), commitlog.Options{Bucket: mem.New(), Node: "a", Log: quiet}); err != nil {
		t.Fatal(err)
	}
	b.Lead(s)
	d := &streamDoor{door{t: t, addr: nl.Addr().String(), engine: s.Queues, users: s.Users}, b, s.Quotas}
	d.server, err = New(Options{
		Listeners: []listener.Listener{{Listener: nl, Name: "default", SASL: []string{login.Plain}, Guests: true}},
		Queues:    b.Queues,
		TopicOf:   topics.Ensured,
		Access: access.New(access.Options{Broker: b, Users: func() *auth.Auth { return s.Users },
			Quotas: func() *quota.Quotas { return s.Quotas }, Authorize: authorize}),
		LoginPause: time.Millisecond, Log: quiet,
	})
	if err != nil {
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
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// append appends records to a topic.
func (d *streamDoor) append(topic string, values ...string) {
	d.t.Helper()
	found, err := d.broker.Topic(topic)
	if err != nil {
		d.t.Fatal(err)
	}
	var b record.Builder
	for _, v := range values {
		if err := b.Append(&record.Record{Timestamp: 1_700_000_000_000, Key: []byte(topic + "/a/b"), Value: []byte(v)}); err != nil {
			d.t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		d.t.Fatal(err)
	}
	done := make(chan error, 1)
	d.broker.Append(broker.Append{Topic: found.ID, Batch: batch}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		d.t.Fatal(err)
	}
}

var streamArguments = amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeStream}

// TestStream: records of a topic reach a consumer of its stream queue, with their offsets;
// acknowledgements let it have more and take nothing away.
func TestStream(t *testing.T) {
	d := openStreamDoor(t, false)
	if _, err := d.broker.CreateTopic(t.Context(), "sensors", 1, nil); err != nil {
		t.Fatal(err)
	}
	d.append("sensors", "0", "1", "2", "3")
	for range 2 {
		ch := d.channel(d.client("guest"))
		declareQueue(t, ch, "sensors", streamArguments)
		if err := ch.Qos(2, 0, false); err != nil {
			t.Fatal(err)
		}
		in, err := ch.Consume("sensors", "tag", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
		if err != nil {
			t.Fatal(err)
		}
		for i := range int64(4) {
			m := next(t, in)
			if string(m.Body) != string('0'+rune(i)) || m.Headers["x-stream-offset"] != i || m.RoutingKey != "sensors.a.b" || m.Redelivered {
				t.Fatalf("message %d is %q with %v and routing key %q", i, m.Body, m.Headers, m.RoutingKey)
			}
			if i == 1 {
				select {
				case m := <-in:
					t.Fatalf("%q came beyond the prefetch", m.Body)
				case <-time.After(50 * time.Millisecond):
				}
				if err := m.Ack(true); err != nil {
					t.Fatal(err)
				}
			}
		}
		q, err := ch.QueueDeclarePassive("sensors", true, false, false, false, nil)
		if err != nil || q.Messages != 4 || q.Consumers != 1 {
			t.Fatalf("the queue is %+v: %v", q, err)
		}
		if err := ch.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for deadline := time.Now().Add(10 * time.Second); ; {
		i, err := d.engine.Queue(queue.DefaultVhost, "sensors", "")
		if err != nil {
			t.Fatal(err)
		}
		if i.Counts.Delivered == 8 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v, want 8 deliveries", i.Counts)
		}
	}
}

// TestStreamQuota: what a stream queue delivers counts against the limit of its user.
func TestStreamQuota(t *testing.T) {
	d := openStreamDoor(t, false)
	if _, err := d.broker.CreateTopic(t.Context(), "sensors", 1, nil); err != nil {
		t.Fatal(err)
	}
	if err := d.quotas.Set(t.Context(), quota.Entity{User: "guest"}, func(l *quota.Limits) { l.Consume = 100_000 }, false); err != nil {
		t.Fatal(err)
	}
	d.append("sensors", strings.Repeat("x", 150_000))
	ch := d.channel(d.client("guest"))
	declareQueue(t, ch, "sensors", streamArguments)
	if err := ch.Qos(10, 0, false); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	in, err := ch.Consume("sensors", "tag", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if err != nil {
		t.Fatal(err)
	}
	next(t, in)
	d.append("sensors", "y")
	if m := next(t, in); string(m.Body) != "y" || time.Since(began) < 300*time.Millisecond {
		t.Errorf("%q came after %v, though 150 kB came before at 100 kB/s", m.Body, time.Since(began))
	}
}

// TestStreamConsumers: a connection can have so many consumers of stream queues, and others
// besides.
func TestStreamConsumers(t *testing.T) {
	d := openStreamDoor(t, false)
	ch := d.channel(d.client("guest"))
	declareQueue(t, ch, "q", nil)
	declareQueue(t, ch, "sensors", streamArguments)
	r := d.opened()
	r.send(1, &wire.BasicQos{PrefetchCount: 1})
	r.expect(1, wire.IDBasicQosOk)
	for range maxStreamConsumers {
		r.send(1, &wire.BasicConsume{Queue: "sensors"})
		r.expect(1, wire.IDBasicConsumeOk)
	}
	r.send(1, &wire.BasicConsume{Queue: "q"})
	r.expect(1, wire.IDBasicConsumeOk)
	r.send(1, &wire.BasicConsume{Queue: "sensors"})
	m, ok := r.expect(0, wire.IDConnectionClose).(*wire.ConnectionClose)
	if want := "NOT_ALLOWED - reached maximum (100) of consumers of stream queues per connection"; !ok || m.ReplyText != want {
		t.Errorf("one consumer more: %+v", m)
	}
}

// addUser adds a user who may do all to queues.
func (d *streamDoor) addUser(name string) {
	d.t.Helper()
	c, err := auth.NewCredential(auth.SCRAMSHA256, name)
	if err != nil {
		d.t.Fatal(err)
	}
	if err := d.users.SetCredentials(d.t.Context(), name, c); err != nil {
		d.t.Fatal(err)
	}
	if err := d.users.SetVhostPermissions(d.t.Context(), auth.VhostPermissions{User: name, Vhost: "/", Configure: ".*", Write: ".*", Read: ".*"}); err != nil {
		d.t.Fatal(err)
	}
}

// allow returns an ACL for the topic "sensors".
func allow(user string, op auth.Operation) auth.ACL {
	return auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: "sensors"},
		Rule: auth.Rule{Principal: auth.Principal(user), Host: auth.Any, Operation: op, Permission: auth.Allow}}
}

// TestStreamACLs: where topics need ACLs, so do stream queues: READ, WRITE and for
// a new topic CREATE to declare one, READ to consume, as long as that lasts.
func TestStreamACLs(t *testing.T) {
	d := openStreamDoor(t, true)
	d.addUser("ann")
	d.addUser("bob")
	grant := func(all ...auth.ACL) {
		t.Helper()
		if err := d.users.AddACLs(t.Context(), all...); err != nil {
			t.Fatal(err)
		}
	}
	refused := func(user string, do func(*amqp.Channel) error) {
		t.Helper()
		err := do(d.channel(d.client(user)))
		if err == nil || !strings.Contains(err.Error(), "access to topic 'sensors' in vhost '/' refused for user '"+user+"'") {
			t.Errorf("without an ACL: %v", err)
		}
	}
	declare := func(ch *amqp.Channel) error {
		_, err := ch.QueueDeclare("sensors", true, false, false, false, streamArguments)
		return err
	}
	var in <-chan amqp.Delivery // of the last one that consumes
	consume := func(ch *amqp.Channel) (err error) {
		if err := ch.Qos(1, 0, false); err != nil {
			return err
		}
		in, err = ch.Consume("sensors", "tag", false, false, false, false, nil)
		return err
	}
	grant(allow("ann", auth.Read))
	refused("ann", declare)
	grant(allow("ann", auth.Write))
	refused("ann", declare)
	grant(allow("ann", auth.Create))
	ann := d.channel(d.client("ann"))
	if err := declare(ann); err != nil {
		t.Fatal(err)
	}
	refused("bob", declare)
	refused("bob", consume)
	cancelled := ann.NotifyCancel(make(chan string, 1))
	if err := consume(ann); err != nil {
		t.Fatal(err)
	}
	deny := allow("ann", auth.Read)
	deny.Permission = auth.Deny
	grant(deny)
	d.append("sensors", "secret")
	select {
	case tag := <-cancelled:
		if tag != "tag" {
			t.Errorf("consumer %s was cancelled", tag)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("a consumer goes on without its ACL")
	}
	if m, ok := <-in; ok { // it is closed when the consumer was cancelled
		t.Errorf("%q was delivered without an ACL", m.Body)
	}
}

// TestStreamRefuses: giving back a delivery of a stream queue closes the connection, and what
// it would have settled in work queues goes back.
func TestStreamRefuses(t *testing.T) {
	for text, m := range map[string]wire.Method{
		"NOT_IMPLEMENTED - basic.nack and basic.reject not supported by stream queues queue 'sensors' in vhost '/'": &wire.BasicNack{DeliveryTag: 2, Multiple: true},
		"NOT_IMPLEMENTED - basic.recover not supported by stream queues queue 'sensors' in vhost '/'":               &wire.BasicRecover{Requeue: true},
	} {
		testStreamRefuses(t, m, text)
	}
}

func testStreamRefuses(t *testing.T, refused wire.Method, text string) {
	t.Helper()
	d := openStreamDoor(t, false)
	if _, err := d.broker.CreateTopic(t.Context(), "sensors", 1, nil); err != nil {
		t.Fatal(err)
	}
	d.append("sensors", "0")
	other := d.channel(d.client("guest"))
	declareQueue(t, other, "q", nil)
	declareQueue(t, other, "sensors", streamArguments)
	publish(t, other, "q", "a")
	r := d.opened()
	r.send(1, &wire.BasicQos{PrefetchCount: 10})
	r.expect(1, wire.IDBasicQosOk)
	r.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "work"})
	r.expect(1, wire.IDBasicConsumeOk)
	r.expect(1, wire.IDBasicDeliver)
	var first wire.Builder
	first.Add("x-stream-offset", wire.Text("first"))
	from, err := first.Table()
	if err != nil {
		t.Fatal(err)
	}
	r.send(1, &wire.BasicConsume{Queue: "sensors", ConsumerTag: "stream", Arguments: from})
	r.expect(1, wire.IDBasicConsumeOk)
	r.expect(1, wire.IDBasicDeliver)
	r.send(1, refused)
	if m, ok := r.expect(0, wire.IDConnectionClose).(*wire.ConnectionClose); !ok || m.ReplyText != text {
		t.Errorf("answered with %+v", m)
	}
	r.send(0, &wire.ConnectionCloseOk{})
	r.ended()
	for deadline := time.Now().Add(10 * time.Second); ; {
		m, ok, err := other.Get("q", true)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			if string(m.Body) != "a" || !m.Redelivered {
				t.Errorf("got %+v", m)
			}
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a message of the work queue stays leased")
		}
	}
}
