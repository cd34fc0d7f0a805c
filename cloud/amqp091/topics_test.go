package amqp091

import (
	"context"
	"testing"

	amqp "github.com/rabbitmq/amqp091-go"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/routing"
)

// addAnn adds the user ann, who may do everything in the default vhost.
func (d *streamDoor) addAnn() {
	d.t.Helper()
	ctx := d.t.Context()
	c, err := auth.NewCredential(auth.SCRAMSHA256, "ann")
	if err == nil {
		err = d.users.SetCredentials(ctx, "ann", c)
	}
	if err == nil {
		err = d.users.SetVhostPermissions(ctx, auth.VhostPermissions{User: "ann", Vhost: "/", Configure: ".*", Write: ".*", Read: ".*"})
	}
	if err != nil {
		d.t.Fatal(err)
	}
}

// TestPublishMakesTopics: what is published to amq.topic makes a topic only if its publisher
// may make it and write to it, and in a transaction only with the commit.
func TestPublishMakesTopics(t *testing.T) {
	d := openStreamDoor(t, true)
	d.addAnn()
	c := d.client("ann")
	ch, tx := d.channel(c), d.channel(c)
	if err := ch.Confirm(false); err != nil {
		t.Fatal(err)
	}
	if err := tx.Tx(); err != nil {
		t.Fatal(err)
	}
	there := func(name string) bool { _, err := d.broker.Topic(name); return err == nil }
	for _, op := range []auth.Operation{auth.Write, auth.Create, auth.Read} {
		confirmed, err := ch.PublishWithDeferredConfirm("amq.topic", "sensors.a", false, false, amqp.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := confirmed.WaitContext(t.Context()); !ok || err != nil {
			t.Fatalf("%v, %v", ok, err)
		}
		if got := there("sensors"); got != (op == auth.Read) {
			t.Errorf("before the ACL for operation %v the topic is there: %v", op, got)
		}
		if err := d.users.AddACLs(t.Context(), auth.ACL{Resource: auth.Resource{Type: auth.Topic, Pattern: auth.Literal, Name: auth.Any},
			Rule: auth.Rule{Principal: auth.Principal("ann"), Host: auth.Any, Operation: op, Permission: auth.Allow}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, end := range []func() error{tx.TxRollback, tx.TxCommit} {
		if err := tx.PublishWithContext(t.Context(), "amq.topic", "later.a", false, false, amqp.Publishing{}); err != nil {
			t.Fatal(err)
		}
		if there("later") {
			t.Error("there is a topic for a transaction that was not committed")
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
	}
	if !there("later") {
		t.Error("a commit has made no topic")
	}
}

// TestBindReads: a binding of amq.topic gives the topics to the vhost only if its client may
// read all of them.
func TestBindReads(t *testing.T) {
	d := openStreamDoor(t, true)
	d.addAnn()
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
