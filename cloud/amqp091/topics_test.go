package amqp091

import (
	"context"
	"testing"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// TestBindReads: a binding of amq.topic gives the topics to the vhost only if its client may
// read all of them.
func TestBindReads(t *testing.T) {
	d := openStreamDoor(t, true)
	c, err := auth.NewCredential(auth.SCRAMSHA256, "ann")
	if err == nil {
		err = d.users.SetCredentials(t.Context(), "ann", c)
	}
	if err == nil {
		err = d.users.SetVhostPermissions(t.Context(), auth.VhostPermissions{User: "ann", Vhost: "/", Configure: ".*", Write: ".*", Read: ".*"})
	}
	if err != nil {
		t.Fatal(err)
	}
	gives := make(chan bool, 1)
	d.engine.Hook(queue.Hooks{
		Binding: func(_ context.Context, _ string, _ *routing.Binding, reads bool) (func(), error) {
			gives <- reads
			return func() {}, nil
		},
		Declared: func(string) {},
	})
	ch := d.channel(d.client("ann"))
	if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
		t.Fatal(err)
	}
	for _, want := range []bool{false, true} {
		if err := ch.QueueBind("q", "a", "amq.topic", false, nil); err != nil {
			t.Fatal(err)
		}
		if got := <-gives; got != want {
			t.Errorf("the topics are given to the vhost: %v", got)
		}
		if err := d.users.AddACLs(t.Context(), auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: auth.Any},
			Rule: auth.Rule{Principal: auth.Principal("ann"), Host: auth.Any, Operation: auth.Read, Permission: auth.Allow}}); err != nil {
			t.Fatal(err)
		}
	}
}
