package amqp091

import (
	"fmt"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/storage/mem"
)

// TestZeroTTL: a message with a TTL of 0 is for consumers that wait for it. It expires
// without one, and when it comes back.
func TestZeroTTL(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), nil)
	ch := d.channel(d.client("guest"))
	declareQueue(t, ch, "queue", amqp.Table{"x-message-ttl": 0})
	declareQueue(t, ch, "own", nil)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for queue, expiration := range map[string]string{"queue": "", "own": "0"} {
		send := func(body string) {
			t.Helper()
			c, err := ch.PublishWithDeferredConfirm("", queue, false, false, amqp.Publishing{Body: []byte(body), Expiration: expiration})
			if err != nil || !c.Wait() {
				t.Fatalf("%s: %v", queue, err)
			}
		}
		send("nobody")
		if m, ok, err := ch.Get(queue, true); ok || err != nil {
			t.Errorf("%s: got %s, %v", queue, m.Body, err)
		}
		got, err := ch.Consume(queue, queue, false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, body := range []string{"first", "second"} {
			send(body)
			m := next(t, got)
			if string(m.Body) != body || m.Redelivered {
				t.Fatalf("%s: delivered %s, redelivered is %v", queue, m.Body, m.Redelivered)
			}
			if err := m.Reject(body == "first"); err != nil { // "first" comes back, and expires
				t.Fatal(err)
			}
		}
		if err := ch.Cancel(queue, false); err != nil {
			t.Fatal(err)
		}
	}
}

// TestMaxLengthAtGet: a client that takes single messages does not see what is too much
// for a queue, also if it is quicker than the queue.
func TestMaxLengthAtGet(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), nil)
	ch := d.channel(d.client("guest"))
	declareQueue(t, ch, "dead", nil)
	for most := range 4 {
		name := fmt.Sprint("max-", most)
		declareQueue(t, ch, name, amqp.Table{"x-max-length": most, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
		for i := range 6 {
			if err := ch.Publish("", name, false, false, amqp.Publishing{Body: fmt.Append(nil, i)}); err != nil {
				t.Fatal(err)
			}
		}
		for i := 6 - most; i <= 6; i++ {
			m, ok, err := ch.Get(name, true)
			if err != nil || ok != (i < 6) || ok && string(m.Body) != fmt.Sprint(i) {
				t.Errorf("of at most %d messages, message %d is %s, %v, %v", most, i, m.Body, ok, err)
			}
		}
	}
	for end := time.Now().Add(20 * time.Second); ; {
		q, err := ch.QueueDeclarePassive("dead", true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if q.Messages == 6+5+4+3 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d dead letters", q.Messages)
		}
	}
}

// TestExclusiveUnbind: an exclusive queue cannot be unbound from another connection.
func TestExclusiveUnbind(t *testing.T) {
	t.Parallel()
	d := openDoor(t, mem.New(), nil)
	own, other := d.channel(d.client("guest")), d.channel(d.client("guest"))
	if _, err := own.QueueDeclare("own", false, false, true, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := own.QueueBind("own", "k", "amq.direct", false, nil); err != nil {
		t.Fatal(err)
	}
	err := other.QueueUnbind("own", "k", "amq.direct", nil)
	const want = "RESOURCE_LOCKED - cannot obtain exclusive access to locked queue 'own' in vhost '/'"
	if e, ok := err.(*amqp.Error); !ok || e.Code != 405 || len(e.Reason) < len(want) || e.Reason[:len(want)] != want {
		t.Errorf("%v", err)
	}
	if err := own.QueueUnbind("own", "k", "amq.direct", nil); err != nil {
		t.Error(err)
	}
}
