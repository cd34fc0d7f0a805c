package kafka

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
)

// shares is the heartbeat with which a member joins a share group.
func shares(name, member string, topics ...string) *kmsg.ShareGroupHeartbeatRequest {
	q := kmsg.NewPtrShareGroupHeartbeatRequest()
	q.Version, q.GroupID, q.MemberID, q.SubscribedTopicNames = 1, name, member, topics
	return q
}

// sharer is a member of group g and its share session.
type sharer struct {
	*wire
	topic  broker.Topic
	member string
	epoch  int32
}

// judged are acknowledgements of a row of records with one type, or one type each.
func judged(first, last int64, types ...int8) kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch {
	return kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch{FirstOffset: first, LastOffset: last, AcknowledgeTypes: types}
}

func (x *sharer) fetchRequest(acks ...kmsg.ShareFetchRequestTopicPartitionAcknowledgementBatch) *kmsg.ShareFetchRequest {
	q := kmsg.NewPtrShareFetchRequest()
	q.Version, q.GroupID, q.MemberID, q.ShareSessionEpoch, q.MaxWaitMillis = 2, kmsg.StringPtr("g"), &x.member, x.epoch, 10
	q.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: x.topic.ID, Partitions: []kmsg.ShareFetchRequestTopicPartition{{AcknowledgementBatches: acks}}}}
	x.epoch++
	return q
}

// fetch returns what the member gets of partition 0, as "first-last:count".
func (x *sharer) fetch(q *kmsg.ShareFetchRequest) (got []string, p kmsg.ShareFetchResponseTopicPartition) {
	x.t.Helper()
	r := ask[*kmsg.ShareFetchResponse](x.wire, q)
	expect(x.t, "share fetch", r.ErrorCode, nil)
	for _, t := range r.Topics {
		if t.TopicID != x.topic.ID || len(t.Partitions) != 1 || len(r.Topics) != 1 {
			x.t.Fatalf("%+v", r)
		}
		if p = t.Partitions[0]; p.Records == nil {
			x.t.Fatal("records are null: Kafka's client does not take that")
		}
	}
	expect(x.t, "partition", p.ErrorCode, nil)
	for _, a := range p.AcquiredRecords {
		got = append(got, fmt.Sprintf("%d-%d:%d", a.FirstOffset, a.LastOffset, a.DeliveryCount))
	}
	return got, p
}

func (x *sharer) gets(q *kmsg.ShareFetchRequest, want ...string) {
	x.t.Helper()
	if got, _ := x.fetch(q); !slices.Equal(got, want) {
		x.t.Errorf("got %q, want %q", got, want)
	}
}

// acknowledge sends acknowledgements by themselves, and returns the session's and the
// partition's error.
func (x *sharer) acknowledge(first, last int64, types ...int8) (session, partition int16) {
	x.t.Helper()
	q := kmsg.NewPtrShareAcknowledgeRequest()
	q.Version, q.GroupID, q.MemberID, q.ShareSessionEpoch = 2, kmsg.StringPtr("g"), &x.member, x.epoch
	q.Topics = []kmsg.ShareAcknowledgeRequestTopic{{TopicID: x.topic.ID, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{{
		AcknowledgementBatches: []kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{{FirstOffset: first, LastOffset: last, AcknowledgeTypes: types}}}}}}
	x.epoch++
	r := ask[*kmsg.ShareAcknowledgeResponse](x.wire, q)
	if r.ErrorCode != 0 {
		return r.ErrorCode, 0
	}
	return 0, r.Topics[0].Partitions[0].ErrorCode
}

// shared is a door with a topic of some records, which group g reads from the start.
func shared(t *testing.T, values ...string) (*door, broker.Topic) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	for _, v := range values {
		ask[*kmsg.ProduceResponse](w, produceTo(13, topic, 1, batchOf(t, record.None, v)))
	}
	expect(t, "reset", alter(w, ofGroup, "g", 0, "share.auto.offset.reset", "earliest"), nil)
	return d, topic
}

func TestShareGroupHeartbeat(t *testing.T) {
	d := open(t, setup{})
	a := d.newTopic(t, "a", 2, nil)
	w := d.dial(t)
	r := ask[*kmsg.ShareGroupHeartbeatResponse](w, shares("g", "m", "a"))
	if r.ErrorCode != 0 || text(r.MemberID) != "m" || r.MemberEpoch != 1 || r.HeartbeatIntervalMillis != 5000 || r.Assignment == nil ||
		len(r.Assignment.TopicPartitions) != 1 || r.Assignment.TopicPartitions[0].TopicID != a.ID || !slices.Equal(r.Assignment.TopicPartitions[0].Partitions, []int32{0, 1}) {
		t.Fatalf("joined: %+v", r)
	}
	for i, c := range []struct {
		q    *kmsg.ShareGroupHeartbeatRequest
		want *kerr.Error
	}{
		{shares("", "m", "a"), kerr.InvalidRequest},
		{shares("g", "", "a"), kerr.InvalidRequest},
		{shares("g", "n"), kerr.InvalidRequest},
		{&kmsg.ShareGroupHeartbeatRequest{Version: 1, GroupID: "g", MemberID: "m", MemberEpoch: 9}, kerr.FencedMemberEpoch},
		{&kmsg.ShareGroupHeartbeatRequest{Version: 1, GroupID: "g", MemberID: "n", MemberEpoch: 1}, kerr.UnknownMemberID},
		{&kmsg.ShareGroupHeartbeatRequest{Version: 1, GroupID: "g", MemberID: "m", MemberEpoch: 1}, nil},
	} {
		expect(t, fmt.Sprint("heartbeat ", i), ask[*kmsg.ShareGroupHeartbeatResponse](w, c.q).ErrorCode, c.want)
	}
	g := ask[*kmsg.ShareGroupDescribeResponse](w, &kmsg.ShareGroupDescribeRequest{Version: 1, GroupIDs: []string{"g"}}).Groups[0]
	if g.ErrorCode != 0 || g.GroupState != "Stable" || g.GroupEpoch != 1 || g.Assignor != "simple" || len(g.Members) != 1 || g.Members[0].Assignment.TopicPartitions[0].Topic != "a" {
		t.Errorf("%+v", g)
	}
	list := ask[*kmsg.ListGroupsResponse](w, &kmsg.ListGroupsRequest{Version: 5, TypesFilter: []string{"Share"}})
	if len(list.Groups) != 1 || list.Groups[0].Group != "g" || list.Groups[0].GroupType != "share" || list.Groups[0].ProtocolType != "share" {
		t.Errorf("%+v", list.Groups)
	}
	w.beats(consumes("g", "c", "a"), kerr.GroupIDNotFound)
	expect(t, "delete", ask[*kmsg.DeleteGroupsResponse](w, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}}).Groups[0].ErrorCode, kerr.NonEmptyGroup)
}

func TestShareFetch(t *testing.T) {
	d, topic := shared(t, "0", "1", "2", "3", "4")
	m := &sharer{wire: d.dial(t), topic: topic, member: "m"}
	q := m.fetchRequest()
	q.MaxRecords = 3
	got, p := m.fetch(q)
	if !slices.Equal(got, []string{"0-2:1"}) || len(p.Records) == 0 || p.CurrentLeader.LeaderID != -1 {
		t.Fatalf("%v of %+v", got, p)
	}
	n := &sharer{wire: d.dial(t), topic: topic, member: "n"}
	n.gets(n.fetchRequest(), "3-4:1")
	// Acknowledgements come with a fetch, or by themselves.
	got, p = m.fetch(m.fetchRequest(judged(0, 1, 1, 2)))
	if expect(t, "acknowledge", p.AcknowledgeErrorCode, nil); !slices.Equal(got, nil) {
		t.Errorf("got %q before the release is durable", got)
	}
	n.gets(n.fetchRequest(), "1-1:2")
	_, p = m.fetch(m.fetchRequest(judged(0, 0, 1)))
	expect(t, "acknowledge again", p.AcknowledgeErrorCode, kerr.InvalidRecordState)
	if session, partition := n.acknowledge(1, 4, 1, 0, 1, 1); session != 0 || partition != kerr.InvalidRecordState.Code {
		t.Errorf("another member's record: %d, %d", session, partition)
	}
	if session, partition := n.acknowledge(1, 1, 3); session != 0 || partition != 0 {
		t.Errorf("%d, %d", session, partition)
	}
	// A session has epochs, and an end.
	if session, _ := (&sharer{wire: m.wire, topic: topic, member: "m", epoch: 77}).acknowledge(2, 2, 1); session != kerr.InvalidShareSessionEpoch.Code {
		t.Errorf("epoch 77: %d", session)
	}
	if session, _ := (&sharer{wire: m.wire, topic: topic, member: "x", epoch: 1}).acknowledge(2, 2, 1); session != kerr.ShareSessionNotFound.Code {
		t.Errorf("no session: %d", session)
	}
	if session, _ := (&sharer{wire: m.wire, topic: topic, member: "x"}).acknowledge(2, 2, 1); session != kerr.InvalidShareSessionEpoch.Code {
		t.Errorf("opened by an acknowledgement: %d", session)
	}
	opening := (&sharer{wire: m.wire, topic: topic, member: "x"}).fetchRequest(judged(2, 2, 1))
	expect(t, "acknowledge at once", ask[*kmsg.ShareFetchResponse](m.wire, opening).ErrorCode, kerr.InvalidRequest)
	m.epoch = -1
	if session, partition := m.acknowledge(2, 2, 2); session != 0 || partition != 0 {
		t.Errorf("the last acknowledgement: %d, %d", session, partition)
	}
	n.gets(n.fetchRequest(), "2-2:2")
	// The end of the connection is the end of the session.
	_ = n.nc.Close()
	o := &sharer{wire: d.dial(t), topic: topic, member: "o"}
	q = o.fetchRequest()
	q.MaxWaitMillis = 20_000
	var all []string
	for deadline := time.Now().Add(20 * time.Second); len(all) < 2 && time.Now().Before(deadline); q = o.fetchRequest() {
		got, _ := o.fetch(q)
		all = append(all, got...)
	}
	if !slices.Equal(all, []string{"2-2:3", "3-4:2"}) {
		t.Errorf("after the connection's end: %q", all)
	}
}

// TestShareFetchWaits: a member that waits gets what others produce.
func TestShareFetchWaits(t *testing.T) {
	d, topic := shared(t)
	m := &sharer{wire: d.dial(t), topic: topic, member: "m"}
	m.gets(m.fetchRequest())
	q := m.fetchRequest()
	q.MaxWaitMillis = 30_000
	m.send(q)
	ask[*kmsg.ProduceResponse](d.dial(t), produceTo(13, topic, 1, batchOf(t, record.None, "v")))
	r := kmsg.NewPtrShareFetchResponse()
	r.Version = 2
	if err := r.ReadFrom(m.frame()[5:]); err != nil || len(r.Topics) != 1 || len(r.Topics[0].Partitions[0].AcquiredRecords) != 1 || r.AcquisitionLockTimeoutMillis != 30_000 {
		t.Fatalf("%+v, %v", r, err)
	}
	// Renewals are announced, and nothing is fetched with them.
	_, p := m.fetch(m.fetchRequest(judged(0, 0, 4)))
	expect(t, "not announced", p.AcknowledgeErrorCode, kerr.InvalidRequest)
	q = m.fetchRequest(judged(0, 0, 4))
	q.IsRenewAck = true
	_, p = m.fetch(q)
	expect(t, "renew", p.AcknowledgeErrorCode, nil)
	// What is forgotten is not fetched.
	ask[*kmsg.ProduceResponse](d.dial(t), produceTo(13, topic, 1, batchOf(t, record.None, "w")))
	q = m.fetchRequest()
	q.Topics, q.ForgottenTopicsData = nil, []kmsg.ShareFetchRequestForgottenTopicsData{{TopicID: topic.ID, Partitions: []int32{0}}}
	m.gets(q)
	m.gets(m.fetchRequest(), "1-1:1")
	unknown := m.fetchRequest()
	unknown.Topics = []kmsg.ShareFetchRequestTopic{{TopicID: [16]byte{9}, Partitions: []kmsg.ShareFetchRequestTopicPartition{{}}}}
	if u := ask[*kmsg.ShareFetchResponse](m.wire, unknown); len(u.Topics) != 1 || u.Topics[0].Partitions[0].ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("%+v", u)
	}
}

func TestShareGroupOffsets(t *testing.T) {
	d, topic := shared(t, "0", "1", "2")
	m := &sharer{wire: d.dial(t), topic: topic, member: "m"}
	m.gets(m.fetchRequest(), "0-2:1")
	if _, partition := m.acknowledge(0, 0, 1); partition != 0 {
		t.Fatal(partition)
	}
	describe := func(topics ...kmsg.DescribeShareGroupOffsetsRequestGroupTopic) kmsg.DescribeShareGroupOffsetsResponseGroup {
		q := kmsg.NewPtrDescribeShareGroupOffsetsRequest()
		q.Version, q.Groups = 1, []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "g", Topics: topics}}
		return ask[*kmsg.DescribeShareGroupOffsetsResponse](m.wire, q).Groups[0]
	}
	at := func(what string, g kmsg.DescribeShareGroupOffsetsResponseGroup, start, lag int64) {
		t.Helper()
		if g.ErrorCode != 0 || len(g.Topics) != 1 || g.Topics[0].Topic != "a" || g.Topics[0].Partitions[0].StartOffset != start || g.Topics[0].Partitions[0].Lag != lag {
			t.Errorf("%s: %+v", what, g)
		}
	}
	at("all", describe(), 1, 2)
	at("named", describe(kmsg.DescribeShareGroupOffsetsRequestGroupTopic{Topic: "a", Partitions: []int32{0}}), 1, 2)
	g := describe(kmsg.DescribeShareGroupOffsetsRequestGroupTopic{Topic: "a", Partitions: []int32{7}}, kmsg.DescribeShareGroupOffsetsRequestGroupTopic{Topic: "none", Partitions: []int32{0}})
	for _, topic := range g.Topics {
		expect(t, topic.Topic, topic.Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	}

	alter := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	alter.GroupID, alter.Topics = "g", []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: "a", Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{StartOffset: 2}, {Partition: 7}, {StartOffset: -1}}}}
	remove := kmsg.NewPtrDeleteShareGroupOffsetsRequest()
	remove.GroupID, remove.Topics = "g", []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: "a"}, {Topic: "none"}}
	ask[*kmsg.ShareGroupHeartbeatResponse](m.wire, shares("g", "m", "a"))
	expect(t, "alter with members", ask[*kmsg.AlterShareGroupOffsetsResponse](m.wire, alter).ErrorCode, kerr.NonEmptyGroup)
	expect(t, "delete with members", ask[*kmsg.DeleteShareGroupOffsetsResponse](m.wire, remove).ErrorCode, kerr.NonEmptyGroup)
	ask[*kmsg.ShareGroupHeartbeatResponse](m.wire, &kmsg.ShareGroupHeartbeatRequest{Version: 1, GroupID: "g", MemberID: "m", MemberEpoch: -1})
	altered := ask[*kmsg.AlterShareGroupOffsetsResponse](m.wire, alter).Topics[0].Partitions
	expect(t, "alter", altered[0].ErrorCode, nil)
	expect(t, "alter no partition", altered[1].ErrorCode, kerr.UnknownTopicOrPartition)
	expect(t, "alter to -1", altered[2].ErrorCode, kerr.InvalidRequest)
	at("altered", describe(), 2, 1)
	m.gets(m.fetchRequest(), "2-2:1")
	removed := ask[*kmsg.DeleteShareGroupOffsetsResponse](m.wire, remove).Topics
	expect(t, "delete", removed[0].ErrorCode, nil)
	expect(t, "delete no topic", removed[1].ErrorCode, kerr.UnknownTopicOrPartition)
	expect(t, "describe", describe().ErrorCode, kerr.GroupIDNotFound)
	alter.Topics[0].Partitions = alter.Topics[0].Partitions[:1]
	alter.GroupID = "new" // it need not exist, but no other kind of group must have the name
	expect(t, "alter what is new", ask[*kmsg.AlterShareGroupOffsetsResponse](m.wire, alter).Topics[0].Partitions[0].ErrorCode, nil)
	if all, err := d.own.Shares.Offsets("new"); err != nil || len(all) != 1 || all[0].Start != 2 {
		t.Errorf("%+v, %v", all, err)
	}
	alter.GroupID = "readers"
	d.committed(t, "readers", topic)
	expect(t, "alter another kind of group", ask[*kmsg.AlterShareGroupOffsetsResponse](m.wire, alter).ErrorCode, kerr.GroupIDNotFound)
	expect(t, "delete the new one", ask[*kmsg.DeleteGroupsResponse](m.wire, &kmsg.DeleteGroupsRequest{Groups: []string{"new"}}).Groups[0].ErrorCode, nil)

	// A deleted topic is forgotten, and a group without members can be deleted.
	m.gets(m.fetchRequest(), "0-2:1")
	expect(t, "delete group", ask[*kmsg.DeleteGroupsResponse](m.wire, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}}).Groups[0].ErrorCode, nil)
	expect(t, "delete group again", ask[*kmsg.DeleteGroupsResponse](m.wire, &kmsg.DeleteGroupsRequest{Groups: []string{"g"}}).Groups[0].ErrorCode, kerr.GroupIDNotFound)
	m.gets(m.fetchRequest(), "0-2:1")
	if err := d.broker.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	if names, err := d.own.Shares.Groups(); err != nil || len(names) > 0 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestShareRights: the rights are Kafka's.
func TestShareRights(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	topic := d.newTopic(t, "a", 1, nil)
	ann := d.as(t, "ann")
	fetch := func() (int16, int16) {
		m := &sharer{wire: ann, topic: topic, member: "m"}
		r := ask[*kmsg.ShareFetchResponse](ann, m.fetchRequest())
		if len(r.Topics) == 0 {
			return r.ErrorCode, 0
		}
		return r.ErrorCode, r.Topics[0].Partitions[0].ErrorCode
	}
	beat := func() int16 { return ask[*kmsg.ShareGroupHeartbeatResponse](ann, shares("g", "m", "a")).ErrorCode }
	if group, _ := fetch(); group != kerr.GroupAuthorizationFailed.Code || beat() != group {
		t.Errorf("without rights: %d, %d", group, beat())
	}
	d.allow(t, auth.Group, "g", auth.Read)
	if group, partition := fetch(); group != 0 || partition != kerr.TopicAuthorizationFailed.Code || beat() != partition {
		t.Errorf("with a right to the group: %d, %d, %d", group, partition, beat())
	}
	describe := &kmsg.ShareGroupDescribeRequest{Version: 1, GroupIDs: []string{"h"}}
	expect(t, "describe", ask[*kmsg.ShareGroupDescribeResponse](ann, describe).Groups[0].ErrorCode, kerr.GroupAuthorizationFailed)
	remove := &kmsg.DeleteShareGroupOffsetsRequest{GroupID: "g"}
	expect(t, "delete", ask[*kmsg.DeleteShareGroupOffsetsResponse](ann, remove).ErrorCode, kerr.GroupAuthorizationFailed)
	d.allow(t, auth.Topic, "a", auth.Read)
	if group, partition := fetch(); group != 0 || partition != 0 || beat() != 0 {
		t.Errorf("with all rights: %d, %d, %d", group, partition, beat())
	}
}

// TestShareConsumer: franz-go's share consumer gets all records, those that it releases
// again, and no others.
func TestShareConsumer(t *testing.T) {
	d, topic := shared(t)
	for i := range 200 {
		ask[*kmsg.ProduceResponse](d.dial(t), produceTo(13, topic, 1, batchOf(t, record.None, fmt.Sprint(i))))
	}
	results := make(chan error, 1000)
	ctx := within30s(t)
	deliveries := make(map[int64]int32)
	judge := func(r *kgo.Record) {
		// The client also releases what it has and nobody has polled.
		if deliveries[r.Offset]++; deliveries[r.Offset] > r.DeliveryCount() {
			t.Fatalf("delivery %d of record %d has count %d", deliveries[r.Offset], r.Offset, r.DeliveryCount())
		}
		if r.Offset%10 == 0 && deliveries[r.Offset] == 1 {
			r.Ack(kgo.AckRelease)
		} else {
			r.Ack(kgo.AckAccept)
		}
	}
	for _, cl := range []*kgo.Client{d.shareClient(t, results), d.shareClient(t, results)} {
		for range 100 / 2 {
			f := cl.PollRecords(ctx, 2)
			for _, r := range f.Records() {
				judge(r)
			}
		}
		if err := cl.FlushAcks(ctx); err != nil {
			t.Fatal(err)
		}
		cl.Close()
	}
	cl := d.shareClient(t, results)
	done := func() bool {
		all, err := d.own.Shares.Offsets("g")
		return err == nil && len(all) == 1 && all[0].Lag == 0
	}
	for !done() {
		f := cl.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatal("records are left")
		}
		for _, r := range f.Records() {
			judge(r)
		}
		if err := cl.FlushAcks(ctx); err != nil {
			t.Fatal(err)
		}
	}
	close(results)
	for err := range results {
		if err != nil {
			t.Error(err)
		}
	}
	for i := range int64(200) {
		if n := deliveries[i]; n == 0 || i%10 == 0 && n < 2 {
			t.Errorf("record %d was delivered %d times", i, n)
		}
	}
}

func (d *door) shareClient(t *testing.T, results chan<- error) *kgo.Client {
	return d.client(t, kgo.ShareGroup("g"), kgo.ConsumeTopics("a"), kgo.FetchMaxWait(100*time.Millisecond), kgo.ShareMaxRecords(20), kgo.ShareMaxRecordsStrict(),
		kgo.ShareAckCallback(func(_ *kgo.Client, rs kgo.ShareAckResults) { results <- rs.Error() }))
}

// TestShareStandby: a node that does not serve the partition names the one that does.
func TestShareStandby(t *testing.T) {
	owner := broker.Node{ID: 1, Name: "other"}
	d := standby(t, &owner)
	m := &sharer{wire: d.dial(t), member: "m"}
	r := ask[*kmsg.ShareFetchResponse](m.wire, m.fetchRequest())
	if r.ErrorCode != 0 || len(r.Topics) != 1 || r.Topics[0].Partitions[0].ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Errorf("%+v", r)
	}
	expect(t, "heartbeat", ask[*kmsg.ShareGroupHeartbeatResponse](m.wire, shares("g", "m", "a")).ErrorCode, kerr.NotCoordinator)
}

// shareExamples are sensible requests of share groups; see examples.
func shareExamples(topic broker.Topic) []kmsg.Request {
	x := &sharer{topic: topic, member: "m"}
	opens := x.fetchRequest()
	acknowledge := kmsg.NewPtrShareAcknowledgeRequest()
	acknowledge.GroupID, acknowledge.MemberID, acknowledge.ShareSessionEpoch = opens.GroupID, opens.MemberID, 1
	acknowledge.Topics = []kmsg.ShareAcknowledgeRequestTopic{{TopicID: topic.ID, Partitions: []kmsg.ShareAcknowledgeRequestTopicPartition{{
		AcknowledgementBatches: []kmsg.ShareAcknowledgeRequestTopicPartitionAcknowledgementBatch{{LastOffset: 1, AcknowledgeTypes: []int8{1, 2}}}}}}}
	alter := kmsg.NewPtrAlterShareGroupOffsetsRequest()
	alter.GroupID, alter.Topics = "shared", []kmsg.AlterShareGroupOffsetsRequestTopic{{Topic: topic.Name, Partitions: []kmsg.AlterShareGroupOffsetsRequestTopicPartition{{}}}}
	return []kmsg.Request{
		shares("shared", "m", topic.Name), &kmsg.ShareGroupDescribeRequest{GroupIDs: []string{"shared", ""}, IncludeAuthorizedOperations: true},
		opens, acknowledge, alter, &kmsg.DeleteShareGroupOffsetsRequest{GroupID: "shared", Topics: []kmsg.DeleteShareGroupOffsetsRequestTopic{{Topic: topic.Name}}},
		&kmsg.DescribeShareGroupOffsetsRequest{Groups: []kmsg.DescribeShareGroupOffsetsRequestGroup{{GroupID: "shared"}, {GroupID: "g", Topics: []kmsg.DescribeShareGroupOffsetsRequestGroupTopic{{Topic: topic.Name, Partitions: []int32{0}}}}}},
	}
}
