package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// retrying publishes numbered messages behind an exchange that looks for duplicates, each
// until it is confirmed.
type retrying struct {
	mu        sync.Mutex
	confirmed []bool // by the number of a message
	ended     bool   // there are no new messages
	flying    int    // messages that this connection has sent and that are not confirmed
	sent      int
}

// next returns the numbers of n messages that are not confirmed, new ones among them; at
// the end, of those that are left.
func (p *retrying) next(n int) (all []int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, ok := range p.confirmed {
		if !ok && len(all) < n {
			all = append(all, i)
		}
	}
	for !p.ended && len(all) < n {
		all = append(all, len(p.confirmed))
		p.confirmed = append(p.confirmed, false)
	}
	return all
}

// do does something with the lock.
func (p *retrying) do(f func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f()
}

// TestDuplicatesKill: a publisher sends again what was not confirmed when the node was
// killed. Each message is in the queue once. It has new ones until the last kill, so that
// a node is not killed after all was confirmed.
func TestDuplicatesKill(t *testing.T) {
	const kills = 4
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	c := cloud(t, "--amqp", address)
	url := "amqp://guest:guest@" + address + "/"
	rng := newRand(t)
	ctx, cancel := context.WithTimeout(t.Context(), 90*time.Second)
	defer cancel()
	p := &retrying{}
	var publisher sync.WaitGroup
	publisher.Go(func() {
		forever(ctx, func(int) error {
			err := p.publish(ctx, url)
			if err == nil {
				cancel()
			}
			return err
		})
	})
	for range kills {
		timer := time.NewTimer(time.Duration(100+rng.IntN(400)) * time.Millisecond)
		<-timer.C
		within(t, 30*time.Second, "messages wait for their confirms", func() (flying bool) {
			p.do(func() { flying = p.flying > 0 })
			return flying
		})
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	p.do(func() { p.ended = true })
	publisher.Wait()
	messages := len(p.confirmed)
	if left := p.next(messages); len(left) > 0 {
		t.Fatalf("%d messages were not confirmed", len(left))
	}
	t.Logf("%d messages were sent %d times", messages, p.sent)
	if p.sent == messages {
		t.Error("no message was sent twice: the test shows little")
	}
	p.check(t, url)
}

// publish publishes what was not confirmed, 100 messages at a time, until all is.
func (p *retrying) publish(ctx context.Context, url string) error {
	conn, ch, err := p.open(url)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer p.do(func() { p.flying = 0 })
	for {
		all := p.next(100)
		if len(all) == 0 {
			return nil
		}
		waits := make(map[int]*amqp.DeferredConfirmation)
		for _, i := range all {
			p.sent++
			waits[i], err = ch.PublishWithDeferredConfirm("seen", "", false, false, amqp.Publishing{Body: fmt.Append(nil, i), Headers: amqp.Table{"x-deduplication-header": int32(i)}})
			if err != nil {
				return err
			}
			p.do(func() { p.flying++ })
		}
		for i, w := range waits {
			limit, cancel := context.WithTimeout(ctx, 10*time.Second)
			ok, err := w.WaitContext(limit)
			cancel()
			if err != nil || !ok {
				return fmt.Errorf("message %d is not confirmed: %w", i, errors.Join(err, context.Cause(ctx)))
			}
			p.do(func() {
				p.confirmed[i] = true
				p.flying--
			})
		}
	}
}

// open declares the exchange and a queue behind it. The exchange knows more messages than are
// sent again.
func (p *retrying) open(url string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)})
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		err = ch.ExchangeDeclare("seen", "x-message-deduplication", true, false, false, false, amqp.Table{"x-cache-size": int32(4_000)})
	}
	if err == nil {
		_, err = ch.QueueDeclare("unique", true, false, false, false, nil)
	}
	if err == nil {
		err = errors.Join(ch.QueueBind("unique", "", "seen", false, nil), ch.Confirm(false))
	}
	if err != nil {
		return nil, nil, errors.Join(err, conn.Close())
	}
	return conn, ch, nil
}

// check takes all that is in the queue.
func (p *retrying) check(t *testing.T, url string) {
	conn, ch, err := p.open(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	times := make(map[string]int)
	for {
		d, ok, err := ch.Get("unique", true)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			break
		}
		times[string(d.Body)]++
	}
	for i := range p.confirmed {
		if n := times[fmt.Sprint(i)]; n != 1 {
			t.Fatalf("message %d is there %d times", i, n)
		}
	}
}
