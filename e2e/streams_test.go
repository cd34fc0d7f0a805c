package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// streamChannel opens a connection with a channel that has a stream queue.
func streamChannel(url, name string) (*amqp.Connection, *amqp.Channel, error) {
	conn, err := amqp.DialConfig(url, amqp.Config{Dial: amqp.DefaultDial(5 * time.Second)})
	if err != nil {
		return nil, nil, err
	}
	ch, err := conn.Channel()
	if err == nil {
		_, err = ch.QueueDeclare(name, true, false, false, false, amqp.Table{amqp.QueueTypeArg: amqp.QueueTypeStream})
	}
	if err == nil {
		err = ch.Qos(100, 0, false)
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, ch, nil
}

// bindTopic declares a queue and binds it to amq.topic.
func bindTopic(t *testing.T, ch *amqp.Channel, queue, key string) {
	t.Helper()
	if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(queue, key, "amq.topic", false, nil); err != nil {
		t.Fatal(err)
	}
}

// confirmed publishes a message and waits for its confirm.
func confirmed(t *testing.T, ch *amqp.Channel, exchange, key string, m amqp.Publishing) {
	t.Helper()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	limit, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	f, err := ch.PublishWithDeferredConfirmWithContext(limit, exchange, key, false, false, m)
	if err == nil {
		_, err = f.WaitContext(limit)
	}
	if err != nil || !f.Acked() {
		t.Fatalf("publish %s: %v", m.Body, err)
	}
}

// toKafka produces a record.
func toKafka(t *testing.T, client *kgo.Client, r *kgo.Record) {
	t.Helper()
	if err := client.ProduceSync(t.Context(), r).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// poll returns the values and the keys of so many records.
func poll(t *testing.T, client *kgo.Client, records int) (values, keys []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for len(values) < records {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %q: %v", values, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			values, keys = append(values, string(r.Value)), append(keys, string(r.Key))
		})
	}
	return values, keys
}

// delivered returns the next message of a consumer.
func delivered(t *testing.T, in <-chan amqp.Delivery) amqp.Delivery {
	t.Helper()
	select {
	case m, ok := <-in:
		if !ok {
			t.Fatal("the consumer has ended")
		}
		return m
	case <-time.After(20 * time.Second):
		t.Fatal("no message came")
		panic("not reached")
	}
}

// TestStreamQueues: a stream queue and Kafka's clients share a topic, in both directions,
// and what is published to amq.topic reaches it.
func TestStreamQueues(t *testing.T) {
	c := cloud(t, "--amqp", "127.0.0.1:0", "--amqp-topics", "existing")
	kafka, err := kgo.NewClient(kgo.SeedBrokers(c.Kafka()), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("sensors"),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(10*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	defer kafka.Close()
	reading := &kgo.Record{Topic: "sensors", Key: []byte("sensors/pump/7"), Value: []byte("from Kafka"), Headers: []kgo.RecordHeader{{Key: "content-type", Value: []byte("text/plain")}}}
	toKafka(t, kafka, reading)
	conn, ch, err := streamChannel("amqp://guest:guest@"+c.Cloud.Addr["amqp"]+"/", "sensors")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in, err := ch.Consume("sensors", "", false, false, false, false, amqp.Table{"x-stream-offset": "first"})
	if err != nil {
		t.Fatal(err)
	}
	bindTopic(t, ch, "bound", "sensors.#")
	if m := delivered(t, in); string(m.Body) != "from Kafka" || m.RoutingKey != "sensors.pump.7" || m.ContentType != "text/plain" || m.Headers["x-stream-offset"] != int64(0) {
		t.Errorf("the record came as %q with routing key %q, type %q and headers %v", m.Body, m.RoutingKey, m.ContentType, m.Headers)
	}
	for _, p := range []struct{ exchange, key, body string }{{"", "sensors", "to the queue"}, {"amq.topic", "sensors.pump.8", "to amq.topic"}, {"amq.topic", "unknown.pump", "to nobody"}} {
		confirmed(t, ch, p.exchange, p.key, amqp.Publishing{Body: []byte(p.body), MessageId: "7"})
	}
	values, keys := poll(t, kafka, 3)
	slices.Sort(values)
	if want := []string{"from Kafka", "to amq.topic", "to the queue"}; !slices.Equal(values, want) || !slices.Contains(keys, "sensors/pump/8") {
		t.Errorf("Kafka's client got %q with keys %q", values, keys)
	}
	var bodies []string
	for range 2 {
		m := delivered(t, in)
		if m.MessageId != "7" {
			t.Errorf("%s has the message id %q", m.Body, m.MessageId)
		}
		bodies = append(bodies, m.Exchange+":"+m.RoutingKey+" "+string(m.Body))
	}
	slices.Sort(bodies)
	if want := []string{":sensors to the queue", "amq.topic:sensors.pump.8 to amq.topic"}; !slices.Equal(bodies, want) {
		t.Errorf("the stream queue delivered %q", bodies)
	}
	second := &kgo.Record{Topic: "sensors", Key: []byte("sensors/pump/9"), Value: []byte("again from Kafka")}
	toKafka(t, kafka, second)
	for _, want := range []string{"to amq.topic", "again from Kafka"} { // and not once more through the topic
		within(t, 10*time.Second, "queue bound has "+want, func() bool {
			m, ok, err := ch.Get("bound", true)
			if err != nil || ok && string(m.Body) != want {
				t.Fatalf("the queue has %q, want %q: %v", m.Body, want, err)
			}
			return ok
		})
	}
	out, stderr, err := c.Weirctl("queues", "show", "sensors")
	if err != nil || !strings.Contains(out, "stream queue") {
		t.Errorf("weirctl says %q, %q: %v", out, stderr, err)
	}
}

// TestKillStreams: a publisher waits for confirms, and a reader goes on behind the offset
// that it has read, while the node is killed again and again. What was confirmed is in the
// stream, at one place for all readers.
func TestKillStreams(t *testing.T) {
	kills := 3
	if os.Getenv("WEIR_SOAK") != "" {
		kills = 50
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	c := cloud(t, "--amqp", address)
	url := "amqp://guest:guest@" + address + "/"
	s := &stream{confirmed: make(map[string]bool)}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var clients sync.WaitGroup
	for id := range 2 {
		clients.Go(func() { forever(ctx, func(g int) error { return s.publish(ctx, url, fmt.Sprintf("%d/%d", id, g)) }) })
	}
	clients.Go(func() { forever(ctx, func(int) error { return s.read(ctx, url) }) })
	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range kills {
		<-time.After(time.Duration(300+rng.IntN(1000)) * time.Millisecond)
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	before := s.count()
	within(t, 30*time.Second, "messages are confirmed and read after the last start", func() bool {
		now := s.count()
		return now.confirmed > before.confirmed && now.read > before.read
	})
	stop()
	clients.Wait()
	all := &stream{confirmed: make(map[string]bool)}
	reading, end := context.WithCancel(t.Context())
	defer end()
	clients.Go(func() { forever(reading, func(int) error { return all.read(reading, url) }) })
	within(t, time.Minute, "what was confirmed is in the stream", func() bool { return all.has(s.confirmed) })
	end()
	clients.Wait()
	if err := errors.Join(s.wrong, all.wrong); err != nil {
		t.Error(err)
	}
	t.Logf("%d confirmed, %d in the stream, %d of them read while the node was killed", len(s.confirmed), len(all.bodies), len(s.bodies))
	if n := len(s.bodies); !slices.Equal(s.bodies, all.bodies[:min(n, len(all.bodies))]) {
		t.Error("a reader that went on behind its offset has not read what another one has that began at the first")
	}
}

// stream is what clients of a stream queue saw and were told.
type stream struct {
	mu        sync.Mutex
	confirmed map[string]bool // bodies whose publisher was told that they are durable
	bodies    []string        // of what was read, by offset
	wrong     error           // an offset that did not follow the one before
}

type streamCount struct{ confirmed, read int }

func (s *stream) count() streamCount {
	s.mu.Lock()
	defer s.mu.Unlock()
	return streamCount{len(s.confirmed), len(s.bodies)}
}

// has reports whether all of want was read.
func (s *stream) has(want map[string]bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	left := maps.Clone(want)
	for _, body := range s.bodies {
		delete(left, body)
	}
	return len(left) == 0
}

const streamQueue = "killed"

// publish publishes numbered messages and waits for each ten confirms, until the
// connection is lost.
func (s *stream) publish(ctx context.Context, url, name string) error {
	conn, ch, err := streamChannel(url, streamQueue)
	if err != nil {
		return err
	}
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		return err
	}
	for n := 0; ctx.Err() == nil; n++ {
		flying := make(map[string]*amqp.DeferredConfirmation)
		for i := range 10 {
			body := fmt.Sprintf("%s/%d/%d", name, n, i)
			if flying[body], err = ch.PublishWithDeferredConfirmWithContext(ctx, "", streamQueue, false, false, amqp.Publishing{Body: []byte(body)}); err != nil {
				return err
			}
		}
		limit, cancel := context.WithTimeout(ctx, 10*time.Second)
		defer cancel()
		for body, f := range flying {
			if ok, err := f.WaitContext(limit); err != nil || !ok {
				return fmt.Errorf("not confirmed: %w", err)
			}
			s.mu.Lock()
			s.confirmed[body] = true
			s.mu.Unlock()
		}
	}
	return nil
}

// read reads what follows what it has read, until the connection is lost.
func (s *stream) read(ctx context.Context, url string) error {
	conn, ch, err := streamChannel(url, streamQueue)
	if err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	in, err := ch.Consume(streamQueue, "", false, false, false, false, amqp.Table{"x-stream-offset": int64(s.count().read)})
	if err != nil {
		return err
	}
	for m := range in {
		s.mu.Lock()
		if at := m.Headers["x-stream-offset"]; at != int64(len(s.bodies)) && s.wrong == nil {
			s.wrong = fmt.Errorf("offset %v came, want %d", at, len(s.bodies))
		}
		s.bodies = append(s.bodies, string(m.Body))
		s.mu.Unlock()
		if err := m.Ack(false); err != nil {
			return err
		}
	}
	return nil
}
