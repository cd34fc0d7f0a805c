package management

import (
	"context"
	"slices"
	"testing"

	"github.com/weirmq/weir/cloud/broker"
)

// TestFormerOwner: a node that may have been stopped for a while says of nothing that it does
// not exist before the bucket has said that the node still has the vhost, or the users. What
// changes nothing needs no question: it waits until the node is sure.
func TestFormerOwner(t *testing.T) {
	var asked []string
	var lost error
	sure := 0
	n := newNode(t, func(o *Options) {
		o.Sure = func(context.Context) { sure++ }
		o.ConfirmVhost = func(_ context.Context, vhost string) error {
			asked = append(asked, vhost)
			return lost
		}
		o.ConfirmCatalogue = func(context.Context) error {
			asked = append(asked, "users")
			return lost
		}
	})
	n.ask(201, "PUT", "/api/users/root", `{"password":"secret","tags":"administrator"}`)
	n = n.as("root:secret")
	n.ask(404, "GET", "/api/queues/%2F/none", "")
	if len(asked) != 0 || sure != 2 {
		t.Errorf("asked for %q, waited %d times until this node was sure", asked, sure)
	}
	for _, lost = range []error{nil, broker.ErrNotOwner} {
		asked = nil
		status := 404
		if lost != nil {
			status = 503
		}
		n.ask(status, "DELETE", "/api/queues/%2F/none", "")
		n.ask(status, "DELETE", "/api/users/none", "")
		if !slices.Equal(asked, []string{"/", "users"}) {
			t.Errorf("asked for %q", asked)
		}
	}
}
