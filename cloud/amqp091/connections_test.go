package amqp091

import (
	"errors"
	"testing"
	"time"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/storage/mem"
)

// TestConnections: connections are listed once their vhost is open, with their channels
// and consumers, and can be closed.
func TestConnections(t *testing.T) {
	d := openDoor(t, mem.New(), nil)
	d.dial() // says nothing
	c := d.client("guest")
	ch := d.channel(c)
	declareQueue(t, ch, "q", nil)
	if err := ch.Qos(5, 0, false); err != nil {
		t.Fatal(err)
	}
	deliveries, err := ch.Consume("q", "tag", false, true, false, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	publish(t, ch, "q", "one")
	next(t, deliveries)
	all := d.server.Connections()
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	one := all[0]
	if one.User != "guest" || one.Vhost != "/" || one.Opened.IsZero() || one.TLS || one.FrameMax == 0 || one.Heartbeat == 0 {
		t.Errorf("%+v", one)
	}
	if one.Name() != c.LocalAddr().String()+" -> "+c.RemoteAddr().String() {
		t.Errorf("the name is %s", one.Name())
	}
	if len(one.Channels) != 1 || one.Channels[0].Number != 1 || one.Channels[0].Unsettled != 1 || len(one.Channels[0].Consumers) != 1 {
		t.Fatalf("%+v", one.Channels)
	}
	if k := one.Channels[0].Consumers[0]; k != (Consumer{Tag: "tag", Queue: "q", Exclusive: true, Prefetch: 5}) {
		t.Errorf("%+v", k)
	}
	if err := ch.Close(); err != nil {
		t.Fatal(err)
	}
	if all := d.server.Connections(); len(all) != 1 || len(all[0].Channels) != 0 {
		t.Errorf("%+v", all)
	}
	closed := c.NotifyClose(make(chan *amqp.Error, 1))
	one.Close("Closed via management plugin")
	select {
	case err := <-closed:
		if want := (&amqp.Error{Code: 320, Reason: "CONNECTION_FORCED - Closed via management plugin", Server: true}); !errors.Is(err, want) && (err.Code != want.Code || err.Reason != want.Reason) {
			t.Errorf("%v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the connection is not closed")
	}
	for end := time.Now().Add(10 * time.Second); len(d.server.Connections()) > 0; {
		if time.Now().After(end) {
			t.Fatal("the connection is still listed")
		}
	}
}
