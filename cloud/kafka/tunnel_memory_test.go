package kafka

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Two nodes whose clients hold all memory for requests, each for what the other node owns,
// do not wait for each other.
func TestNodesOfFullMemory(t *testing.T) {
	p := newTwoOwners(t)
	topic, err := p.a.broker.CreateTopic(t.Context(), "t", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	p.copy(p.b.broker)
	doors := map[string]*door{}
	for _, d := range []*door{p.a, p.b} { // as in the product: one door has clients and serves tunnels
		o := Options{MemoryBytes: 512 << 10, MaxRequest: 128 << 10, Owner: d.o.Owner, Listeners: []Listener{{Name: "here", Here: true}}}
		o.Relay = func(_ context.Context, to broker.Node, hello Tunnel) (io.ReadWriteCloser, error) {
			owner := doors[to.Name]
			if owner == nil {
				return nil, errors.New("no such node")
			}
			near, far := net.Pipe()
			p.tunnels.Go(func() {
				if err := owner.ServeTunnel(hello, far); err != nil {
					_ = far.Close()
				}
			})
			return near, nil
		}
		name := d.broker.Self().Name
		doors[name] = serve(t, o, access.Options{Users: p.users(d), Quotas: p.quotas(d)}, p.here[name], d.broker)
	}
	const clients, each = 24, 5
	done := make(chan error, 2*clients)
	for name, other := range map[string]uint32{"a": 2, "b": 1} {
		at := int32(-1)
		for i := range topic.Partitions {
			if p.a.broker.RouteOf(weir.SliceOf(topic.ID, i)) == other {
				at = i
			}
		}
		q := toPartition(topic, at, batchOf(t, record.None, string(bytes.Repeat([]byte("x"), 60<<10))))
		for range clients {
			c := doors[name].dial(t)
			go func() {
				for range each {
					resp := ask[*kmsg.ProduceResponse](c, q)
					if err := coded(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
	}
	late := time.After(10 * time.Second)
	for n := range 2 * clients {
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-late:
			t.Fatalf("%d of %d clients were served: the nodes wait for each other", n, 2*clients)
		}
	}
}
