package kafka

import (
	"fmt"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/weir"
)

// TestShareGroupOverNodes: the coordinator of a share group sets, describes and removes what
// the group has done in partitions of all nodes, whichever coordinates it.
func TestShareGroupOverNodes(t *testing.T) {
	p := newTwoOwners(t)
	cl := p.b.client(t, kgo.DefaultProduceTopic("t"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	topic, err := p.a.broker.CreateTopic(t.Context(), "t", 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range int32(6) {
		if err := cl.ProduceSync(within30s(t), &kgo.Record{Partition: i, Value: []byte("x")}, &kgo.Record{Partition: i, Value: []byte("y")}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	coordinated := make(map[uint32]bool)
	for i := 0; len(coordinated) < 2; i++ {
		group := fmt.Sprint("s", i)
		id := p.a.broker.RouteOf(weir.SliceOfGroup(group))
		if coordinated[id] {
			continue
		}
		coordinated[id] = true
		alter := kmsg.NewPtrAlterShareGroupOffsetsRequest()
		at := kmsg.NewAlterShareGroupOffsetsRequestTopic()
		at.Topic = "t"
		for part := range int32(6) {
			ap := kmsg.NewAlterShareGroupOffsetsRequestTopicPartition()
			ap.Partition, ap.StartOffset = part, 1
			at.Partitions = append(at.Partitions, ap)
		}
		alter.GroupID, alter.Topics = group, []kmsg.AlterShareGroupOffsetsRequestTopic{at}
		set := func() {
			t.Helper()
			resp, err := alter.RequestWith(within30s(t), cl)
			if err != nil || resp.ErrorCode != 0 || len(resp.Topics[0].Partitions) != 6 {
				t.Fatalf("%+v, %v", resp, err)
			}
			for _, part := range resp.Topics[0].Partitions {
				expect(t, "alter", part.ErrorCode, nil)
			}
		}
		describe := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		describe.Groups = []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: group}}
		described := func(what string, want *kerr.Error) {
			t.Helper()
			resp, err := describe.RequestWith(within30s(t), cl)
			if err != nil {
				t.Fatal(err)
			}
			g := resp.Groups[0]
			if expect(t, what, g.ErrorCode, want); want != nil {
				return
			}
			if len(g.Topics) != 1 || g.Topics[0].TopicID != topic.ID || len(g.Topics[0].Partitions) != 6 {
				t.Fatalf("%s: %+v", what, g.Topics)
			}
			for i, part := range g.Topics[0].Partitions {
				if part.Partition != int32(i) || part.StartOffset != 1 || part.Lag != 1 {
					t.Errorf("%s: %+v", what, part)
				}
			}
		}
		set()
		described("set", nil)
		listed := 0
		for _, node := range []int{7, 8} {
			resp, err := kmsg.NewPtrListGroupsRequest().RequestWith(within30s(t), cl.Broker(node))
			if err != nil {
				t.Fatal(err)
			}
			listed += len(resp.Groups)
		}
		if listed != 1 {
			t.Errorf("the nodes list %d groups", listed)
		}
		remove := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
		remove.GroupID, remove.Topics = group, []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "t"}}
		if resp, err := remove.RequestWith(within30s(t), cl); err != nil || resp.ErrorCode != 0 || resp.Topics[0].ErrorCode != 0 {
			t.Errorf("delete offsets: %+v, %v", resp, err)
		}
		described("offsets deleted", kerr.GroupIDNotFound)
		set()
		for _, want := range []*kerr.Error{nil, kerr.GroupIDNotFound} {
			resp, err := (&kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{group}}).RequestWith(within30s(t), cl)
			if err != nil {
				t.Fatal(err)
			}
			expect(t, "delete the group", resp.Groups[0].ErrorCode, want)
		}
		described("deleted", kerr.GroupIDNotFound)
	}
}
