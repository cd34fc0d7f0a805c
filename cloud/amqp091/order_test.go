package amqp091

import (
	"testing"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/storage/mem"
)

// TestReturnsInOrder: what cannot be routed is returned in the order of the publishes, though
// an earlier one came together with a message that is still on its way into the log.
func TestReturnsInOrder(t *testing.T) {
	bucket := &gated{Bucket: mem.New()}
	d := openDoor(t, bucket, nil)
	r := d.opened()
	r.send(1, &wire.QueueDeclare{Queue: "q", Durable: true})
	r.expect(1, wire.IDQueueDeclareOk)
	r.send(1, &wire.ConfirmSelect{})
	r.expect(1, wire.IDConfirmSelectOk)
	bucket.gate.Lock()
	add := func(m *wire.BasicPublish) {
		if err := r.out.Content(1, m, nil, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	add(&wire.BasicPublish{RoutingKey: "q"})
	add(&wire.BasicPublish{RoutingKey: "first", Mandatory: true})
	r.flush()
	r.send(1, &wire.BasicQos{PrefetchCount: 1}) // the two are on their way when it is answered
	r.expect(1, wire.IDBasicQosOk)
	add(&wire.BasicPublish{RoutingKey: "second", Mandatory: true})
	r.flush()
	r.send(1, &wire.BasicQos{PrefetchCount: 1})
	r.expect(1, wire.IDBasicQosOk)
	bucket.gate.Unlock()
	for _, want := range []string{"first", "second"} {
		for {
			if _, m := r.method(); m.ID() == wire.IDBasicReturn {
				if got := m.(*wire.BasicReturn).RoutingKey; got != want {
					t.Fatalf("%s is returned, want %s", got, want)
				}
				break
			}
		}
	}
}
