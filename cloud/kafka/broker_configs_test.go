package kafka

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

const (
	ofBroker = kmsg.ConfigResourceTypeBroker
	ofGroup  = kmsg.ConfigResourceTypeGroupConfig
)

// alter changes one setting and returns the code.
func alter(w *wire, typ kmsg.ConfigResourceType, name string, op kmsg.IncrementalAlterConfigOp, setting string, value ...string) int16 {
	w.t.Helper()
	q := &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{
		{ResourceType: typ, ResourceName: name, Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(op, setting, value...)}}}}
	r := ask[*kmsg.IncrementalAlterConfigsResponse](w, q).Resources[0]
	if (r.ErrorMessage == nil) != (r.ErrorCode == 0) {
		w.t.Errorf("%s of %q: %v without a word, or the other way round", setting, name, kerr.ErrorForCode(r.ErrorCode))
	}
	return r.ErrorCode
}

// described is a setting as DescribeConfigs tells it: its value, its source, its
// synonyms.
func described(w *wire, typ kmsg.ConfigResourceType, name, setting string) string {
	w.t.Helper()
	r := ask[*kmsg.DescribeConfigsResponse](w, describeOf(4, typ, name, setting)).Resources[0]
	if r.ErrorCode != 0 || len(r.Configs) != 1 {
		w.t.Fatalf("describe %s of %q: %+v", setting, name, r)
	}
	c := r.Configs[0]
	s := fmt.Sprintf("%s (%d)", *c.Value, c.Source)
	for _, x := range c.ConfigSynonyms {
		s += fmt.Sprintf(" %s=%s (%d)", x.Name, *x.Value, x.Source)
	}
	return s
}

// TestBrokerConfigs: what clients set of a broker, or of all, counts from the next
// request on, for topics that have nothing of their own, and for the next owner too.
func TestBrokerConfigs(t *testing.T) {
	const set, remove, add = 0, 1, 2
	bucket := mem.New()
	d := open(t, setup{bucket: bucket})
	plain, own := d.newTopic(t, "plain", 1, nil), d.newTopic(t, "own", 1, map[string]string{"max.message.bytes": "10000"})
	w := d.dial(t)
	large := batchOf(t, record.None, strings.Repeat("x", 5000))
	produce := func(what string, wantPlain, wantOwn *kerr.Error) {
		t.Helper()
		expect(t, what, ask[*kmsg.ProduceResponse](w, produceTo(9, plain, -1, slices.Clone(large))).Topics[0].Partitions[0].ErrorCode, wantPlain)
		expect(t, what+", topic's own", ask[*kmsg.ProduceResponse](w, produceTo(9, own, -1, slices.Clone(large))).Topics[0].Partitions[0].ErrorCode, wantOwn)
	}
	produce("default", nil, nil)
	expect(t, "all", alter(w, ofBroker, "", set, "message.max.bytes", "100"), nil)
	produce("all", kerr.MessageTooLarge, nil)
	gaps := d.newTopic(t, weir.GapTopic, 1, nil)
	expect(t, "Weir's own", ask[*kmsg.ProduceResponse](w, produceTo(9, gaps, -1, slices.Clone(large))).Topics[0].Partitions[0].ErrorCode, nil)
	if got, want := described(w, kmsg.ConfigResourceTypeTopic, gaps.Name, "max.message.bytes"), "1048588 (5) message.max.bytes=1048588 (5)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	expect(t, "one", alter(w, ofBroker, "7", set, "message.max.bytes", "20000"), nil)
	produce("one", nil, nil)
	if got, want := described(w, ofBroker, "7", "message.max.bytes"), "20000 (2) message.max.bytes=20000 (2) message.max.bytes=100 (3)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := described(w, kmsg.ConfigResourceTypeTopic, "plain", "max.message.bytes"), "20000 (2) message.max.bytes=20000 (2) message.max.bytes=100 (3) message.max.bytes=1048588 (5)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, want := described(w, kmsg.ConfigResourceTypeTopic, "own", "max.message.bytes"), "10000 (1) max.message.bytes=10000 (1) message.max.bytes=20000 (2) message.max.bytes=100 (3) message.max.bytes=1048588 (5)"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	expect(t, "one no more", alter(w, ofBroker, "7", remove, "message.max.bytes"), nil)
	expect(t, "append", alter(w, ofBroker, "", add, "log.cleanup.policy", "compact"), nil)
	expect(t, "without effect", alter(w, ofBroker, "7", set, "leader.replication.throttled.rate", "1000000"), nil)

	d = open(t, setup{bucket: bucket})
	w = d.dial(t)
	expect(t, "no key in a compacted topic", ask[*kmsg.ProduceResponse](w, produceTo(9, plain, -1, batchOf(t, record.None, "x"))).Topics[0].Partitions[0].ErrorCode, kerr.InvalidRecord)
	expect(t, "delete only", alter(w, ofBroker, "", remove, "log.cleanup.policy"), nil)
	produce("the next owner", kerr.MessageTooLarge, nil)
	expect(t, "zstd", alter(w, ofBroker, "", set, "compression.type", "zstd"), nil)
	for version, want := range map[int16]*kerr.Error{9: kerr.UnsupportedCompressionType, 10: nil} {
		expect(t, "zstd topic", ask[*kmsg.FetchResponse](w, fetchFrom(version, plain, 0)).Topics[0].Partitions[0].ErrorCode, want)
	}
}

func TestBrokerConfigsOfNewTopics(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	expect(t, "partitions", alter(w, ofBroker, "", 0, "num.partitions", "2"), nil)
	d.newTopic(t, "a", -1, nil)
	if topic, _ := d.broker.Topic("a"); topic.Partitions != 2 {
		t.Errorf("%+v", topic)
	}
	name := "b"
	q := kmsg.NewPtrMetadataRequest()
	q.Version, q.AllowAutoTopicCreation = 9, true
	q.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
	expect(t, "no auto-creation", alter(w, ofBroker, "", 0, "auto.create.topics.enable", "FALSE"), nil)
	expect(t, "metadata", ask[*kmsg.MetadataResponse](w, q).Topics[0].ErrorCode, kerr.UnknownTopicOrPartition)
	expect(t, "auto-creation", alter(w, ofBroker, "", 1, "auto.create.topics.enable"), nil)
	if r := ask[*kmsg.MetadataResponse](w, q).Topics[0]; r.ErrorCode != 0 || len(r.Partitions) != 2 {
		t.Errorf("%+v", r)
	}
}

func TestBrokerConfigsThatCannotBe(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	for what, c := range map[string]struct {
		typ                  kmsg.ConfigResourceType
		name, setting, value string
		want                 *kerr.Error
	}{
		"fixed":          {ofBroker, "7", "broker.id", "8", kerr.InvalidRequest},
		"fixed, all":     {ofBroker, "", "inter.broker.protocol.version", "8", kerr.InvalidRequest},
		"unknown":        {ofBroker, "", "num.io.threads", "8", kerr.InvalidConfig},
		"value":          {ofBroker, "", "num.partitions", "0", kerr.InvalidConfig},
		"other broker":   {ofBroker, "8", "num.partitions", "1", kerr.InvalidRequest},
		"all groups":     {ofGroup, "", "consumer.session.timeout.ms", "50000", kerr.InvalidRequest},
		"group's value":  {ofGroup, "g", "consumer.session.timeout.ms", "1", kerr.InvalidConfig},
		"slow heartbeat": {ofGroup, "g", "consumer.heartbeat.interval.ms", "45000", kerr.InvalidConfig},
		"share group":    {ofGroup, "g", "share.session.timeout.ms", "1", kerr.InvalidConfig},
		"heartbeats":     {ofGroup, "g", "share.heartbeat.interval.ms", "50000", kerr.InvalidConfig},
		"reset":          {ofGroup, "g", "share.auto.offset.reset", "by_duration:P1W", kerr.InvalidConfig},
		"no reset":       {ofGroup, "g", "share.auto.offset.reset", "by_duration:PT", kerr.InvalidConfig},
		"streams group":  {ofGroup, "g", "streams.session.timeout.ms", "45000", kerr.InvalidConfig},
		"group unknown":  {ofGroup, "g", "session.timeout.ms", "45000", kerr.InvalidConfig},
	} {
		expect(t, what, alter(w, c.typ, c.name, 0, c.setting, c.value), c.want)
	}
	if names := d.own.Settings.Names("node"); len(names) != 0 {
		t.Errorf("%v", names)
	}
}

// TestGroupConfigs: a group goes by what clients have set for it.
func TestGroupConfigs(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	expect(t, "heartbeat", alter(w, ofGroup, "g", 0, "consumer.heartbeat.interval.ms", "7000"), nil)
	expect(t, "session", alter(w, ofGroup, "g", 0, "consumer.session.timeout.ms", "60000"), nil)
	for name, want := range map[string]int32{"g": 7000, "h": 5000} {
		q := kmsg.NewPtrConsumerGroupHeartbeatRequest()
		q.Version, q.Group, q.MemberID, q.RebalanceTimeoutMillis = 1, name, "m", 1000
		q.SubscribedTopicNames, q.Topics = []string{"t"}, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		if r := ask[*kmsg.ConsumerGroupHeartbeatResponse](w, q); r.ErrorCode != 0 || r.HeartbeatIntervalMillis != want {
			t.Errorf("group %s: %+v, want %d ms", name, r, want)
		}
	}
	for setting, want := range map[string]string{
		"consumer.heartbeat.interval.ms": "7000 (8) consumer.heartbeat.interval.ms=7000 (8)",
		"consumer.session.timeout.ms":    "60000 (8) consumer.session.timeout.ms=60000 (8)",
	} {
		if got := described(w, ofGroup, "g", setting); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
	if got := described(w, ofGroup, "h", "consumer.session.timeout.ms"); got != "45000 (5)" {
		t.Error(got)
	}
	list := kmsg.NewPtrListConfigResourcesRequest()
	list.Version, list.ResourceTypes = 1, []int8{int8(ofGroup)}
	if r := ask[*kmsg.ListConfigResourcesResponse](w, list); r.ErrorCode != 0 || len(r.ConfigResources) != 1 || r.ConfigResources[0].Name != "g" {
		t.Errorf("%+v", r)
	}
	q := &kmsg.AlterConfigsRequest{Version: 2, Resources: []kmsg.AlterConfigsRequestResource{{ResourceType: ofGroup, ResourceName: "g"}}}
	expect(t, "all gone", ask[*kmsg.AlterConfigsResponse](w, q).Resources[0].ErrorCode, nil)
	if r := ask[*kmsg.ListConfigResourcesResponse](w, list); len(r.ConfigResources) != 0 {
		t.Errorf("%+v", r)
	}
}
