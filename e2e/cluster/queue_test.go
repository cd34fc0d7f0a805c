package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const jobs = "jobs" // queue

// queue is publishers that wait for confirms, and consumers that acknowledge, on a
// durable queue of AMQP 0-9-1. Every message that was confirmed must be delivered, and a
// message that comes again must be marked.
type queue struct {
	t    *testing.T
	urls []string

	mu        sync.Mutex
	confirmed map[string]bool // guarded by mu
	delivered map[string]int  // guarded by mu
}

func newQueue(t *testing.T, n *nodes) *queue {
	t.Helper()
	q := &queue{t: t, confirmed: make(map[string]bool), delivered: make(map[string]int)}
	for _, address := range n.addresses(5672) {
		q.urls = append(q.urls, "amqp://guest:guest@"+address+"/")
	}
	return q
}

func (q *queue) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	for id := range 2 {
		all.Go(func() {
			q.forever(ctx, func(ch *amqp.Channel, turn int) error { return q.publish(ctx, ch, fmt.Sprint(id, "/", turn)) })
		})
		all.Go(func() { q.forever(ctx, func(ch *amqp.Channel, _ int) error { return q.consume(ctx, ch) }) })
	}
}

// forever uses channels, at the nodes in turn, until ctx ends.
func (q *queue) forever(ctx context.Context, use func(ch *amqp.Channel, turn int) error) {
	for turn := 0; ctx.Err() == nil; turn++ {
		conn, err := amqp.DialConfig(q.urls[turn%len(q.urls)], amqp.Config{Dial: amqp.DefaultDial(2 * time.Second), Heartbeat: 3 * time.Second})
		if err == nil {
			ended := context.AfterFunc(ctx, func() { conn.CloseDeadline(time.Now().Add(2 * time.Second)) })
			var ch *amqp.Channel
			if ch, err = conn.Channel(); err == nil {
				_, err = ch.QueueDeclare(jobs, true, false, false, false, nil)
			}
			if err == nil {
				err = use(ch, turn)
			}
			if ended() {
				conn.CloseDeadline(time.Now().Add(2 * time.Second))
			}
		}
		if err != nil {
			pause(ctx, 50*time.Millisecond)
		}
	}
}

var errEnded = errors.New("the channel ended")

func (q *queue) publish(ctx context.Context, ch *amqp.Channel, prefix string) error {
	if err := ch.Confirm(false); err != nil {
		return err
	}
	for i := 0; ctx.Err() == nil; i++ {
		body := fmt.Sprint(prefix, "/", i)
		c, err := ch.PublishWithDeferredConfirm("", jobs, false, false, amqp.Publishing{DeliveryMode: amqp.Persistent, Body: []byte(body)})
		if err != nil {
			return err
		}
		limited, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		ok, err := c.WaitContext(limited)
		cancel()
		if err != nil || !ok {
			return errors.Join(errEnded, err)
		}
		q.mu.Lock()
		q.confirmed[body] = true
		q.mu.Unlock()
		pause(ctx, 5*time.Millisecond)
	}
	return nil
}

func (q *queue) consume(ctx context.Context, ch *amqp.Channel) error {
	if err := ch.Qos(20, 0, false); err != nil {
		return err
	}
	deliveries, err := ch.Consume(jobs, "", false, false, false, false, nil)
	if err != nil {
		return err
	}
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				return errEnded
			}
			q.note(d)
			if err := d.Ack(false); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (q *queue) note(d amqp.Delivery) {
	q.mu.Lock()
	defer q.mu.Unlock()
	body := string(d.Body)
	if q.delivered[body]++; q.delivered[body] > 1 && !d.Redelivered {
		q.t.Errorf("queue: message %s comes for the %d. time and is not marked", body, q.delivered[body])
	}
}

func (q *queue) missing() (n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for body := range q.confirmed {
		if q.delivered[body] == 0 {
			n++
		}
	}
	return n
}

// judge consumes what is left.
func (q *queue) judge(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	var rest sync.WaitGroup
	rest.Go(func() {
		q.forever(limited, func(ch *amqp.Channel, _ int) error { return q.consume(limited, ch) })
	})
	for q.missing() > 0 && limited.Err() == nil {
		pause(limited, 50*time.Millisecond)
	}
	cancel()
	rest.Wait()
	missing := q.missing()
	q.t.Logf("queue: %d messages confirmed, %d delivered, %d confirmed and not delivered", len(q.confirmed), len(q.delivered), missing)
	if missing > 0 || len(q.confirmed) == 0 {
		q.t.Errorf("queue: %d of %d confirmed messages were not delivered", missing, len(q.confirmed))
	}
}
