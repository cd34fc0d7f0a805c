package kafka

import (
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// adminExamples are the examples of what only administrators ask.
func adminExamples(topic broker.Topic) []kmsg.Request {
	groups := &kmsg.DescribeGroupsRequest{Groups: []string{"offsets-only", "nobody"}, IncludeAuthorizedOperations: true}
	list := &kmsg.ListGroupsRequest{StatesFilter: []string{"Empty"}, TypesFilter: []string{"classic"}}
	epoch := &kmsg.OffsetForLeaderEpochRequest{ReplicaID: -1, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{
		{Topic: topic.Name, Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1, LeaderEpoch: 1}, {Partition: 99, CurrentLeaderEpoch: -1}}}}}
	configs := &kmsg.DescribeConfigsRequest{IncludeSynonyms: true, IncludeDocumentation: true, Resources: []kmsg.DescribeConfigsRequestResource{
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic.Name}, {ResourceType: kmsg.ConfigResourceTypeBroker}, {ResourceType: 99}}}
	alter := &kmsg.AlterConfigsRequest{ValidateOnly: true, Resources: []kmsg.AlterConfigsRequestResource{
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic.Name, Configs: []kmsg.AlterConfigsRequestResourceConfig{{Name: "x", Value: kmsg.StringPtr("y")}}}}}
	increment := &kmsg.IncrementalAlterConfigsRequest{ValidateOnly: true, Resources: []kmsg.IncrementalAlterConfigsRequestResource{
		{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: topic.Name, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{{Name: "cleanup.policy", Op: 2, Value: kmsg.StringPtr("compact")}}}}}
	dirs := &kmsg.DescribeLogDirsRequest{Topics: []kmsg.DescribeLogDirsRequestTopic{{Topic: topic.Name, Partitions: []int32{0, 99}}}}
	grow := &kmsg.CreatePartitionsRequest{ValidateOnly: true, Topics: []kmsg.CreatePartitionsRequestTopic{
		{Topic: topic.Name, Count: 3, Assignment: []kmsg.CreatePartitionsRequestTopicAssignment{{Replicas: []int32{1}}, {Replicas: []int32{1, 2}}}}}}
	forget := &kmsg.OffsetDeleteRequest{Group: "offsets-only", Topics: []kmsg.OffsetDeleteRequestTopic{{Topic: topic.Name, Partitions: []kmsg.OffsetDeleteRequestTopicPartition{{Partition: 5}}}}}
	elect := &kmsg.ElectLeadersRequest{Topics: []kmsg.ElectLeadersRequestTopic{{Topic: topic.Name, Partitions: []int32{0, 99}}}}
	reassign := &kmsg.AlterPartitionAssignmentsRequest{Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{
		{Topic: topic.Name, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Replicas: []int32{1, 2}}, {}}}}}
	return []kmsg.Request{
		groups, list, epoch, configs, alter, increment, dirs, grow, forget, elect, reassign,
		&kmsg.DeleteGroupsRequest{Groups: []string{"nobody"}}, &kmsg.ListPartitionReassignmentsRequest{},
		&kmsg.DescribeClusterRequest{EndpointType: 1, IncludeClusterAuthorizedOperations: true}, &kmsg.ListConfigResourcesRequest{ResourceTypes: []int8{2, 4}},
	}
}

// expect compares codes, by name of what was asked.
func expect(t testing.TB, what string, got int16, want *kerr.Error) {
	t.Helper()
	code := int16(0)
	if want != nil {
		code = want.Code
	}
	if got != code {
		t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
	}
}

func TestCreatePartitions(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "a", 2, nil)
	d.newTopic(t, "b", 2, nil)
	w := d.dial(t)
	replicas := func(n ...int) (all []kmsg.CreatePartitionsRequestTopicAssignment) {
		for _, n := range n {
			all = append(all, kmsg.CreatePartitionsRequestTopicAssignment{Replicas: make([]int32, n)})
		}
		return all
	}
	for what, c := range map[string]struct {
		topic  string
		count  int32
		assign []kmsg.CreatePartitionsRequestTopicAssignment
		want   *kerr.Error
	}{
		"fewer":              {"a", 1, nil, kerr.InvalidPartitions},
		"as many":            {"a", 2, nil, kerr.InvalidPartitions},
		"none":               {"a", 0, nil, kerr.InvalidPartitions},
		"too many":           {"a", broker.MaxPartitions + 1, nil, kerr.InvalidPartitions},
		"unknown":            {"x", 3, nil, kerr.UnknownTopicOrPartition},
		"assigned too few":   {"a", 4, replicas(1), kerr.InvalidReplicaAssignment},
		"assigned nothing":   {"a", 4, replicas(), nil},
		"assigned to nobody": {"a", 4, replicas(1, 0), kerr.InvalidReplicaAssignment},
		"assigned":           {"a", 4, replicas(1, 3), nil},
	} {
		q := &kmsg.CreatePartitionsRequest{Version: 3, ValidateOnly: true, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: c.topic, Count: c.count, Assignment: c.assign}}}
		resp := ask[*kmsg.CreatePartitionsResponse](w, q)
		if len(resp.Topics) != 1 || resp.Topics[0].Topic != c.topic || (resp.Topics[0].ErrorMessage == nil) != (c.want == nil) {
			t.Fatalf("%s: %+v", what, resp)
		}
		expect(t, what, resp.Topics[0].ErrorCode, c.want)
	}
	if topic, _ := d.broker.Topic("a"); topic.Partitions != 2 {
		t.Error("validate_only has grown the topic")
	}
	q := &kmsg.CreatePartitionsRequest{Version: 3, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "a", Count: 5}, {Topic: "b", Count: 3}, {Topic: "b", Count: 4}, {Topic: "x", Count: 4}}}
	resp := ask[*kmsg.CreatePartitionsResponse](w, q)
	for i, want := range []*kerr.Error{nil, kerr.InvalidRequest, kerr.InvalidRequest, kerr.UnknownTopicOrPartition} {
		expect(t, resp.Topics[i].Topic, resp.Topics[i].ErrorCode, want)
	}
	a, _ := d.broker.Topic("a")
	b, _ := d.broker.Topic("b")
	if a.Partitions != 5 || b.Partitions != 2 {
		t.Errorf("a has %d partitions, b %d", a.Partitions, b.Partitions)
	}
}

// TestCreateTopicsChecked: validate_only answers as the creation would.
func TestCreateTopicsChecked(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	for what, c := range map[string]struct {
		partitions int32
		config     string
		want       *kerr.Error
	}{
		"default": {-1, "retention.ms=5", nil}, "too many": {broker.MaxPartitions + 1, "retention.ms=5", kerr.InvalidPartitions},
		"unknown": {1, "retention=5", kerr.InvalidConfig}, "bad value": {1, "retention.ms=x", kerr.InvalidConfig},
	} {
		name, value, _ := strings.Cut(c.config, "=")
		for _, check := range []bool{true, false} {
			q := &kmsg.CreateTopicsRequest{Version: 7, ValidateOnly: check, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: strings.ReplaceAll(what, " ", "-"), NumPartitions: c.partitions, ReplicationFactor: -1,
				Configs: []kmsg.CreateTopicsRequestTopicConfig{{Name: name, Value: &value}}}}}
			r := ask[*kmsg.CreateTopicsResponse](w, q).Topics[0]
			if expect(t, what, r.ErrorCode, c.want); c.want == nil && (r.NumPartitions != 4 || r.ReplicationFactor != 1 || len(r.Configs) != len(broker.TopicSettings())) {
				t.Errorf("%s, check %v: %+v", what, check, r)
			}
			for _, own := range r.Configs {
				if (own.Source == 1) != (own.Name == name) || own.Value == nil {
					t.Errorf("%s: %+v", what, own)
				}
			}
		}
	}
}

func TestDescribeCluster(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	for endpoint, want := range map[int8]*kerr.Error{1: nil, 2: kerr.MismatchedEndpointType, 3: kerr.UnsupportedEndpointType} {
		r := ask[*kmsg.DescribeClusterResponse](w, &kmsg.DescribeClusterRequest{Version: 2, EndpointType: endpoint, IncludeClusterAuthorizedOperations: true})
		expect(t, "describe cluster", r.ErrorCode, want)
		if want == nil && (r.ClusterID != d.own.Log.ClusterID() || r.ControllerID != 7 || len(r.Brokers) != 1 || r.Brokers[0].NodeID != 7 || r.ClusterAuthorizedOperations <= 0) {
			t.Errorf("%+v", r)
		}
	}
	m := kmsg.NewPtrMetadataRequest()
	m.Version, m.IncludeClusterAuthorizedOperations, m.IncludeTopicAuthorizedOperations = 10, true, true
	r := ask[*kmsg.MetadataResponse](w, m)
	alter := int32(1) << kmsg.ACLOperationAlter
	if r.AuthorizedOperations&alter == 0 || len(r.Topics) != 2 || r.Topics[1].AuthorizedOperations&alter != 0 || !r.Topics[1].IsInternal || r.Topics[0].AuthorizedOperations&alter == 0 || r.Topics[0].TopicID != topic.ID || r.Topics[0].IsInternal {
		t.Errorf("%+v", r)
	}
}

func TestDescribeLogDirs(t *testing.T) {
	d := open(t, setup{})
	a := d.newTopic(t, "a", 2, nil)
	d.newTopic(t, "b", 1, nil)
	w := d.dial(t)
	_ = ask[*kmsg.ProduceResponse](w, produceTo(9, a, -1, batchOf(t, record.None, "x", "y")))
	all := ask[*kmsg.DescribeLogDirsResponse](w, &kmsg.DescribeLogDirsRequest{Version: 4})
	if len(all.Dirs) != 1 || all.Dirs[0].TotalBytes != -1 || len(all.Dirs[0].Topics) != 2 || len(all.Dirs[0].Topics[0].Partitions) != 2 {
		t.Fatalf("%+v", all)
	}
	if p := all.Dirs[0].Topics[0].Partitions; p[0].Size < 61 || p[1].Size != 0 || p[1].Partition != 1 {
		t.Errorf("%+v", p)
	}
	some := ask[*kmsg.DescribeLogDirsResponse](w, &kmsg.DescribeLogDirsRequest{Version: 4, Topics: []kmsg.DescribeLogDirsRequestTopic{{Topic: "a", Partitions: []int32{1, 9}}, {Topic: "x", Partitions: []int32{0}}}})
	if got := some.Dirs[0].Topics; len(got) != 1 || got[0].Topic != "a" || len(got[0].Partitions) != 1 || got[0].Partitions[0].Partition != 1 {
		t.Errorf("%+v", got)
	}
}

func TestPlacementIsFixed(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	elect := &kmsg.ElectLeadersRequest{Version: 2, Topics: []kmsg.ElectLeadersRequestTopic{{Topic: "a", Partitions: []int32{0, 1}}, {Topic: "x", Partitions: []int32{0}}}}
	r := ask[*kmsg.ElectLeadersResponse](w, elect)
	expect(t, "elect", r.ErrorCode, nil)
	expect(t, "elect a leader", r.Topics[0].Partitions[0].ErrorCode, kerr.ElectionNotNeeded)
	expect(t, "elect for no partition", r.Topics[0].Partitions[1].ErrorCode, kerr.UnknownTopicOrPartition)
	expect(t, "elect for no topic", r.Topics[1].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
	if r := ask[*kmsg.ElectLeadersResponse](w, &kmsg.ElectLeadersRequest{Version: 2}); r.ErrorCode != 0 || len(r.Topics) != 0 {
		t.Errorf("elect all: %+v", r)
	}
	expect(t, "elect by dice", ask[*kmsg.ElectLeadersResponse](w, &kmsg.ElectLeadersRequest{Version: 2, ElectionType: 2}).ErrorCode, kerr.InvalidRequest)

	move := func(topic string, partition int32, replicas []int32) kmsg.AlterPartitionAssignmentsRequestTopic {
		return kmsg.AlterPartitionAssignmentsRequestTopic{Topic: topic, Partitions: []kmsg.AlterPartitionAssignmentsRequestTopicPartition{{Partition: partition, Replicas: replicas}}}
	}
	m := ask[*kmsg.AlterPartitionAssignmentsResponse](w, &kmsg.AlterPartitionAssignmentsRequest{Version: 1, Topics: []kmsg.AlterPartitionAssignmentsRequestTopic{
		move("a", 0, []int32{7}), move("a", 0, []int32{7, 8}), move("a", 0, nil), move("a", 1, []int32{7}), move("x", 0, []int32{7})}})
	expect(t, "reassign", m.ErrorCode, nil)
	for i, want := range []*kerr.Error{nil, kerr.InvalidReplicaAssignment, kerr.NoReassignmentInProgress, kerr.UnknownTopicOrPartition, kerr.UnknownTopicOrPartition} {
		p := m.Topics[i].Partitions[0]
		if expect(t, "reassign", p.ErrorCode, want); (p.ErrorMessage == nil) != (want == nil) {
			t.Errorf("text %v with %v", p.ErrorMessage, want)
		}
	}
	if r := ask[*kmsg.ListPartitionReassignmentsResponse](w, &kmsg.ListPartitionReassignmentsRequest{}); r.ErrorCode != 0 || len(r.Topics) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestListConfigResources(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	for _, c := range []struct {
		version int16
		types   []int8
		found   string
		want    *kerr.Error
	}{
		{0, nil, "", nil}, {1, nil, "a 7 ", nil}, {1, []int8{2}, "a ", nil}, {1, []int8{4, 16}, "7 ", nil}, {1, []int8{32}, "", nil}, {1, []int8{3}, "", kerr.UnsupportedVersion},
	} {
		r := ask[*kmsg.ListConfigResourcesResponse](w, &kmsg.ListConfigResourcesRequest{Version: c.version, ResourceTypes: c.types})
		expect(t, "list", r.ErrorCode, c.want)
		found := ""
		for _, x := range r.ConfigResources {
			found += x.Name + " "
		}
		if found != c.found {
			t.Errorf("v%d %v: %q, want %q", c.version, c.types, found, c.found)
		}
	}
}

// TestOffsetForLeaderEpoch: where the records of each owner end.
func TestOffsetForLeaderEpoch(t *testing.T) {
	bucket := mem.New()
	first := open(t, setup{bucket: bucket})
	topic := first.newTopic(t, "a", 2, nil)
	was := first.own.Log.Epoch()
	_ = ask[*kmsg.ProduceResponse](first.dial(t), produceTo(9, topic, -1, batchOf(t, record.None, "x", "y")))
	_ = first.own.Log.Close() // before the next one claims the shard
	d := open(t, setup{bucket: bucket})
	w := d.dial(t)
	_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.None, "z")))
	now := d.own.Log.Epoch()
	for what, c := range map[string]struct {
		partition, current, asked int32
		epoch                     int32
		end                       int64
		want                      *kerr.Error
	}{
		"first owner":     {0, now, was, was, 2, nil},
		"this owner":      {0, -1, now, now, 3, nil},
		"before all":      {0, -1, was - 1, was - 1, 0, nil},
		"from the future": {0, -1, now + 1, -1, -1, nil},
		"no epoch":        {0, -1, -1, -1, -1, nil},
		"empty":           {1, -1, was, was, 0, nil},
		"no partition":    {2, -1, was, -1, -1, kerr.UnknownTopicOrPartition},
		"old leader":      {0, was, was, -1, -1, kerr.FencedLeaderEpoch},
		"next leader":     {0, now + 1, was, -1, -1, kerr.UnknownLeaderEpoch},
	} {
		q := &kmsg.OffsetForLeaderEpochRequest{Version: 4, ReplicaID: -1, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{
			{Topic: "a", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{Partition: c.partition, CurrentLeaderEpoch: c.current, LeaderEpoch: c.asked}}}}}
		p := ask[*kmsg.OffsetForLeaderEpochResponse](w, q).Topics[0].Partitions[0]
		if expect(t, what, p.ErrorCode, c.want); p.LeaderEpoch != c.epoch || p.EndOffset != c.end {
			t.Errorf("%s: epoch %d ends at %d, want %d at %d", what, p.LeaderEpoch, p.EndOffset, c.epoch, c.end)
		}
	}
	q := &kmsg.OffsetForLeaderEpochRequest{Version: 2, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{{Topic: "x", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1}}}}}
	expect(t, "no topic", ask[*kmsg.OffsetForLeaderEpochResponse](w, q).Topics[0].Partitions[0].ErrorCode, kerr.UnknownTopicOrPartition)
}

// TestAdminOnStandby: a node that owns nothing sends administrators to the owner.
func TestAdminOnStandby(t *testing.T) {
	d := standby(t, &broker.Node{ID: 7, Name: "a", Addresses: cluster.Addresses{cluster.Kafka: {"": "owner.example:9092"}}})
	w := d.dial(t)
	topic := kmsg.ConfigResourceTypeTopic
	for what, c := range map[string]struct {
		got  int16
		want *kerr.Error
	}{
		"describe groups":  {ask[*kmsg.DescribeGroupsResponse](w, &kmsg.DescribeGroupsRequest{Version: 5, Groups: []string{"g"}}).Groups[0].ErrorCode, kerr.NotCoordinator},
		"list groups":      {ask[*kmsg.ListGroupsResponse](w, &kmsg.ListGroupsRequest{Version: 5}).ErrorCode, kerr.NotCoordinator},
		"delete groups":    {ask[*kmsg.DeleteGroupsResponse](w, &kmsg.DeleteGroupsRequest{Version: 2, Groups: []string{"g"}}).Groups[0].ErrorCode, kerr.NotCoordinator},
		"offset delete":    {ask[*kmsg.OffsetDeleteResponse](w, &kmsg.OffsetDeleteRequest{Group: "g"}).ErrorCode, kerr.NotCoordinator},
		"describe configs": {ask[*kmsg.DescribeConfigsResponse](w, &kmsg.DescribeConfigsRequest{Version: 4, Resources: []kmsg.DescribeConfigsRequestResource{{ResourceType: topic, ResourceName: "a"}}}).Resources[0].ErrorCode, kerr.NotController},
		"alter configs":    {ask[*kmsg.AlterConfigsResponse](w, &kmsg.AlterConfigsRequest{Version: 2, Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: topic, ResourceName: "a"}}}).Resources[0].ErrorCode, kerr.NotController},
		"increment":        {ask[*kmsg.IncrementalAlterConfigsResponse](w, &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: topic, ResourceName: "a"}}}).Resources[0].ErrorCode, kerr.NotController},
		"partitions":       {ask[*kmsg.CreatePartitionsResponse](w, &kmsg.CreatePartitionsRequest{Version: 3, Topics: []kmsg.CreatePartitionsRequestTopic{{Topic: "a", Count: 3}}}).Topics[0].ErrorCode, kerr.NotController},
		"elect":            {ask[*kmsg.ElectLeadersResponse](w, &kmsg.ElectLeadersRequest{Version: 2}).ErrorCode, kerr.NotController},
		"reassign":         {ask[*kmsg.AlterPartitionAssignmentsResponse](w, &kmsg.AlterPartitionAssignmentsRequest{}).ErrorCode, kerr.NotController},
		"reassignments":    {ask[*kmsg.ListPartitionReassignmentsResponse](w, &kmsg.ListPartitionReassignmentsRequest{}).ErrorCode, kerr.NotController},
		"dirs":             {ask[*kmsg.DescribeLogDirsResponse](w, &kmsg.DescribeLogDirsRequest{Version: 4}).Dirs[0].ErrorCode, kerr.NotLeaderForPartition},
		"config resources": {ask[*kmsg.ListConfigResourcesResponse](w, &kmsg.ListConfigResourcesRequest{Version: 1}).ErrorCode, kerr.NotController},
		"leader epoch": {ask[*kmsg.OffsetForLeaderEpochResponse](w, &kmsg.OffsetForLeaderEpochRequest{Version: 4, Topics: []kmsg.OffsetForLeaderEpochRequestTopic{
			{Topic: "a", Partitions: []kmsg.OffsetForLeaderEpochRequestTopicPartition{{CurrentLeaderEpoch: -1}}}}}).Topics[0].Partitions[0].ErrorCode, kerr.NotLeaderForPartition},
	} {
		expect(t, what, c.got, c.want)
	}
	r := ask[*kmsg.DescribeClusterResponse](w, &kmsg.DescribeClusterRequest{Version: 2, EndpointType: 1})
	if r.ErrorCode != 0 || r.ControllerID != 7 || len(r.Brokers) != 1 || r.Brokers[0].Host != "owner.example" {
		t.Errorf("describe cluster: %+v", r)
	}
}

// TestAdminClient is an administrator's day with franz-go.
func TestAdminClient(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	cl := d.client(t)
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(ctx, 2, 1, map[string]*string{"cleanup.policy": kadm.StringPtr("compact")}, "t"); err != nil {
		t.Fatal(err)
	}
	if r, err := admin.UpdatePartitions(ctx, 3, "t"); err != nil || r["t"].Err != nil {
		t.Errorf("grow: %v, %v", r, err)
	}
	altered, err := admin.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.AppendConfig, Name: "cleanup.policy", Value: kadm.StringPtr("delete")}, {Name: "retention.ms", Value: kadm.StringPtr("60000")}}, "t")
	if err != nil || altered[0].Err != nil {
		t.Errorf("alter: %v, %v", altered, err)
	}
	described, err := admin.DescribeTopicConfigs(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]string)
	for _, c := range described[0].Configs {
		values[c.Key] = c.MaybeValue()
	}
	if values["cleanup.policy"] != "compact,delete" || values["retention.ms"] != "60000" || values["max.message.bytes"] != "1048588" {
		t.Errorf("settings %v", values)
	}
	if brokers, err := admin.DescribeBrokerConfigs(ctx, 7); err != nil || brokers[0].Err != nil || len(brokers[0].Configs) < 30 {
		t.Errorf("broker's settings: %v, %v", brokers, err)
	}
	if dirs, err := admin.DescribeAllLogDirs(ctx, nil); err != nil || len(dirs[7]) != 1 {
		t.Errorf("dirs: %v, %v", dirs, err)
	}

	consumer := d.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"))
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Key: []byte("k"), Value: []byte("v")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	poll(t, consumer, 1)
	groups, err := admin.DescribeGroups(ctx, "g")
	if err != nil || groups["g"].State != "Stable" || len(groups["g"].Members) != 1 || len(groups.AssignedPartitions()["t"]) != 3 {
		t.Errorf("groups: %+v, %v", groups, err)
	}
	if list, err := admin.ListGroups(ctx, "stable"); err != nil || len(list) != 1 {
		t.Errorf("groups: %v, %v", list, err)
	}
	if err := consumer.CommitUncommittedOffsets(ctx); err != nil {
		t.Fatal(err)
	}
	consumer.Close()
	if r, err := admin.DeleteGroup(ctx, "g"); err != nil || r.Err != nil {
		t.Errorf("delete group: %v, %v", r, err)
	}
}
