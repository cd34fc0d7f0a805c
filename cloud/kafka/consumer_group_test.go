package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
)

// consumes is the heartbeat with which a member joins a consumer group.
func consumes(name, member string, topics ...string) *kmsg.ConsumerGroupHeartbeatRequest {
	q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	q.Version, q.Group, q.MemberID, q.RebalanceTimeoutMillis = 1, name, member, 60_000
	q.SubscribedTopicNames = append([]string{}, topics...)
	q.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	return q
}

func (w *wire) beats(q *kmsg.ConsumerGroupHeartbeatRequest, want *kerr.Error) *kmsg.ConsumerGroupHeartbeatResponse {
	w.t.Helper()
	r := ask[*kmsg.ConsumerGroupHeartbeatResponse](w, q)
	if expect(w.t, fmt.Sprintf("heartbeat %+v", q), r.ErrorCode, want); want != nil && r.ErrorMessage == nil {
		w.t.Errorf("%v without a message", want)
	}
	return r
}

func TestConsumerGroupHeartbeat(t *testing.T) {
	d := open(t, setup{})
	a := d.newTopic(t, "a", 3, nil)
	w := d.dial(t)
	r := w.beats(consumes("g", "m", "a"), nil)
	if text(r.MemberID) != "m" || r.MemberEpoch != 1 || r.HeartbeatIntervalMillis != 5000 || r.Assignment == nil ||
		len(r.Assignment.Topics) != 1 || r.Assignment.Topics[0].TopicID != a.ID || !slices.Equal(r.Assignment.Topics[0].Partitions, []int32{0, 1, 2}) {
		t.Fatalf("joined: %+v", r)
	}
	lives := func(epoch int32) *kmsg.ConsumerGroupHeartbeatRequest {
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Version, q.Group, q.MemberID, q.MemberEpoch = 1, "g", "m", epoch
		return q
	}
	if r := w.beats(lives(1), nil); r.Assignment != nil {
		t.Errorf("told again what it knows: %+v", r.Assignment)
	}
	w.beats(lives(7), kerr.FencedMemberEpoch)
	w.beats(lives(-3), kerr.InvalidRequest)
	w.beats(lives(-2), kerr.InvalidRequest)
	for _, c := range []struct {
		change func(q *kmsg.ConsumerGroupHeartbeatRequest)
		want   *kerr.Error
	}{
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group = "" }, kerr.InvalidRequest},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberID = "" }, kerr.InvalidRequest},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.InstanceID = kmsg.StringPtr("") }, kerr.InvalidRequest},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.RackID = kmsg.StringPtr("") }, kerr.InvalidRequest},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicNames = nil }, kerr.InvalidRequest},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Topics = nil }, kerr.InvalidRequest},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.ServerAssignor = kmsg.StringPtr("best") }, kerr.UnsupportedAssignor},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.SubscribedTopicRegex = kmsg.StringPtr("(") }, kerr.InvalidRegularExpression},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.MemberEpoch = 3 }, kerr.UnknownMemberID},
		{func(q *kmsg.ConsumerGroupHeartbeatRequest) { q.Group, q.MemberEpoch = "unknown", 3 }, kerr.UnknownMemberID},
	} {
		q := consumes("g", "other", "a")
		c.change(q)
		w.beats(q, c.want)
	}
	// The coordinator makes ids in v0.
	q := consumes("zero", "", "a")
	q.Version = 0
	if r := w.beats(q, nil); text(r.MemberID) == "" {
		t.Error("no member id")
	}
	// Static members.
	q = consumes("static", "s1", "a")
	q.InstanceID = kmsg.StringPtr("i")
	w.beats(q, nil)
	q.MemberID = "s2"
	w.beats(q, kerr.UnreleasedInstanceID)
	q.MemberEpoch = 1
	w.beats(q, kerr.FencedInstanceID)
	if r := w.beats(lives(-1), nil); r.MemberEpoch != -1 {
		t.Errorf("left: %+v", r)
	}
}

// A member may know of what it may describe, and no more.
func TestConsumerGroupRights(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	a := d.newTopic(t, "a", 1, nil)
	d.newTopic(t, "hidden", 1, nil)
	ann, root := d.as(t, "ann"), d.as(t, "root")
	ann.beats(consumes("g", "m", "a"), kerr.GroupAuthorizationFailed)
	d.allow(t, auth.Group, "g", auth.Read, auth.Describe)
	ann.beats(consumes("g", "m", "a"), kerr.TopicAuthorizationFailed)
	d.allow(t, auth.Topic, "a", auth.Describe)
	ann.beats(consumes("g", "m", "a", "hidden"), kerr.TopicAuthorizationFailed)
	q := consumes("g", "m")
	q.SubscribedTopicRegex = kmsg.StringPtr(".*")
	if r := ann.beats(q, nil); len(r.Assignment.Topics) != 1 || r.Assignment.Topics[0].TopicID != a.ID {
		t.Errorf("assigned %+v", r.Assignment)
	}
	describe := &kmsg.ConsumerGroupDescribeRequest{Version: 1, Groups: []string{"g"}}
	if g := ask[*kmsg.ConsumerGroupDescribeResponse](ann, describe).Groups[0]; g.ErrorCode != 0 || len(g.Members) != 1 {
		t.Errorf("%+v", g)
	}
	root.beats(consumes("g", "r", "hidden"), nil)
	if g := ask[*kmsg.ConsumerGroupDescribeResponse](ann, describe).Groups[0]; g.ErrorCode != kerr.TopicAuthorizationFailed.Code || len(g.Members) != 0 || g.State != "" {
		t.Errorf("%+v", g)
	}
}

func TestConsumerGroupDescribe(t *testing.T) {
	d := open(t, setup{})
	a := d.newTopic(t, "a", 2, nil)
	d.member(t, "classic", "consumer", subscribe("a"))
	w := d.dial(t)
	q := consumes("g", "m", "a")
	q.SubscribedTopicRegex, q.RackID, q.InstanceID = kmsg.StringPtr("x.*"), kmsg.StringPtr("rack"), kmsg.StringPtr("i")
	w.beats(q, nil)
	w.beats(consumes("classic", "m", "a"), kerr.GroupIDNotFound)

	described := ask[*kmsg.ConsumerGroupDescribeResponse](w, &kmsg.ConsumerGroupDescribeRequest{Version: 1, Groups: []string{"g", "classic", "nobody", ""}, IncludeAuthorizedOperations: true})
	for i, want := range []*kerr.Error{nil, kerr.GroupIDNotFound, kerr.GroupIDNotFound, kerr.InvalidGroupID} {
		expect(t, "describe "+described.Groups[i].Group, described.Groups[i].ErrorCode, want)
	}
	g := described.Groups[0]
	if g.State != "Stable" || g.Epoch != 1 || g.AssignmentEpoch != 1 || g.AssignorName != "uniform" || len(g.Members) != 1 || g.AuthorizedOperations <= 0 {
		t.Fatalf("%+v", g)
	}
	m := g.Members[0]
	if m.MemberID != "m" || text(m.InstanceID) != "i" || text(m.RackID) != "rack" || m.MemberEpoch != 1 || m.ClientID != "wire" || m.ClientHost == "" || m.MemberType != 1 ||
		text(m.SubscribedTopicRegex) != "x.*" || !slices.Equal(m.SubscribedTopics, []string{"a"}) {
		t.Errorf("%+v", m)
	}
	for _, as := range []kmsg.Assignment{m.Assignment, m.TargetAssignment} {
		if len(as.TopicPartitions) != 1 || as.TopicPartitions[0].Topic != "a" || as.TopicPartitions[0].TopicID != a.ID || !slices.Equal(as.TopicPartitions[0].Partitions, []int32{0, 1}) {
			t.Errorf("assigned %+v", as)
		}
	}
}

// What the other operations on groups say of a consumer group.
func TestConsumerGroupElsewhere(t *testing.T) {
	d := open(t, setup{})
	a, b := d.newTopic(t, "a", 2, nil), d.newTopic(t, "b", 2, nil)
	w := d.dial(t)
	q := consumes("g", "m", "a")
	q.InstanceID = kmsg.StringPtr("i")
	w.beats(q, nil)
	if g := ask[*kmsg.DescribeGroupsResponse](w, &kmsg.DescribeGroupsRequest{Version: 6, Groups: []string{"g"}}).Groups[0]; g.ErrorCode != kerr.GroupIDNotFound.Code || g.State != "Dead" || g.ErrorMessage == nil {
		t.Errorf("%+v", g)
	}
	list := ask[*kmsg.ListGroupsResponse](w, &kmsg.ListGroupsRequest{Version: 5, TypesFilter: []string{"Consumer"}})
	if len(list.Groups) != 1 || list.Groups[0].Group != "g" || list.Groups[0].GroupType != "consumer" || list.Groups[0].ProtocolType != "consumer" {
		t.Errorf("%+v", list.Groups)
	}
	join := &kmsg.JoinGroupRequest{Version: 5, Group: "g", SessionTimeoutMillis: 30_000, RebalanceTimeoutMillis: 30_000, ProtocolType: "consumer",
		Protocols: []kmsg.JoinGroupRequestProtocol{{Name: "range", Metadata: subscribe("a")}}}
	expect(t, "join", ask[*kmsg.JoinGroupResponse](w, join).ErrorCode, kerr.InconsistentGroupProtocol)
	expect(t, "heartbeat", ask[*kmsg.HeartbeatResponse](w, &kmsg.HeartbeatRequest{Version: 4, Group: "g", Generation: 1, MemberID: "m"}).ErrorCode, kerr.UnknownMemberID)

	commit := func(version int16, member string, epoch int32) int16 {
		c := &kmsg.OffsetCommitRequest{Version: version, Group: "g", MemberID: member, Generation: epoch}
		for _, topic := range []broker.Topic{a, b} {
			c.Topics = append(c.Topics, kmsg.OffsetCommitRequestTopic{Topic: topic.Name, TopicID: topic.ID, Partitions: []kmsg.OffsetCommitRequestTopicPartition{{Offset: 5, LeaderEpoch: -1}}})
		}
		return ask[*kmsg.OffsetCommitResponse](w, c).Topics[0].Partitions[0].ErrorCode
	}
	expect(t, "commit", commit(9, "m", 1), nil)
	expect(t, "stale commit", commit(9, "m", 2), kerr.StaleMemberEpoch)
	expect(t, "stale commit of an old client", commit(8, "m", 2), kerr.IllegalGeneration)
	expect(t, "commit of nobody", commit(9, "x", 1), kerr.UnknownMemberID)
	for _, c := range []struct {
		member *string
		epoch  int32
		want   *kerr.Error
	}{{nil, -1, nil}, {kmsg.StringPtr("m"), 1, nil}, {kmsg.StringPtr("m"), 2, kerr.StaleMemberEpoch}, {kmsg.StringPtr("x"), 1, kerr.UnknownMemberID}} {
		r := ask[*kmsg.OffsetFetchResponse](w, &kmsg.OffsetFetchRequest{Version: 9, Groups: []kmsg.OffsetFetchRequestGroup{{Group: "g", MemberID: c.member, MemberEpoch: c.epoch}}})
		expect(t, "fetch offsets", r.Groups[0].ErrorCode, c.want)
	}
	forget := &kmsg.OffsetDeleteRequest{Group: "g", Topics: []kmsg.OffsetDeleteRequestTopic{
		{Topic: "a", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}, {Topic: "b", Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{}}}}}
	r := ask[*kmsg.OffsetDeleteResponse](w, forget)
	expect(t, "forget a", r.Topics[0].Partitions[0].ErrorCode, kerr.GroupSubscribedToTopic)
	expect(t, "forget b", r.Topics[1].Partitions[0].ErrorCode, nil)
	expect(t, "delete", ask[*kmsg.DeleteGroupsResponse](w, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"g"}}).Groups[0].ErrorCode, kerr.NonEmptyGroup)
	leave := &kmsg.LeaveGroupRequest{Version: 5, Group: "g", Members: []kmsg.LeaveGroupRequestMember{{InstanceID: kmsg.StringPtr("i")}}}
	expect(t, "remove a static member", ask[*kmsg.LeaveGroupResponse](w, leave).Members[0].ErrorCode, nil)
	expect(t, "delete", ask[*kmsg.DeleteGroupsResponse](w, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"g"}}).Groups[0].ErrorCode, nil)
}

// sightings are the values that the members of a group have read.
type sightings struct {
	mu   sync.Mutex
	seen map[string]bool
	n    int
	all  chan struct{} // closed when n are seen
}

// consume is a member of group g that commits what it reads; it leaves when the
// function is called.
func (s *sightings) consume(ctx context.Context, t *testing.T, d *door, opts ...kgo.Opt) func() {
	cl := d.client(t, append(opts, kgo.ConsumerGroup("g"), kgo.ServerSideBalancer(), kgo.Balancers(kgo.StickyBalancer()),
		kgo.FetchMaxWait(100*time.Millisecond), kgo.BlockRebalanceOnPoll())...)
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		for ctx.Err() == nil {
			f := cl.PollRecords(ctx, 100)
			s.mu.Lock()
			before := len(s.seen)
			f.EachRecord(func(r *kgo.Record) { s.seen[string(r.Value)] = true })
			if before < s.n && len(s.seen) == s.n {
				close(s.all)
			}
			s.mu.Unlock()
			if err := cl.CommitUncommittedOffsets(context.WithoutCancel(ctx)); err != nil && ctx.Err() == nil {
				t.Errorf("commit: %v", err)
			}
			cl.AllowRebalance()
		}
		cl.CloseAllowingRebalance()
	})
	return func() { cancel(); wg.Wait() }
}

// franz-go's members of a consumer group come and go while records come; together
// they read all of them, and what they commit is found again.
func TestConsumerGroup(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{pulse: 100 * time.Millisecond})
	d.topic(t, "readings", 6)
	const n = 600
	produce := func(from, to int) {
		cl := d.client(t, kgo.DefaultProduceTopic("readings"))
		for i := from; i < to; i++ {
			cl.Produce(ctx, kgo.KeyStringRecord(strconv.Itoa(i), strconv.Itoa(i)), nil)
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	s := &sightings{seen: map[string]bool{}, n: n, all: make(chan struct{})}
	produce(0, 200)
	stopA := s.consume(ctx, t, d, kgo.ConsumeTopics("readings"))
	stopB := s.consume(ctx, t, d, kgo.ConsumeTopics("^read.*"), kgo.ConsumeRegex())
	produce(200, 400)
	eventually(t, func() bool {
		c, err := d.own.Groups.DescribeConsumer("g")
		return err == nil && c.State == "Stable" && len(c.Details) == 2 && len(c.Details[0].Assigned) == 3 && len(c.Details[1].Assigned) == 3
	})
	stopA()
	produce(400, n)
	select {
	case <-s.all:
	case <-ctx.Done():
		t.Fatalf("of %d records not all were read", n)
	}
	stopB()
	committed, err := kadm.NewClient(d.client(t)).FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	var sum int64
	committed.Each(func(o kadm.OffsetResponse) { sum += o.At })
	if sum != n {
		t.Errorf("committed offsets add up to %d, want %d", sum, n)
	}
	if c, err := d.own.Groups.DescribeConsumer("g"); err != nil || c.State != "Empty" {
		t.Errorf("%+v, %v", c.Listing, err)
	}
}
