package e2e

import (
	"path/filepath"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/e2e/harness"
)

// queueLedger is what a client knows of the messages of a queue. Its methods are called by
// one goroutine, but confirmed, which belongs to the publisher until it has ended.
type queueLedger struct {
	t         *testing.T
	next      int          // the number of the next message
	confirmed map[int]bool // the server has said that they are durable
	delivered map[int]bool // they came, and were not settled
	acked     map[int]bool // they were acknowledged
	settled   map[int]bool // and the server has said so
}

// publish publishes numbered messages until the connection ends, of which 500 are not
// confirmed.
func (l *queueLedger) publish(c *amqp.Connection) {
	ch, err := c.Channel()
	if err != nil || ch.Confirm(false) != nil {
		return
	}
	first := l.next
	acks := ch.NotifyPublish(make(chan amqp.Confirmation, 1000))
	for open := 0; ; {
		if open < 500 {
			if err := ch.Publish("", "q", false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(strconv.Itoa(l.next))}); err != nil {
				break
			}
			l.next++
			open++
			continue
		}
		a, ok := <-acks
		if !ok {
			return
		}
		l.confirm(first, a)
		open--
	}
	for a := range acks {
		l.confirm(first, a)
	}
}

// confirm notes a confirm of the publisher whose first message is first.
func (l *queueLedger) confirm(first int, a amqp.Confirmation) {
	n := first + int(a.DeliveryTag) - 1
	if !a.Ack {
		l.t.Errorf("message %d was rejected", n)
	}
	l.confirmed[n] = true
}

// consume takes messages until the connection ends, 100 in a channel: it acknowledges all
// but every tenth that is new. When the channel is closed, the acknowledgements are durable.
func (l *queueLedger) consume(c *amqp.Connection) {
	for {
		ch, err := c.Channel()
		if err != nil || ch.Qos(100, 0, false) != nil {
			return
		}
		in, err := ch.Consume("q", "", false, false, false, false, nil)
		if err != nil {
			return
		}
		var acked []int
		last := -1
		for range 100 {
			d, ok := <-in
			if !ok {
				return
			}
			n := l.came(&d)
			if n < last {
				l.t.Errorf("message %d came after %d", n, last)
			}
			if last = n; d.Redelivered || n%10 != 0 {
				l.acked[n] = true
				if d.Ack(false) != nil {
					return
				}
				acked = append(acked, n)
			}
		}
		if ch.Close() != nil {
			return
		}
		for _, n := range acked {
			l.settled[n] = true
			delete(l.delivered, n)
		}
	}
}

// came checks a delivery and returns its number.
func (l *queueLedger) came(d *amqp.Delivery) int {
	n, err := strconv.Atoi(string(d.Body))
	if err != nil {
		l.t.Fatal(err)
	}
	if l.settled[n] {
		l.t.Errorf("message %d came after it was acknowledged", n)
	}
	if l.delivered[n] && !d.Redelivered {
		l.t.Errorf("message %d came again, not marked as redelivered", n)
	}
	l.delivered[n] = true
	return n
}

// TestQueueKill: weir-cloud is killed at random moments while a client publishes with
// confirms and another consumes. What was confirmed is delivered or still there, in order;
// what was delivered and not acknowledged comes again, marked; what was acknowledged does
// not.
func TestQueueKill(t *testing.T) {
	rng := newRand(t)
	rounds := 2
	if soak() {
		rounds = 100
	}
	c := &harness.Cluster{Dir: t.TempDir(), CloudArgs: append(busyUpkeep(), "--amqp", "127.0.0.1:0")}
	c.Bucket = "file:" + filepath.Join(c.Dir, "bucket")
	l := &queueLedger{t: t, confirmed: make(map[int]bool), delivered: make(map[int]bool), acked: make(map[int]bool), settled: make(map[int]bool)}
	dial := func() *amqp.Connection {
		t.Helper()
		conn, err := amqp.Dial("amqp://guest:guest@" + c.Cloud.Addr["amqp"] + "/")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	start := func() {
		t.Helper()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	start()
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	declareQueue(t, dial())
	for range rounds {
		publisher, consumer := dial(), dial()
		published, consumed := make(chan struct{}), make(chan struct{})
		go func() { defer close(published); l.publish(publisher) }()
		go func() { defer close(consumed); l.consume(consumer) }()
		<-time.After(200*time.Millisecond + time.Duration(rng.Int64N(int64(time.Second))))
		c.Cloud.Kill()
		<-published
		<-consumed
		sound(t, c.Bucket)
		start()
	}
	l.drain(dial())
	t.Logf("%d published, %d confirmed, %d acknowledged", l.next, len(l.confirmed), len(l.settled))
	if len(l.confirmed) == 0 || len(l.settled) == 0 {
		t.Error("nothing was confirmed or acknowledged: the test shows nothing")
	}
}

func declareQueue(t *testing.T, c *amqp.Connection) {
	t.Helper()
	ch, err := c.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
}

// drain takes what is left, and checks that nothing is missing.
func (l *queueLedger) drain(c *amqp.Connection) {
	ch, err := c.Channel()
	if err != nil {
		l.t.Fatal(err)
	}
	left := make(map[int]bool)
	last := -1
	for {
		d, ok, err := ch.Get("q", true)
		if err != nil {
			l.t.Fatal(err)
		}
		if !ok {
			break
		}
		n := l.came(&d)
		if n <= last {
			l.t.Errorf("message %d came after %d", n, last)
		}
		last, left[n] = n, true
	}
	for n := range l.confirmed {
		if !left[n] && !l.settled[n] && !l.acked[n] {
			l.t.Errorf("message %d was confirmed and is gone", n)
		}
	}
}
