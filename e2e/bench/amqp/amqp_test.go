// Package amqp compares weir-cloud with RabbitMQ, both with their queues on disk, by the
// client amqp091-go. Messages are persistent, publishers wait for confirms and consumers
// acknowledge.
package amqp

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// messages is how many of them a cell has; WEIR_MESSAGES changes it.
func messages(b *testing.B, standard int) int {
	if text := os.Getenv("WEIR_MESSAGES"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil {
			b.Fatal(err)
		}
		return n
	}
	return standard
}

// unconfirmed is how many messages a publisher has on their way.
const unconfirmed = 500

// load is a cell of the table.
type load struct{ size, queues, publishers int }

// BenchmarkQueues: messages are published and consumed at the same time.
func BenchmarkQueues(b *testing.B) {
	for _, l := range []load{{100, 1, 1}, {100, 1, 10}, {100, 10, 10}, {1024, 1, 1}, {1024, 10, 10}} {
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("%d/%dq%dp/%s", l.size, l.queues, l.publishers, kind), func(b *testing.B) {
				run(b, start(b, kind), l, messages(b, 200_000))
			})
		}
	}
}

func run(b *testing.B, s *server, l load, n int) {
	names := make([]string, l.queues)
	for i := range names {
		names[i] = fmt.Sprint("queue-", i)
		declare(b, s, names[i])
	}
	for range b.N {
		cpu, began := s.cpu(), time.Now()
		var work sync.WaitGroup
		var left atomic.Int64
		left.Store(int64(n))
		ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
		for _, name := range names {
			work.Go(func() { consume(ctx, b, s, name, &left, cancel) })
		}
		var mu sync.Mutex
		var waits []time.Duration
		for p := range l.publishers {
			work.Go(func() {
				got := publish(b, s, names, p, n/l.publishers, l.size)
				mu.Lock()
				waits = append(waits, got...)
				mu.Unlock()
			})
		}
		work.Wait()
		cancel()
		took := time.Since(began)
		if left.Load() > 0 {
			b.Fatalf("%d of %d messages were not consumed", left.Load(), n)
		}
		slices.Sort(waits)
		b.ReportMetric(float64(n)/took.Seconds(), "messages/s")
		b.ReportMetric(float64((s.cpu()-cpu).Microseconds())/float64(n), "CPU-s/M")
		b.ReportMetric(float64(waits[len(waits)/2].Microseconds())/1000, "p50-ms")
		b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
		b.ReportMetric(float64(s.rss())/(1<<20), "MiB")
	}
	b.ReportMetric(0, "ns/op")
}

func open(b *testing.B, s *server) *amqp.Channel {
	b.Helper()
	conn, err := amqp.Dial(s.url)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

func declare(b *testing.B, s *server, name string) {
	b.Helper()
	ch := open(b, s)
	if _, err := ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
		b.Fatal(err)
	}
}

// publish publishes n messages, and returns how long each waited for its confirm.
func publish(b *testing.B, s *server, queues []string, p, n, size int) []time.Duration {
	ch := open(b, s)
	if err := ch.Confirm(false); err != nil {
		b.Error(err)
		return nil
	}
	waits := make([]time.Duration, 0, n)
	began := make([]time.Time, unconfirmed)
	room := make(chan struct{}, unconfirmed)
	confirms := ch.NotifyPublish(make(chan amqp.Confirmation, unconfirmed))
	done := make(chan struct{})
	var mu sync.Mutex
	go func() {
		defer close(done)
		for range n {
			c, ok := <-confirms
			if !ok || !c.Ack {
				b.Error("not confirmed")
				return
			}
			mu.Lock()
			waits = append(waits, time.Since(began[(c.DeliveryTag-1)%unconfirmed]))
			mu.Unlock()
			<-room
		}
	}()
	body := make([]byte, size)
	for i := range n {
		room <- struct{}{}
		mu.Lock()
		began[i%unconfirmed] = time.Now()
		mu.Unlock()
		if err := ch.PublishWithContext(b.Context(), "", queues[(p+i)%len(queues)], false, false,
			amqp.Publishing{Body: body, DeliveryMode: amqp.Persistent}); err != nil {
			b.Error(err)
			return nil
		}
	}
	<-done
	return waits
}

// consume acknowledges what is delivered, some at once, until nothing is left.
func consume(ctx context.Context, b *testing.B, s *server, queue string, left *atomic.Int64, all func()) {
	ch := open(b, s)
	if err := ch.Qos(1000, 0, false); err != nil {
		b.Error(err)
		return
	}
	deliveries, err := ch.Consume(queue, "", false, false, false, false, nil)
	if err != nil {
		b.Error(err)
		return
	}
	open := 0
	for {
		select {
		case d, ok := <-deliveries:
			if !ok {
				b.Error("the consumer has ended")
				return
			}
			if open++; open == 50 || len(deliveries) == 0 {
				if err := d.Ack(true); err != nil {
					b.Error(err)
					return
				}
				open = 0
			}
			if left.Add(-1) == 0 {
				all()
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

// BenchmarkWaiting: messages of 100 bytes wait in a queue without a consumer: memory,
// and how soon the first one is delivered, also after a restart. WEIR_MESSAGES=10000000
// is the largest cell.
func BenchmarkWaiting(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			n := messages(b, 1_000_000)
			s := start(b, kind)
			declare(b, s, "backlog")
			idle := s.rss()
			began := time.Now()
			publish(b, s, []string{"backlog"}, 0, n, 100)
			b.ReportMetric(float64(n)/time.Since(began).Seconds(), "messages/s")
			b.ReportMetric(float64(s.rss()-idle)/(1<<20), "MiB-more")
			b.ReportMetric(float64(idle)/(1<<20), "MiB-idle")
			b.ReportMetric(float64(first(b, s).Microseconds())/1000, "first-ms")
			if s.restart != nil {
				began := time.Now()
				s.restart(b)
				first(b, s)
				b.ReportMetric(float64(time.Since(began).Microseconds())/1000, "restart-to-first-ms")
				b.ReportMetric(float64(s.rss())/(1<<20), "MiB-after-restart")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// first returns how long a new consumer waits for its first message. It refuses it.
func first(b *testing.B, s *server) time.Duration {
	b.Helper()
	began := time.Now()
	ch := open(b, s)
	if err := ch.Qos(1, 0, false); err != nil {
		b.Fatal(err)
	}
	deliveries, err := ch.Consume("backlog", "", false, false, false, false, nil)
	if err != nil {
		b.Fatal(err)
	}
	select {
	case d := <-deliveries:
		took := time.Since(began)
		if err := d.Nack(false, true); err != nil {
			b.Fatal(err)
		}
		return took
	case <-time.After(time.Minute):
		b.Fatal("no message after a minute")
	}
	return 0
}

// BenchmarkDeclare: queues are declared one after the other, and by ten connections.
func BenchmarkDeclare(b *testing.B) {
	for _, clients := range []int{1, 10} {
		for _, kind := range kinds {
			b.Run(fmt.Sprintf("%d/%s", clients, kind), func(b *testing.B) {
				n := messages(b, 10_000)
				s := start(b, kind)
				idle, cpu, began := s.rss(), s.cpu(), time.Now()
				var work sync.WaitGroup
				for c := range clients {
					work.Go(func() {
						ch := open(b, s)
						for i := range n / clients {
							if _, err := ch.QueueDeclare(fmt.Sprintf("q-%d-%d", c, i), true, false, false, false, nil); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				work.Wait()
				b.ReportMetric(float64(n)/time.Since(began).Seconds(), "queues/s")
				b.ReportMetric(float64((s.cpu()-cpu).Microseconds())/float64(n), "CPU-s/M")
				b.ReportMetric(float64(s.rss()-idle)/(1<<20), "MiB-more")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}
