package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/e2e/harness"
)

// work is what the clients of a queue saw and were told.
type work struct {
	t  *testing.T
	mu sync.Mutex
	// All by the body of a message.
	confirmed map[string]bool // its publisher was told that it is durable
	delivered map[string]int  // how often
	done      map[string]bool // an acknowledgement was committed: it must never come again
	published int
	again     int // deliveries of what was delivered before
}

const workQueue = "work"

// TestKillQueues: publishers wait for confirms, one consumer acknowledges in
// transactions, another one without and refuses now and then, while the node is killed
// again and again. Then: what was confirmed was delivered, whose acknowledgement was
// committed never came again, and what came again was marked as redelivered. What is
// delivered for the first time is in the order of its publisher.
func TestKillQueues(t *testing.T) {
	kills := 5
	if os.Getenv("WEIR_SOAK") != "" {
		kills = 100
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	c := cloud(t, "--amqp", address)
	killWorking(t, []string{"amqp://guest:guest@" + address + "/"}, kills, func() {
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	})
}

// killWorking has clients work on a queue while kill ends the owner now and then and
// returns when there is one again.
func killWorking(t *testing.T, urls []string, kills int, kill func()) {
	w := &work{t: t, confirmed: make(map[string]bool), delivered: make(map[string]int), done: make(map[string]bool)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	at := func(g int) string { return urls[g%len(urls)] } // a node that is not the owner passes the connection on
	var publishers, consumers sync.WaitGroup
	for id := range 3 {
		publishers.Go(func() { forever(ctx, func(g int) error { return w.publish(ctx, at(g), fmt.Sprintf("%d/%d", id, g)) }) })
	}
	drained, drain := context.WithCancel(t.Context())
	defer drain()
	consumers.Go(func() { forever(drained, func(g int) error { return w.consume(drained, at(g), true) }) })
	consumers.Go(func() { forever(drained, func(g int) error { return w.consume(drained, at(g), false) }) })

	rng := newRand(t)
	for range kills {
		<-time.After(time.Duration(300+rng.IntN(1200)) * time.Millisecond)
		kill()
	}
	stop()
	publishers.Wait()
	// What a consumer has been sent and has not read is not ready any more.
	defer func() {
		if t.Failed() {
			t.Logf("%d messages are ready; confirmed and not delivered: %v", messagesAt(urls, workQueue), w.missing())
		}
	}()
	// The publishers are faster: a backlog is left, the larger the longer they run.
	within(t, time.Minute+time.Duration(kills)*3*time.Second, "the queue is empty, and what was confirmed has been delivered", func() bool {
		return messagesAt(urls, workQueue) == 0 && w.missing() == nil
	})
	drain()
	consumers.Wait()
	w.audit()
}

// forever calls do until ctx ends, each time with another number.
func forever(ctx context.Context, do func(generation int) error) {
	for g := 0; ctx.Err() == nil; g++ {
		if err := do(g); err != nil && ctx.Err() == nil {
			select {
			case <-time.After(50 * time.Millisecond): // the node is starting
			case <-ctx.Done():
			}
		}
	}
}

// open returns a channel on which the queue is declared.
func openWork(url string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)})
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueueDeclare(workQueue, true, false, false, false, nil)
	}
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, ch, nil
}

// publish publishes numbered messages, up to 50 of them without a confirm, until the
// connection is lost.
func (w *work) publish(ctx context.Context, url, name string) error {
	conn, ch, err := openWork(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	flying := make(chan *amqp.DeferredConfirmation, 50)
	bodies := make(map[uint64]string)
	defer close(flying)
	settled := make(chan error, 1)
	go func() {
		for f := range flying {
			limit, cancel := context.WithTimeout(context.Background(), 10*time.Second)
			ok, err := f.WaitContext(limit)
			cancel()
			if err != nil || !ok {
				settled <- fmt.Errorf("not confirmed: %v", err)
				for range flying {
				}
				return
			}
			w.mu.Lock()
			w.confirmed[bodies[f.DeliveryTag]] = true
			w.mu.Unlock()
		}
	}()
	for n := 0; ctx.Err() == nil; n++ {
		body := fmt.Sprintf("%s/%d", name, n)
		f, err := ch.PublishWithDeferredConfirmWithContext(ctx, "", workQueue, true, false, amqp.Publishing{Body: []byte(body), DeliveryMode: amqp.Persistent})
		if err != nil {
			return err
		}
		w.mu.Lock()
		bodies[f.DeliveryTag] = body
		w.published++
		w.mu.Unlock()
		select {
		case flying <- f:
		case err := <-settled:
			return err
		}
	}
	return nil
}

// consume acknowledges what is delivered until the connection is lost: by transactions
// of a few messages, or one by one; then it refuses some.
func (w *work) consume(ctx context.Context, url string, transactions bool) error {
	conn, ch, err := openWork(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Qos(20, 0, false); err != nil {
		return err
	}
	if transactions {
		if err := ch.Tx(); err != nil {
			return err
		}
	}
	deliveries, err := ch.Consume(workQueue, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	newest := make(map[string]int) // by publisher: what came for the first time
	var open []string
	for n := 0; ; n++ {
		var d amqp.Delivery
		var ok bool
		select {
		case d, ok = <-deliveries:
		case <-ctx.Done():
			return nil
		}
		if !ok {
			return errors.New("the connection is lost")
		}
		w.seen(&d, newest)
		switch {
		case !transactions && n%10 == 3 && !d.Redelivered:
			err = d.Nack(false, true)
		case !transactions:
			err = d.Ack(false)
		default:
			open = append(open, string(d.Body))
			if err = d.Ack(false); err == nil && len(open) == 5 {
				if err = ch.TxCommit(); err == nil {
					w.mu.Lock()
					for _, body := range open {
						w.done[body] = true
					}
					w.mu.Unlock()
					open = nil
				}
			}
		}
		if err != nil {
			return err
		}
	}
}

// seen notes a delivery.
func (w *work) seen(d *amqp.Delivery, newest map[string]int) {
	body := string(d.Body)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.done[body] {
		w.t.Errorf("%s was delivered again after its acknowledgement was committed", body)
	}
	if w.delivered[body]++; w.delivered[body] > 1 {
		w.again++
		if !d.Redelivered {
			w.t.Errorf("%s was delivered before, and is not marked as redelivered", body)
		}
	}
	var id, generation, n int
	if _, err := fmt.Sscanf(body, "%d/%d/%d", &id, &generation, &n); err != nil {
		w.t.Errorf("delivered %q", body)
		return
	}
	publisher := fmt.Sprintf("%d/%d", id, generation)
	if last, ok := newest[publisher]; ok && !d.Redelivered && n <= last {
		w.t.Errorf("%s was delivered after number %d of its publisher", body, last)
	}
	if !d.Redelivered {
		newest[publisher] = n
	}
}

// messagesIn returns how many messages are ready in a queue, -1 if the node does not say.
func messagesIn(url, queue string) int {
	conn, ch, err := openWork(url)
	if err != nil {
		return -1
	}
	defer conn.Close()
	q, err := ch.QueueDeclarePassive(queue, true, false, false, false, nil)
	if err != nil {
		return -1
	}
	return q.Messages
}

// messagesAt is messagesIn of the node that says.
func messagesAt(urls []string, queue string) (n int) {
	for _, url := range urls {
		if n = messagesIn(url, queue); n >= 0 {
			break
		}
	}
	return n
}

// missing returns some of what was confirmed and not delivered.
func (w *work) missing() (some []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for body := range w.confirmed {
		if w.delivered[body] == 0 && len(some) < 10 {
			some = append(some, body)
		}
	}
	return some
}

func (w *work) audit() {
	lost := w.missing()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(lost) > 0 {
		w.t.Errorf("confirmed and never delivered: %v", lost)
	}
	w.t.Logf("published %d, confirmed %d, delivered %d, of them again %d", w.published, len(w.confirmed), len(w.delivered), w.again)
	if len(w.confirmed) == 0 || len(w.done) == 0 {
		w.t.Error("nothing was confirmed, or no acknowledgement committed")
	}
}
