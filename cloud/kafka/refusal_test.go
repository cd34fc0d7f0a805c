package kafka

import (
	"errors"
	"fmt"
	"log/slog"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/shard"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/mem"
)

// TestRefusals: a node that has lost the catalogue and does not know that yet, because it was
// stopped for a while or others cannot reach it, says of nothing that it exists or does not.
func TestRefusals(t *testing.T) {
	for _, change := range refusable {
		if err := refusedByFormer(t, change, broker.Mutations{}); err != nil {
			t.Error(err)
		}
	}
}

var refusable = []string{"create", "delete", "grow", "alter"}

// refusedByFormer asks a node for a change that it has to refuse, while it owns the catalogue
// and when another one does.
func refusedByFormer(t *testing.T, change string, m broker.Mutations) error {
	bucket, listener := mem.New(), listen(t)
	own := func(name string) *shard.Shard {
		quiet := slog.New(slog.DiscardHandler)
		s := shard.New(shard.Options{Log: quiet})
		if err := s.Open(t.Context(), commitlog.Options{Bucket: bucket, Node: name, Log: quiet}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.Close() }) // the first owner's is fenced
		return s
	}
	former := own("a")
	b := broker.New(broker.Options{Mutations: m, Partitions: 4, Self: broker.Node{ID: 7, Name: "a", Addresses: cluster.Addresses{cluster.Kafka: {"": listener.Addr().String()}}}})
	b.Lead(former)
	d := serve(t, Options{}, access.Options{Users: func() *auth.Auth { return former.Users }, Quotas: func() *quota.Quotas { return former.Quotas }}, listener, b)
	defer func() {
		if err := errors.Join(d.Close(), <-d.served); err != nil {
			t.Error(err)
		}
	}()
	old, err := former.Log.CreateTopic(t.Context(), "old", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	ask, topic, want := changes(t, d.client(t))[change], "new", kerr.UnknownTopicOrPartition
	if change == "create" {
		topic, want = "old", kerr.TopicAlreadyExists
	}
	if got, err := ask(topic); err != nil || got != want.Code {
		t.Errorf("%s topic %q, asked of the owner: error %d, %v; want %d", change, topic, got, err, want.Code)
	}
	latter := own("b")
	_, err = latter.Log.CreateTopic(t.Context(), "new", 1, nil)
	if err = errors.Join(err, latter.Log.DeleteTopic(t.Context(), old.ID)); err != nil {
		t.Fatal(err)
	}
	if got, err := ask(topic); err != nil || got != kerr.NotController.Code {
		return fmt.Errorf("%s topic %q, asked of the former owner: error %d, %v", change, topic, got, err)
	}
	return nil
}

// changes returns how to ask a node for changes of topics. It gives the error code.
func changes(t *testing.T, cl *kgo.Client) map[string]func(topic string) (int16, error) {
	node := cl.Broker(7)
	send := func(q kmsg.Request, of func(kmsg.Response) int16) (int16, error) {
		resp, err := node.Request(within30s(t), q)
		if err != nil {
			return 0, err
		}
		return of(resp), nil
	}
	return map[string]func(string) (int16, error){
		"create": func(topic string) (int16, error) {
			q, qt := kmsg.NewPtrCreateTopicsRequest(), kmsg.NewCreateTopicsRequestTopic()
			qt.Topic, qt.NumPartitions, qt.ReplicationFactor = topic, 1, 1
			q.Topics = append(q.Topics, qt)
			return send(q, func(r kmsg.Response) int16 { return r.(*kmsg.CreateTopicsResponse).Topics[0].ErrorCode })
		},
		"delete": func(topic string) (int16, error) {
			q, qt := kmsg.NewPtrDeleteTopicsRequest(), kmsg.NewDeleteTopicsRequestTopic()
			qt.Topic = &topic
			q.Topics, q.TopicNames = append(q.Topics, qt), []string{topic}
			return send(q, func(r kmsg.Response) int16 { return r.(*kmsg.DeleteTopicsResponse).Topics[0].ErrorCode })
		},
		"grow": func(topic string) (int16, error) {
			q, qt := kmsg.NewPtrCreatePartitionsRequest(), kmsg.NewCreatePartitionsRequestTopic()
			qt.Topic, qt.Count = topic, 2
			q.Topics = append(q.Topics, qt)
			return send(q, func(r kmsg.Response) int16 { return r.(*kmsg.CreatePartitionsResponse).Topics[0].ErrorCode })
		},
		"alter": func(topic string) (int16, error) {
			q, qr := kmsg.NewPtrIncrementalAlterConfigsRequest(), kmsg.NewIncrementalAlterConfigsRequestResource()
			qr.ResourceType, qr.ResourceName = kmsg.ConfigResourceTypeTopic, topic
			q.Resources = append(q.Resources, qr)
			return send(q, func(r kmsg.Response) int16 {
				return r.(*kmsg.IncrementalAlterConfigsResponse).Resources[0].ErrorCode
			})
		},
	}
}
