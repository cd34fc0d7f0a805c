package e2e

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"
)

// queueNodes starts two nodes with a door for AMQP, and returns their URLs.
func queueNodes(t *testing.T) (*twoNodes, []string) {
	n := startNodes(t, func(n *twoNodes, name string) []string {
		return []string{"--kafka", n.address(name, 0), "--amqp", n.address(name, 1)}
	})
	var urls []string
	for _, name := range []string{"one", "two"} {
		urls = append(urls, "amqp://guest:guest@"+n.address(name, 1)+"/")
	}
	return n, urls
}

// TestTakeoverWork: what TestKillQueues says holds when another node takes over from the
// one that was killed, and the clients go to its address.
func TestTakeoverWork(t *testing.T) {
	repeat(t, 10, func(t *testing.T) {
		n, urls := queueNodes(t)
		killWorking(t, urls, 2, n.takeOver)
	})
}

// repeat runs a test once, and with WEIR_SOAK=1 so many times. Two nodes take over from
// each other ever later when that comes soon after the last time, so that many takeovers
// need many nodes.
func repeat(t *testing.T, times int, test func(t *testing.T)) {
	if os.Getenv("WEIR_SOAK") == "" {
		times = 1
	}
	for i := range times {
		t.Run(strconv.Itoa(i), test)
	}
}

// TestTakeoverUnsettled: a consumer has messages that it has not acknowledged when its node
// is killed. At the next node exactly those come first, in their order and marked as
// redelivered, then those that were not delivered; what was acknowledged does not come.
func TestTakeoverUnsettled(t *testing.T) {
	const messages, prefetch, acked = 100, 30, 10
	takeovers := 1
	if os.Getenv("WEIR_SOAK") != "" {
		takeovers = 2
	}
	n, urls := queueNodes(t)
	owner := func() string { return urls[map[string]int{"one": 0, "two": 1}[n.owner.Name]] }
	publishCounted(t, owner(), messages)
	next, known := 0, 0 // the first message that is not acknowledged, the first that was never delivered
	for round := range takeovers + 1 {
		conn, ch := openCounted(t, owner())
		if err := errors.Join(ch.Tx(), ch.Qos(prefetch, 0, false)); err != nil {
			t.Fatal(err)
		}
		deliveries, err := ch.Consume(countedQueue, "", false, false, false, false, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range prefetch + acked {
			d := receive(t, deliveries)
			if got := string(d.Body); got != strconv.Itoa(next+i) || d.Redelivered != (next+i < known) {
				t.Fatalf("round %d: delivery %d is message %s, redelivered %v; want %d, %v", round, i, got, d.Redelivered, next+i, next+i < known)
			}
			if i != acked-1 {
				continue
			}
			if err := errors.Join(d.Ack(true), ch.TxCommit()); err != nil {
				t.Fatal(err)
			}
		}
		next, known = next+acked, next+prefetch+acked
		if round < takeovers {
			n.takeOver()
		}
		_ = conn.Close() // an error says that its node is gone
	}
	conn, ch := openCounted(t, owner())
	defer conn.Close()
	within(t, 10*time.Second, fmt.Sprintf("%d messages are left", messages-next), func() bool {
		q, err := declareCounted(ch)
		return err == nil && q.Messages == messages-next
	})
}

// countedQueue has a delivery limit: its deliveries are counted exactly. Those of other
// queues may count as delivered before they are.
const countedQueue = "counted"

func declareCounted(ch *amqp.Channel) (amqp.Queue, error) {
	return ch.QueueDeclare(countedQueue, true, false, false, false, amqp.Table{"x-delivery-limit": 1000})
}

// openCounted opens a channel at the owner, which may have just begun to lead.
func openCounted(t *testing.T, url string) (conn *amqp.Connection, ch *amqp.Channel) {
	t.Helper()
	within(t, 20*time.Second, "the owner serves the queue", func() bool {
		var err error
		if conn, ch, err = openWork(url); err != nil {
			return false
		}
		if _, err = declareCounted(ch); err != nil {
			conn.Close()
		}
		return err == nil
	})
	return conn, ch
}

// publishCounted publishes numbered messages, each when the one before is confirmed.
func publishCounted(t *testing.T, url string, messages int) {
	t.Helper()
	conn, ch := openCounted(t, url)
	defer conn.Close()
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	for i := range messages {
		f, err := ch.PublishWithDeferredConfirm("", countedQueue, false, false, amqp.Publishing{Body: []byte(strconv.Itoa(i))})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := f.WaitContext(t.Context()); !ok || err != nil {
			t.Fatalf("message %d is not confirmed: %v", i, err)
		}
	}
}

// receive returns the next delivery.
func receive(t *testing.T, deliveries <-chan amqp.Delivery) (d amqp.Delivery) {
	t.Helper()
	select {
	case d, ok := <-deliveries:
		if !ok {
			t.Fatal("the connection is lost")
		}
		return d
	case <-time.After(20 * time.Second):
		t.Fatal("no delivery")
	}
	return d
}
