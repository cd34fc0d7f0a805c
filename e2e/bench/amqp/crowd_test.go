package amqp

import (
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

const (
	crowdConnections = 2_000
	crowdQueues      = 10_000
	crowdIdle        = 20 * time.Second
	crowdMessages    = 20_000
)

// member is a client of the crowd: it has a few queues and consumes from them all.
type member struct {
	ch         *amqp.Channel
	queues     []string
	deliveries []<-chan amqp.Delivery
}

// BenchmarkCrowd: 2,000 connections declare 10,000 durable queues, five each, and consume
// from them; then nothing happens for a while; then each queue gets two messages, from ten
// publishers.
func BenchmarkCrowd(b *testing.B) {
	for _, kind := range kinds {
		b.Run(kind, func(b *testing.B) {
			s := start(b, kind)
			idle := s.rss()
			began := time.Now()
			crowd := make([]*member, crowdConnections)
			inParallel(b, crowdConnections, func(i int) (err error) {
				crowd[i] = &member{}
				crowd[i].ch, err = connect(b, s)
				return err
			})
			b.ReportMetric(crowdConnections/time.Since(began).Seconds(), "connections/s")
			b.ReportMetric(float64(s.rss()-idle)/(1<<20), "MiB-connections")
			began = time.Now()
			inParallel(b, crowdConnections, func(i int) error { return crowd[i].declare(i) })
			b.ReportMetric(crowdQueues/time.Since(began).Seconds(), "queues/s")
			inParallel(b, crowdConnections, func(i int) error { return crowd[i].consume() })
			b.ReportMetric(float64(s.rss()-idle)/(1<<20), "MiB-more")
			cpu := s.cpu()
			<-time.After(crowdIdle)
			b.ReportMetric((s.cpu()-cpu).Seconds()/crowdIdle.Seconds(), "idle-cores")
			work(b, s, crowd)
			b.ReportMetric(float64(s.rss()-idle)/(1<<20), "MiB-worked")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// work publishes, and waits until all is acknowledged.
func work(b *testing.B, s *server, crowd []*member) {
	began, cpu := time.Now(), s.cpu()
	var names []string
	for _, m := range crowd {
		names = append(names, m.queues...)
	}
	var busy sync.WaitGroup
	for _, m := range crowd {
		for _, deliveries := range m.deliveries {
			busy.Go(func() {
				for range crowdMessages / crowdQueues {
					d, ok := <-deliveries
					if !ok {
						b.Error("the consumer has ended")
						return
					}
					if err := d.Ack(false); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
	}
	var mu sync.Mutex
	var waits []time.Duration
	for p := range 10 {
		busy.Go(func() {
			got := publish(b, s, names[p*crowdQueues/10:(p+1)*crowdQueues/10], 0, crowdMessages/10, 100)
			mu.Lock()
			waits = append(waits, got...)
			mu.Unlock()
		})
	}
	busy.Wait()
	slices.Sort(waits)
	b.ReportMetric(crowdMessages/time.Since(began).Seconds(), "messages/s")
	b.ReportMetric(float64((s.cpu()-cpu).Microseconds())/crowdMessages, "CPU-s/M")
	b.ReportMetric(float64(waits[len(waits)*99/100].Microseconds())/1000, "p99-ms")
}

// inParallel calls do for 0 to n-1, fifty at a time.
func inParallel(b *testing.B, n int, do func(i int) error) {
	b.Helper()
	turns := make(chan int)
	var busy sync.WaitGroup
	for range 50 {
		busy.Go(func() {
			for i := range turns {
				if err := do(i); err != nil {
					b.Errorf("member %d: %v", i, err)
				}
			}
		})
	}
	for i := range n {
		turns <- i
	}
	close(turns)
	busy.Wait()
	if b.Failed() {
		b.FailNow()
	}
}

func connect(b *testing.B, s *server) (*amqp.Channel, error) {
	conn, err := amqp.DialConfig(s.url, amqp.Config{Heartbeat: time.Minute, Dial: amqp.DefaultDial(time.Minute)})
	if err != nil {
		return nil, err
	}
	b.Cleanup(func() { conn.Close() })
	return conn.Channel()
}

func (m *member) declare(of int) error {
	for i := range crowdQueues / crowdConnections {
		name := fmt.Sprintf("crowd-%d-%d", of, i)
		if _, err := m.ch.QueueDeclare(name, true, false, false, false, nil); err != nil {
			return err
		}
		m.queues = append(m.queues, name)
	}
	return nil
}

func (m *member) consume() error {
	for _, name := range m.queues {
		deliveries, err := m.ch.Consume(name, "", false, false, false, false, nil)
		if err != nil {
			return err
		}
		m.deliveries = append(m.deliveries, deliveries)
	}
	return nil
}
