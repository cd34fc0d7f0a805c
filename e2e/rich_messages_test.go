package e2e

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/e2e/harness"
)

// richQueue returns a channel on which the queue "rich" is declared, which has priorities and
// gets what devices publish.
func richQueue(t *testing.T, address string) *amqp.Channel {
	t.Helper()
	conn, err := amqp.Dial("amqp://guest:guest@" + address + "/")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	ch, err := conn.Channel()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.QueueDeclare("rich", true, false, false, false, amqp.Table{"x-max-priority": int32(9)}); err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind("rich", "sensors.#", "amq.topic", false, nil); err != nil {
		t.Fatal(err)
	}
	return ch
}

// userProperties returns arguments of mosquitto_pub: names and values in turns.
func userProperties(all ...string) (args []string) {
	for i := 0; i < len(all); i += 2 {
		args = append(args, "-D", "PUBLISH", "user-property", all[i], all[i+1])
	}
	return args
}

// TestRichMessages: what a device says of a message in MQTT 5 acts in a queue: its user
// properties x-delay and x-priority, and its expiry. The rest is there for the consumer.
func TestRichMessages(t *testing.T) {
	pub := need(t, "mosquitto_pub", "mosquitto-clients")
	free, err := harness.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", free)
	c := open(t, &harness.Cluster{CloudArgs: []string{"--amqp", address}})
	host, port, err := net.SplitHostPort(c.MQTT())
	if err != nil {
		t.Fatal(err)
	}
	ch := richQueue(t, address)
	publish := func(body string, more ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		args := append([]string{"-h", host, "-p", port, "-V", "5", "-i", "pump-7", "-q", "1", "-t", "sensors/pump-7/p", "-m", body}, more...)
		if out, err := exec.CommandContext(ctx, pub, args...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", args, err, out)
		}
	}
	began := time.Now()
	publish("late", append(userProperties("x-delay", "4000"), "-D", "PUBLISH", "message-expiry-interval", "60")...)
	publish("low")
	publish("high", append(userProperties("x-priority", "7", "unit", "bar"), "-D", "PUBLISH", "content-type", "text/plain", "-D", "PUBLISH", "response-topic", "answers/1",
		"-D", "PUBLISH", "correlation-data", "c1")...)
	within(t, 30*time.Second, "two messages that are not delayed", func() bool {
		q, err := ch.QueueDeclarePassive("rich", true, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		return q.Messages >= 2
	})
	var got []amqp.Delivery
	within(t, 30*time.Second, "three messages", func() bool {
		d, ok, err := ch.Get("rich", true)
		if err != nil {
			t.Fatal(err)
		}
		if ok {
			got = append(got, d)
		}
		return len(got) == 3
	})
	if string(got[0].Body) != "high" || string(got[1].Body) != "low" || string(got[2].Body) != "late" {
		t.Errorf("got %s, %s, %s", got[0].Body, got[1].Body, got[2].Body)
	}
	if after := time.Since(began); after < 4*time.Second {
		t.Errorf("the delayed message came after %v", after)
	}
	d := got[0]
	if d.Exchange != "amq.topic" || d.RoutingKey != "sensors.pump-7.p" || d.Priority != 7 || d.ContentType != "text/plain" || d.ReplyTo != "answers/1" ||
		d.CorrelationId != "c1" || d.DeliveryMode != amqp.Persistent || d.Timestamp.IsZero() || d.Headers["unit"] != "bar" || d.Headers["weir.client"] != "pump-7" {
		t.Errorf("%+v", d)
	}
	if got[2].Expiration == "" || got[2].Expiration == "60000" {
		t.Errorf("the delayed message has expiration %q, want what was left of a minute after the delay", got[2].Expiration)
	}
}
