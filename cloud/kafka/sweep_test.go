package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/record"
)

// examples returns a sensible request of every kind that is served.
func examples(t testing.TB, topic broker.Topic) []kmsg.Request {
	t.Helper()
	group := kmsg.NewPtrJoinGroupRequest()
	group.Group, group.ProtocolType, group.SessionTimeoutMillis, group.RebalanceTimeoutMillis = "g", "connect", 6000, 1000
	group.Protocols = []kmsg.JoinGroupRequestProtocol{{Name: "p", Metadata: []byte{1, 2}}}
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.GroupAssignment = "g", []kmsg.SyncGroupRequestGroupAssignment{{MemberID: "m", MemberAssignment: []byte{1}}}
	heartbeat := kmsg.NewPtrHeartbeatRequest()
	heartbeat.Group, heartbeat.InstanceID = "g", kmsg.StringPtr("i")
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.Members = "g", []kmsg.LeaveGroupRequestMember{{MemberID: "m", InstanceID: kmsg.StringPtr("i")}}
	commit := kmsg.NewPtrOffsetCommitRequest()
	commit.Group, commit.Generation = "offsets-only", -1
	ct := kmsg.NewOffsetCommitRequestTopic()
	ct.Topic, ct.TopicID, ct.Partitions = topic.Name, topic.ID, []kmsg.OffsetCommitRequestTopicPartition{{Offset: 3, LeaderEpoch: -1, Metadata: kmsg.StringPtr("m")}}
	commit.Topics = append(commit.Topics, ct)
	offsets := kmsg.NewPtrOffsetFetchRequest()
	offsets.Group, offsets.Topics = "offsets-only", []kmsg.OffsetFetchRequestTopic{{Topic: topic.Name, Partitions: []int32{0}}}
	offsets.Groups = []kmsg.OffsetFetchRequestGroup{
		{Group: "offsets-only", Topics: []kmsg.OffsetFetchRequestGroupTopic{{Topic: topic.Name, TopicID: topic.ID, Partitions: []int32{0}}}},
		{Group: "offsets-only"}, {Group: "nobody"},
	}
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKey, find.CoordinatorKeys = "g", []string{"g", "h", ""}
	create := kmsg.NewPtrCreateTopicsRequest()
	create.ValidateOnly = true
	nt := kmsg.NewCreateTopicsRequestTopic()
	nt.Topic, nt.NumPartitions, nt.ReplicationFactor = "new", 1, 1
	nt.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: "cleanup.policy", Value: kmsg.StringPtr("delete")}}
	create.Topics = append(create.Topics, nt)
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.TopicNames, remove.Topics = []string{"never"}, []kmsg.DeleteTopicsRequestTopic{{TopicID: [16]byte{9}}, {Topic: kmsg.StringPtr("never")}}
	list := kmsg.NewPtrListOffsetsRequest()
	list.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic.Name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{
		{Timestamp: -1, CurrentLeaderEpoch: -1}, {Timestamp: -5, CurrentLeaderEpoch: -1}, {Timestamp: -9, CurrentLeaderEpoch: -1}, {Partition: 99, Timestamp: 5, CurrentLeaderEpoch: -1}}}}
	meta := kmsg.NewPtrMetadataRequest()
	meta.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr(topic.Name)}, {Topic: kmsg.StringPtr("a b")}}
	versions := kmsg.NewPtrApiVersionsRequest()
	versions.ClientSoftwareName, versions.ClientSoftwareVersion = "x", "1"
	trim := kmsg.NewPtrDeleteRecordsRequest()
	trim.Topics = []kmsg.DeleteRecordsRequestTopic{
		{Topic: topic.Name, Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{Partition: 0}, {Partition: 99}}},
		{Topic: "never", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}},
	}
	id := kmsg.NewPtrInitProducerIDRequest()
	id.ProducerID, id.ProducerEpoch = -1, -1
	consume := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	consume.Group, consume.MemberID, consume.RebalanceTimeoutMillis = "consumers", "m", 1000
	consume.SubscribedTopicNames, consume.Topics = []string{topic.Name}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return append(append(append(append(adminExamples(topic), securityExamples()...), transactionExamples(topic)...), []kmsg.Request{
		produceTo(13, topic, 1, batchOf(t, record.None, "x"), []byte{1}), fetchFrom(12, topic, 0, 99),
		list, meta, commit, offsets, find, group, heartbeat, leave, sync, versions, create, remove, trim, id,
		consume, &kmsg.ConsumerGroupDescribeRequest{Groups: []string{"consumers", "g", ""}, IncludeAuthorizedOperations: true},
	}...), shareExamples(topic)...)
}

// Every version of everything that is advertised has an answer that decodes, to
// the last byte.
func TestEveryVersion(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	all := examples(t, topic)
	if len(all) != len(d.apis) {
		t.Fatalf("%d examples for %d operations", len(all), len(d.apis))
	}
	for _, q := range all {
		a := d.api(q.Key())
		for v := max(a.min, oldest(a.key)); v <= a.max; v++ {
			d.answersWhole(t, q, v)
		}
	}
}

// answersWhole sends a request in a version, and decodes its answer.
func (d *door) answersWhole(t *testing.T, q kmsg.Request, v int16) {
	t.Helper()
	w := d.dial(t)
	switch q := q.(type) {
	case *kmsg.ProduceRequest:
		q.Topics[0].Partitions[0].Records = batchOf(t, record.None, "x")
	case *kmsg.JoinGroupRequest: // or each would wait for the one before
		q.Group = fmt.Sprint("g", v)
	}
	q.SetVersion(v)
	w.send(q)
	p := w.frame()
	resp := q.ResponseKind()
	body := p[4:]
	if resp.IsFlexible() && q.Key() != kmsg.ApiVersions.Int16() {
		body = body[1:]
	}
	if err := resp.ReadFrom(body); err != nil {
		t.Errorf("%s v%d: %v in %x", kmsg.Key(q.Key()).Name(), v, err, p)
	}
	if again := resp.AppendTo(nil); !bytes.Equal(again, body) {
		t.Errorf("%s v%d: sent %x, means %x", kmsg.Key(q.Key()).Name(), v, body, again)
	}
}

// FuzzDoor sends anything, and expects the door to be as it was afterwards.
func FuzzDoor(f *testing.F) {
	d := open(f, setup{options: Options{MaxRequest: 1 << 16, MemoryBytes: 1 << 20, FrameTime: time.Second}})
	topic := d.newTopic(f, "a", 1, nil)
	for _, q := range examples(f, topic) {
		a := d.api(q.Key())
		var p []byte
		for _, v := range []int16{max(a.min, firstProduce), a.max} {
			q.SetVersion(v)
			p = kmsg.NewRequestFormatter().AppendRequest(p, q, 1)
		}
		f.Add(p)
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		if len(p) < 1<<10 { // also as the body of a frame of the right length
			d.feed(t, append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...))
		}
		d.feed(t, p)
	})
}

func (d *door) feed(t testing.TB, p []byte) {
	here, there := net.Pipe()
	c := d.Server.open(there, &d.o.Listeners[0])
	gate := d.o.Conns.Gate(budget.GateOptions{Name: "fed", Max: 1})
	seat, err := gate.Enter(c.From, c.GiveWay)
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() { defer close(served); defer seat.Leave(); c.Serve(seat) }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.Discard, here)
	}()
	_ = here.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // behind a Join that waits nothing is read
	_, _ = here.Write(p)
	_ = here.Close()
	<-done
	<-served
	eventually(t, func() bool { return d.memory.Used()+d.answers.Used()+d.polls.Used() == 0 })
}
