package amqp091

import (
	"strings"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/mem"
)

// TestUnread: a consumer that never reads holds little, and does not hold up others; what
// it was sent goes back when it ends.
func TestUnread(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	ch := d.channel(d.client("guest"))
	declareQueue(t, ch, "q", nil)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	const messages = 5_000
	body := []byte(strings.Repeat("x", 10_000))
	var last *amqp.DeferredConfirmation
	for range messages {
		var err error
		if last, err = ch.PublishWithDeferredConfirm("", "q", false, false, amqp.Publishing{Body: body}); err != nil {
			t.Fatal(err)
		}
	}
	if ok, err := last.WaitContext(t.Context()); !ok || err != nil {
		t.Fatal(ok, err)
	}
	r := d.opened()
	r.send(1, &wire.BasicConsume{Queue: "q", ConsumerTag: "t"})
	r.expect(1, wire.IDBasicConsumeOk)
	declareQueue(t, ch, "other", nil)
	publish(t, ch, "other", "a")
	if m, ok, err := ch.Get("other", true); err != nil || !ok || string(m.Body) != "a" {
		t.Errorf("%q, %v, %v", m.Body, ok, err)
	}
	if used := d.server.answers.Used(); used > 8<<20 {
		t.Errorf("%d bytes are held for a client that does not read", used)
	}
	if i, err := d.engine.Queue("/", "q", ""); err != nil || i.Ready == 0 {
		t.Errorf("all messages were leased to a client that does not read: %+v, %v", i, err)
	}
	r.nc.Close()
	in, err := ch.Consume("q", "", true, false, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	for range messages {
		next(t, in)
	}
}

// TestTransaction: a commit is all or nothing, and a rollback is nothing.
func TestTransaction(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	c := d.client("guest")
	ch := d.channel(c)
	for _, q := range []string{"a", "b"} {
		declareQueue(t, ch, q, nil)
	}
	tx := d.channel(c)
	if err := tx.Tx(); err != nil {
		t.Fatal(err)
	}
	send := func(to ...string) {
		t.Helper()
		for _, q := range to {
			if err := tx.Publish("", q, false, false, amqp.Publishing{Body: []byte(q)}); err != nil {
				t.Fatal(err)
			}
		}
	}
	ready := func(want ...int64) {
		t.Helper()
		for i, q := range []string{"a", "b"} {
			if info, err := d.engine.Queue("/", q, ""); err != nil || info.Ready != want[i] {
				t.Errorf("%d messages in %s, want %d: %v", info.Ready, q, want[i], err)
			}
		}
	}
	send("a", "b")
	ready(0, 0)
	if err := tx.TxCommit(); err != nil {
		t.Fatal(err)
	}
	ready(1, 1)
	send("a", "b")
	if err := tx.TxRollback(); err != nil {
		t.Fatal(err)
	}
	ready(1, 1)
	if used := d.server.pending.Used(); used != 0 {
		t.Errorf("%d bytes of transactions are held, and none is open", used)
	}
	for i := 0; ; i++ {
		err := tx.Publish("", "a", false, false, amqp.Publishing{Body: make([]byte, 100_000)})
		if err != nil {
			break // it is too large
		}
		if i == 100 {
			t.Fatal("a transaction of 10 MB is taken")
		}
		if _, err := tx.QueueDeclarePassive("a", true, false, false, false, nil); err != nil {
			break
		}
	}
	ready(1, 1)
}

// TestChannels: a connection has as many channels as were agreed on.
func TestChannels(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	r := d.opened()
	for n := uint16(2); n <= maxChannels; n++ {
		r.send(n, &wire.ChannelOpen{})
		r.expect(n, wire.IDChannelOpenOk)
	}
	r.send(maxChannels+1, &wire.ChannelOpen{})
	if m := r.expect(0, wire.IDConnectionClose).(*wire.ConnectionClose); m.ReplyCode != uint16(wire.NotAllowed) {
		t.Errorf("%+v", m)
	}
}

// TestSilent: a client that does not log in is closed in time.
func TestSilent(t *testing.T) {
	d := openDoor(t, mem.New(), func(o *Options) { o.LoginTime = 50 * time.Millisecond })
	silent := d.dial()
	silent.ended()
	half := d.dial()
	header := wire.PrefaceOf091()
	half.write(header[:])
	half.expect(0, wire.IDConnectionStart)
	half.ended()
}

// TestDuplicates: what has the header x-deduplication-header is in a queue once, behind an
// exchange that looks for duplicates or if the queue does, and each publish is confirmed.
func TestDuplicates(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	r := d.opened()
	call := func(m wire.Method, answer wire.MethodID) wire.Method {
		t.Helper()
		r.send(1, m)
		return r.expect(1, answer)
	}
	call(&wire.ExchangeDeclare{Exchange: "x", Type: "x-message-deduplication", Arguments: table(t, "x-cache-size", wire.Int32(10))}, wire.IDExchangeDeclareOk)
	call(&wire.QueueDeclare{Queue: "behind"}, wire.IDQueueDeclareOk)
	call(&wire.QueueBind{Queue: "behind", Exchange: "x"}, wire.IDQueueBindOk)
	call(&wire.QueueDeclare{Queue: "unique", Arguments: table(t, "x-message-deduplication", wire.Bool(true))}, wire.IDQueueDeclareOk)
	call(&wire.ConfirmSelect{}, wire.IDConfirmSelectOk)
	p, err := (&wire.Properties{Flags: wire.HasHeaders, Headers: table(t, "x-deduplication-header", wire.Text("v"))}).Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.publish(1, &wire.BasicPublish{Exchange: "x"}, p, "body")
		r.expect(1, wire.IDBasicAck)
		r.publish(1, &wire.BasicPublish{RoutingKey: "unique", Mandatory: true}, p, "body")
		r.expect(1, wire.IDBasicAck)
	}
	for _, q := range []string{"behind", "unique"} {
		if m := call(&wire.QueueDeclare{Queue: q, Passive: true}, wire.IDQueueDeclareOk).(*wire.QueueDeclareOk); m.MessageCount != 1 {
			t.Errorf("%d messages in %s", m.MessageCount, q)
		}
	}
}
