package management

import (
	"context"
	"errors"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
)

// TestElsewhereSilent: while a node that has vhosts does not answer, or is not known, there are
// no lists and no exports: they would lack what it has. What this node has is there.
func TestElsewhereSilent(t *testing.T) {
	unknown := false
	n := newNode(t, func(o *Options) {
		o.Elsewhere = &Elsewhere{Several: func() bool { return true },
			Nodes: func() ([]broker.Node, error) {
				if unknown {
					return nil, broker.ErrUnavailable
				}
				return []broker.Node{{Name: "b"}}, nil
			},
			Catalogue: func() (broker.Node, bool) { return broker.Node{Name: "a"}, true },
			Pass: func(_ context.Context, to broker.Node, p Passed) (Answered, error) {
				if to.Name != "b" || p.Principal == "" || p.Hops != 1 {
					t.Errorf("passed on to %q: %+v", to.Name, p)
				}
				return Answered{}, errors.New("it is gone")
			}}
	})
	n.ask(201, "PUT", "/api/queues/%2F/q", `{}`)
	for range 2 {
		for _, path := range []string{"/api/queues", "/api/exchanges", "/api/bindings", "/api/vhosts", "/api/connections", "/api/channels", "/api/consumers", "/api/overview", "/api/definitions", "/api/connections/c"} {
			o := n.ask(503, "GET", path, "").(object)
			has(t, o, object{"error": "service_unavailable"})
		}
		if got := n.names("/api/queues/%2F"); got != "q" {
			t.Errorf("the queues of a vhost of this node are %q", got)
		}
		unknown = true
	}
}
