package kafka

import (
	"context"
	"errors"
	"net"
	"reflect"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/access"
	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/cloud/settings"
	"github.com/weirmq/weir/storage/record"
)

// standing is a node that stands by for d, as its door asks d. Its copy is made anew
// when the door asks for that.
type standing struct {
	t      testing.TB
	owner  *door
	broker *broker.Broker
	frozen atomic.Bool  // the copy stays as it is
	asked  atomic.Int32 // of the owner, for clients
}

func (s *standing) CreateTopic(ctx context.Context, who auth.Who, name string) (broker.Topic, int16, error) {
	s.asked.Add(1)
	t, code := s.owner.CreateTopic(ctx, who, name)
	return t, code, nil
}

func (s *standing) NewProducerID(ctx context.Context, who auth.Who) (int64, int16, error) {
	s.asked.Add(1)
	id, code := s.owner.NewProducerID(ctx, who)
	return id, code, nil
}

func (s *standing) Refresh(context.Context) {
	if !s.frozen.Load() {
		s.copy()
	}
}

// copy makes the copy anew.
func (s *standing) copy() {
	topics, err := s.owner.broker.Topics()
	if err != nil {
		s.t.Error(err)
	}
	c := &broker.Copy{Owner: "a", Tag: "x", Epoch: s.owner.own.Log.Epoch(), Asked: time.Now(), Quotas: quota.New(quota.Options{})}
	c.SetTopics(topics)
	if c.Users, err = auth.Copied(s.owner.own.Users.Copy(), auth.Options{SuperUsers: []string{"User:root"}}); err != nil {
		s.t.Error(err)
	}
	if err := c.Quotas.Follow(s.owner.own.Quotas.Copy()); err != nil {
		s.t.Error(err)
	}
	if c.Settings, err = settings.Copied(s.owner.own.Settings.Copy()); err != nil {
		s.t.Error(err)
	}
	_, c.Offsets = s.owner.broker.InternalTopic()
	s.broker.SetCopy(c)
}

// standsBy opens the door of a node that stands by for d, with a copy.
func (d *door) standsBy(t testing.TB, o Options) (*door, *standing) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := broker.New(broker.Options{Self: broker.Node{ID: 8, Name: "b", Addresses: cluster.Addresses{cluster.Kafka: {"": l.Addr().String()}}}})
	b.Follow(0, d.broker.Self(), "cluster")
	s := &standing{t: t, owner: d, broker: b}
	s.copy()
	if o.Owner == nil {
		o.Owner = &Owner{CreateTopic: s.CreateTopic, NewProducerID: s.NewProducerID, Refresh: s.Refresh}
	}
	if o.LoginPause = time.Nanosecond; len(d.o.Listeners[0].SASL) > 0 {
		o.Listeners = []Listener{{SASL: d.o.Listeners[0].SASL}}
	}
	o.Penalties = budget.NewPenalties(budget.PenaltiesOptions{First: time.Nanosecond, Longest: time.Nanosecond})
	other := serve(t, o, access.Options{}, l, b)
	t.Cleanup(func() { _ = other.Close() })
	return other, s
}

func names(topics []kmsg.MetadataResponseTopic) []string {
	all := []string{}
	for _, t := range topics {
		all = append(all, *t.Topic)
	}
	return all
}

func metadataFor(create bool, names ...string) *kmsg.MetadataRequest {
	q := kmsg.NewPtrMetadataRequest()
	q.Version, q.AllowAutoTopicCreation = 12, create
	for _, name := range names {
		q.Topics = append(q.Topics, kmsg.MetadataRequestTopic{Topic: kmsg.StringPtr(name)})
	}
	return q
}

// TestCopyAnswers: with a copy a standby answers as the owner does, and names it.
func TestCopyAnswers(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 3, map[string]string{"cleanup.policy": "compact"})
	s, _ := d.standsBy(t, Options{})
	here, there := s.dial(t), d.dial(t)
	byID := kmsg.NewPtrMetadataRequest()
	byID.Version, byID.Topics = 12, []kmsg.MetadataRequestTopic{{TopicID: topic.ID}}
	unknownID := kmsg.NewPtrMetadataRequest()
	unknownID.Version, unknownID.Topics = 12, []kmsg.MetadataRequestTopic{{TopicID: [16]byte{9}}}
	for what, q := range map[string]*kmsg.MetadataRequest{
		"all": metadataFor(false), "one": metadataFor(false, "a"), "unknown": metadataFor(false, "x"), "by id": byID, "unknown id": unknownID, "invalid": metadataFor(true, "?"),
	} {
		got, want := ask[*kmsg.MetadataResponse](here, q), ask[*kmsg.MetadataResponse](there, q)
		if got.ClusterID, want.ClusterID = nil, nil; !reflect.DeepEqual(got, want) {
			t.Errorf("metadata of %s: %+v, the owner says %+v", what, got, want)
		}
	}
	configs := &kmsg.DescribeConfigsRequest{Version: 4, Resources: []kmsg.DescribeConfigsRequestResource{
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "a"}, {ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "x"}}}
	if got, want := ask[*kmsg.DescribeConfigsResponse](here, configs), ask[*kmsg.DescribeConfigsResponse](there, configs); !reflect.DeepEqual(got, want) {
		t.Errorf("settings: %+v, the owner says %+v", got, want)
	}
	list := &kmsg.ListConfigResourcesRequest{Version: 1}
	if got, want := ask[*kmsg.ListConfigResourcesResponse](here, list), ask[*kmsg.ListConfigResourcesResponse](there, list); !reflect.DeepEqual(got, want) {
		t.Errorf("config resources: %+v, the owner says %+v", got, want)
	}
	if c := ask[*kmsg.FindCoordinatorResponse](here, &kmsg.FindCoordinatorRequest{Version: 3, CoordinatorKey: "g"}); c.NodeID != 7 || c.ErrorCode != 0 {
		t.Errorf("coordinator: %+v", c)
	}
	for what, c := range map[string]struct {
		got  int16
		want *kerr.Error
	}{
		"produce": {ask[*kmsg.ProduceResponse](here, produceTo(13, topic, -1, batchOf(t, record.None, "x"))).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition},
		"fetch":   {ask[*kmsg.FetchResponse](here, fetchFrom(12, topic, 0)).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition},
		"join":    {ask[*kmsg.JoinGroupResponse](here, &kmsg.JoinGroupRequest{Version: 4, Group: "g"}).ErrorCode, kerr.NotCoordinator},
		"create":  {ask[*kmsg.CreateTopicsResponse](here, &kmsg.CreateTopicsRequest{Version: 4, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "b", NumPartitions: 1, ReplicationFactor: 1}}}).Topics[0].ErrorCode, kerr.NotController},
		"alter": {ask[*kmsg.IncrementalAlterConfigsResponse](here, &kmsg.IncrementalAlterConfigsRequest{Version: 1, ValidateOnly: true, Resources: []kmsg.IncrementalAlterConfigsRequestResource{
			{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "a"}}}).Resources[0].ErrorCode, kerr.NotController},
		"quotas": {ask[*kmsg.AlterClientQuotasResponse](here, &kmsg.AlterClientQuotasRequest{Version: 1, Entries: []kmsg.AlterClientQuotasRequestEntry{{
			Entity: []kmsg.AlterClientQuotasRequestEntryEntity{{Type: "user", Name: kmsg.StringPtr("ann")}}, Ops: []kmsg.AlterClientQuotasRequestEntryOp{{Key: "producer_byte_rate", Value: 1}}}}}).Entries[0].ErrorCode, kerr.NotController},
	} {
		expect(t, what, c.got, c.want)
	}
}

// TestCopyOfLastMoment: what the owner got just now is asked for, once, before it is
// said not to be there; a copy that is too old is no copy.
func TestCopyOfLastMoment(t *testing.T) {
	d := open(t, setup{})
	s, standing := d.standsBy(t, Options{})
	w := s.dial(t)
	d.newTopic(t, "new", 1, nil)
	if r := ask[*kmsg.MetadataResponse](w, metadataFor(false, "new", "x")); r.Topics[0].ErrorCode != 0 || r.Topics[1].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("%+v", r.Topics)
	}
	standing.frozen.Store(true)
	old := *standing.broker.LastCopy()
	old.Asked = time.Now().Add(-broker.MaxCopyAge - time.Second)
	standing.broker.SetCopy(&old)
	if r := ask[*kmsg.MetadataResponse](w, metadataFor(false, "new")); r.Topics[0].ErrorCode != kerr.LeaderNotAvailable.Code || len(r.Topics[0].Partitions) > 0 {
		t.Errorf("an old copy: %+v", r.Topics)
	}
	if r := ask[*kmsg.InitProducerIDResponse](w, &kmsg.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1}); r.ErrorCode != kerr.CoordinatorLoadInProgress.Code {
		t.Errorf("%+v", r)
	}
	if all := ask[*kmsg.MetadataResponse](w, metadataFor(false)); len(all.Topics) != 0 {
		t.Errorf("an old copy names %v", names(all.Topics))
	}
}

// TestOwnerUnknown: while there is no leader, topics stay, without a leader.
func TestOwnerUnknown(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "a", 2, nil)
	s, standing := d.standsBy(t, Options{})
	standing.broker.Follow(0, broker.Node{}, "cluster")
	r := ask[*kmsg.MetadataResponse](s.dial(t), metadataFor(false, "a"))
	if len(r.Brokers) != 0 || len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 2 || r.Topics[0].Partitions[0].ErrorCode != kerr.LeaderNotAvailable.Code || r.Topics[0].Partitions[0].Leader != none {
		t.Errorf("%+v", r)
	}
}

// TestAskedOfOwner: the owner gives producer ids and creates topics that a client of a
// standby names, by its own rules.
func TestAskedOfOwner(t *testing.T) {
	d := open(t, setup{})
	s, standing := d.standsBy(t, Options{})
	w := s.dial(t)
	r := ask[*kmsg.MetadataResponse](w, metadataFor(true, "made"))
	if r.Topics[0].ErrorCode != 0 || len(r.Topics[0].Partitions) != 4 || r.Topics[0].Partitions[0].Leader != 7 {
		t.Errorf("%+v", r.Topics)
	}
	if topic, err := d.broker.Topic("made"); err != nil || topic.ID != r.Topics[0].TopicID {
		t.Errorf("%+v, %v", topic, err)
	}
	standing.frozen.Store(true) // the copy does not have it
	if again := ask[*kmsg.MetadataResponse](w, metadataFor(true, "made")); again.Topics[0].ErrorCode != 0 || again.Topics[0].TopicID != r.Topics[0].TopicID {
		t.Errorf("once more: %+v", again.Topics)
	}
	ids := make(map[int64]bool)
	for range 3 {
		r := ask[*kmsg.InitProducerIDResponse](w, &kmsg.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1})
		if r.ErrorCode != 0 || r.ProducerEpoch != 0 || ids[r.ProducerID] {
			t.Errorf("%+v", r)
		}
		ids[r.ProducerID] = true
	}
	if r := ask[*kmsg.InitProducerIDResponse](w, &kmsg.InitProducerIDRequest{Version: 4, TransactionalID: kmsg.StringPtr("t"), TransactionTimeoutMillis: 1000, ProducerID: -1, ProducerEpoch: -1}); r.ErrorCode != kerr.NotCoordinator.Code {
		t.Errorf("transactional: %+v", r)
	}
	manual := open(t, setup{manual: true})
	s, _ = manual.standsBy(t, Options{})
	if r := ask[*kmsg.MetadataResponse](s.dial(t), metadataFor(true, "made")); r.Topics[0].ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("the owner creates none: %+v", r.Topics)
	}
}

// TestCopyJudges: with a copy a standby lets users in and shows each what he may see,
// and the owner judges what is asked of it. Without one it shows nothing.
func TestCopyJudges(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain, ScramSHA256)
	for _, name := range []string{"ann-1", "bob-1"} {
		d.newTopic(t, name, 1, nil)
	}
	allow := func(op auth.Operation, typ auth.ResourceType, pattern auth.PatternType, name string) {
		acl := auth.ACL{Resource: auth.Resource{Type: typ, Pattern: pattern, Name: name}, Rule: auth.Rule{Principal: "User:ann", Host: auth.Any, Operation: op, Permission: auth.Allow}}
		if err := d.own.Users.AddACLs(t.Context(), acl); err != nil {
			t.Fatal(err)
		}
	}
	allow(auth.Write, auth.Topic, auth.Prefixed, "ann-")
	s, standing := d.standsBy(t, Options{Access: authorized()})
	w := s.as(t, "ann")
	if got := names(ask[*kmsg.MetadataResponse](w, metadataFor(false)).Topics); !reflect.DeepEqual(got, []string{"ann-1"}) {
		t.Errorf("ann sees %q", got)
	}
	r := ask[*kmsg.MetadataResponse](w, metadataFor(true, "bob-1", "bob-2", "ann-2"))
	for i, topic := range r.Topics {
		if topic.ErrorCode != kerr.TopicAuthorizationFailed.Code {
			t.Errorf("%d: %+v", i, topic)
		}
	}
	if standing.asked.Load() != 0 {
		t.Error("the owner is asked for what ann may not")
	}
	allow(auth.Create, auth.Topic, auth.Prefixed, "ann-")
	standing.copy()
	if r := ask[*kmsg.MetadataResponse](w, metadataFor(true, "ann-2")); r.Topics[0].ErrorCode != 0 {
		t.Errorf("%+v", r.Topics)
	}
	standing.frozen.Store(true)
	if _, err := d.own.Users.RemoveACLs(t.Context(), auth.Filter{Operation: auth.Create}); err != nil {
		t.Fatal(err)
	}
	if r := ask[*kmsg.MetadataResponse](w, metadataFor(true, "ann-3")); r.Topics[0].ErrorCode != kerr.TopicAuthorizationFailed.Code {
		t.Errorf("by rights that she had: %+v", r.Topics)
	}
	if r := ask[*kmsg.ProduceResponse](w, produceTo(9, broker.Topic{Name: "bob-1"}, -1, batchOf(t, record.None, "x"))); r.Topics[0].Partitions[0].ErrorCode != kerr.TopicAuthorizationFailed.Code {
		t.Errorf("%+v", r)
	}
	if r := ask[*kmsg.ProduceResponse](w, produceTo(9, broker.Topic{Name: "ann-1"}, -1, batchOf(t, record.None, "x"))); r.Topics[0].Partitions[0].ErrorCode != kerr.NotLeaderForPartition.Code {
		t.Errorf("%+v", r)
	}
	if r := ask[*kmsg.InitProducerIDResponse](s.as(t, "nobody"), &kmsg.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1}); r.ErrorCode != kerr.ClusterAuthorizationFailed.Code {
		t.Errorf("%+v", r)
	}
	if err := s.client(t, kgo.SASL(loginAs("ann", "ann's secret")[ScramSHA256])).Ping(within30s(t)); err != nil {
		t.Errorf("by SCRAM: %v", err)
	}
	if r := s.dial(t).login("ann", "other"); r.ErrorCode != kerr.SaslAuthenticationFailed.Code {
		t.Errorf("by another password: %+v", r)
	}
	standing.broker.SetCopy(nil)
	if r := ask[*kmsg.MetadataResponse](w, metadataFor(true)); len(r.Topics) != 0 {
		t.Errorf("without a copy ann sees %v", names(r.Topics))
	}
	if r := ask[*kmsg.MetadataResponse](w, metadataFor(true, "ann-1", "bob-1")); r.Topics[0].ErrorCode != kerr.LeaderNotAvailable.Code || r.Topics[1].ErrorCode != kerr.LeaderNotAvailable.Code {
		t.Errorf("without a copy: %+v", r.Topics)
	}
	if c := ask[*kmsg.FindCoordinatorResponse](w, &kmsg.FindCoordinatorRequest{Version: 3, CoordinatorKey: "g"}); c.NodeID != 7 {
		t.Errorf("without a copy: %+v", c)
	}
	w.send(produceTo(9, broker.Topic{Name: "ann-1"}, -1, batchOf(t, record.None, "x")))
	w.closed()
}

// TestCopyForAdministrators: a client that may describe users, ACLs and quotas gets
// those of the copy; changes are for the owner.
func TestCopyForAdministrators(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	if err := d.own.Quotas.Set(t.Context(), quota.Entity{User: "ann"}, func(l *quota.Limits) { l.Produce = 10 }, false); err != nil {
		t.Fatal(err)
	}
	s, _ := d.standsBy(t, Options{Access: authorized()})
	here, there := s.as(t, "root"), d.as(t, "root")
	for _, q := range []kmsg.Request{
		&kmsg.DescribeUserSCRAMCredentialsRequest{}, &kmsg.DescribeClientQuotasRequest{Version: 1},
		&kmsg.DescribeACLsRequest{Version: 3, ResourceType: 1, ResourcePatternType: 1, Operation: 1, PermissionType: 1},
		&kmsg.DescribeClusterRequest{Version: 2, EndpointType: 1, IncludeClusterAuthorizedOperations: true},
	} {
		got, want := here.asks(q), there.asks(q)
		if !reflect.DeepEqual(got, want) || got.codes[0] != 0 {
			t.Errorf("%T: %+v, the owner says %+v", q, got, want)
		}
	}
	for _, q := range []kmsg.Request{
		&kmsg.CreateACLsRequest{Version: 3, Creations: []kmsg.CreateACLsRequestCreation{{ResourceType: 2, ResourceName: "a", ResourcePatternType: 3, Principal: "User:ann", Host: "*", Operation: 3, PermissionType: 3}}},
		&kmsg.AlterUserSCRAMCredentialsRequest{Deletions: []kmsg.AlterUserSCRAMCredentialsRequestDeletion{{Name: "ann", Mechanism: 1}}},
	} {
		if got := here.asks(q); !reflect.DeepEqual(got.codes, []int16{kerr.NotController.Code}) {
			t.Errorf("%T: %+v", q, got)
		}
	}
}

// TestSettle: a node that becomes the owner waits for requests that are judged by the
// copy, and ends those that take too long; those that have asked the owner do not
// hold it up, and are judged anew.
func TestSettle(t *testing.T) {
	d := secured(t, Options{Access: authorized()}, Plain)
	began := make(chan struct{})
	stuck := &Owner{Refresh: func(ctx context.Context) {
		began <- struct{}{}
		<-ctx.Done()
	}}
	s, standing := d.standsBy(t, Options{Access: authorized(), Owner: stuck})
	w := s.as(t, "root")
	w.send(metadataFor(false, "x"))
	<-began
	s.access.Settle() // does not wait for it
	leave := func() (*request, context.Context) {
		ctx, cancel := context.WithCancelCause(t.Context())
		r := &request{api: s.api(kmsg.Metadata.Int16()), conn: &conn{s: s.Server, session: login.Of("User:root"), cancel: cancel}}
		if err := r.judge(); err != nil || !r.rights.Copied() {
			t.Fatalf("judged by the owner's: %v", err)
		}
		return r, ctx
	}
	quick, _ := leave()
	slow, ended := leave()
	quick.rights.Settle()
	settled := make(chan struct{})
	go func() { s.access.Settle(); close(settled) }()
	select {
	case <-ended.Done():
	case <-time.After(20 * time.Second):
		t.Fatal("a request that takes too long is not ended")
	}
	select {
	case <-settled:
		t.Error("it does not wait for the last one")
	default:
	}
	slow.rights.Settle()
	<-settled
	standing.broker.SetCopy(nil)
	if err := (&request{api: s.api(kmsg.DeleteTopics.Int16()), conn: &conn{s: s.Server, session: login.Of(login.Anonymous)}}).judge(); !errors.Is(err, broker.ErrNotOwner) {
		t.Errorf("without any rights: %v", err)
	}
}
