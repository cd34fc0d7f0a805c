package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// TestReadingsToQueues: readings of devices reach two queues that are bound to amq.topic,
// while the node is killed at random moments. Each queue has every reading once, those of a
// device in order; a queue that is bound to one device has those of that device.
func TestReadingsToQueues(t *testing.T) {
	rng := newRand(t)
	rounds := 3
	if soak() {
		rounds = 50
	}
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	url := "amqp://guest:guest@" + address + "/"
	c := open(t, &harness.Cluster{CloudArgs: []string{"--amqp", address}})
	keys := map[string]string{"all": "sensors.#", "telemetry": "*.*.telemetry", "one": "sensors.dev-0001.*"}
	if err := bindReadings(url, keys); err != nil {
		t.Fatal(err)
	}
	fleet := c.Fleet(20, 20*time.Millisecond, 1)
	audits := make(map[string]*audit.Auditor)
	for queue := range keys {
		audits[queue] = audit.New()
	}
	fleet.Event = func(r device.Reading, o device.Outcome) {
		for queue, a := range audits {
			if queue != "one" || r.Device == fleet.ID(0) {
				a.Event(r, o)
			}
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { fleet.Run(ctx, new(device.Stats)) })
	defer running.Wait()
	defer cancel()
	for range rounds {
		<-time.After(500*time.Millisecond + time.Duration(rng.Int64N(int64(2*time.Second))))
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	running.Wait()
	for queue, a := range audits {
		if err := drainReadings(t.Context(), url, queue, a); err != nil {
			t.Fatal(err)
		}
		r := a.Report()
		t.Logf("%s: %+v", queue, r)
		if !r.Clean() || r.Acked == 0 || r.Foreign > 0 || r.Reported > 0 {
			t.Errorf("queue %s: %+v", queue, r)
		}
	}
}

// bindReadings binds queues to amq.topic.
func bindReadings(url string, keys map[string]string) (err error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	for queue, key := range keys {
		if _, err := ch.QueueDeclare(queue, true, false, false, false, nil); err != nil {
			return err
		}
		if err := ch.QueueBind(queue, key, "amq.topic", false, nil); err != nil {
			return err
		}
	}
	return nil
}

// drainReadings reads a queue until every acknowledged reading has come, and no more do, or
// none at all does for a while.
func drainReadings(ctx context.Context, url, queue string, a *audit.Auditor) (err error) {
	conn, err := amqp.Dial(url)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, conn.Close()) }()
	ch, err := conn.Channel()
	if err != nil {
		return err
	}
	deliveries, err := ch.ConsumeWithContext(ctx, queue, "", true, false, false, false, nil)
	if err != nil {
		return err
	}
	patience := settleTime
	for n := int64(0); ; n++ {
		if a.Missing() == 0 {
			patience = 2 * time.Second // for copies
		}
		select {
		case d, ok := <-deliveries:
			if !ok {
				return errors.New("the connection is lost")
			}
			r := audit.Record{Offset: n, Read: time.Now(), Value: d.Body}
			source, _ := d.Headers[audit.SourceHeader].(string)
			if r.Source, err = audit.ParseSource(source); err != nil {
				return fmt.Errorf("headers %v: %w", d.Headers, err)
			}
			a.Read(r)
		case <-time.After(patience):
			return nil
		}
	}
}

// TestPublishedToTopics: with --amqp-topics a message for amq.topic goes to the queues of
// its vhost, to a topic, and from there to the queues of another vhost; it does not come
// back, so each queue has it once.
func TestPublishedToTopics(t *testing.T) {
	const messages = 200
	port, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", port)
	c := cloud(t, "--amqp", address, "--amqp-topics", "create")
	if out, stderr, err := c.Weirctl("vhosts", "create", "other"); err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr)
	}
	url := "amqp://guest:guest@" + address + "/"
	for _, vhost := range []string{"", "other"} {
		if err := bindReadings(url+vhost, map[string]string{workQueue: "orders.#"}); err != nil {
			t.Fatal(err)
		}
	}
	conn, ch, err := openWork(url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for n := range messages {
		f, err := ch.PublishWithDeferredConfirmWithContext(t.Context(), "amq.topic", "orders.new", true, false, amqp.Publishing{Body: fmt.Append(nil, n)})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := f.WaitContext(t.Context()); !ok || err != nil {
			t.Fatalf("message %d is not confirmed: %v", n, err)
		}
	}
	within(t, 30*time.Second, "both vhosts have read the topic, and the other one has all messages", func() bool {
		return shows(t, c.Cloud, fmt.Sprint("weir_bridge_records_read_total ", 2*messages)) && messagesIn(url+"other", workQueue) == messages
	})
	if n := messagesIn(url, workQueue); n != messages {
		t.Errorf("the vhost where they were published has %d messages, want %d", n, messages)
	}
}

// shows reports whether the metrics of a program have a line.
func shows(t *testing.T, p *harness.Process, line string) bool {
	t.Helper()
	resp, err := http.Get("http://" + p.Addr["http"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	all, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(all), "\n"+line+"\n")
}
