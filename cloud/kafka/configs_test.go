package kafka

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
)

func describeOf(version int16, typ kmsg.ConfigResourceType, name string, names ...string) *kmsg.DescribeConfigsRequest {
	return &kmsg.DescribeConfigsRequest{Version: version, IncludeSynonyms: true, IncludeDocumentation: true, Resources: []kmsg.DescribeConfigsRequestResource{
		{ResourceType: typ, ResourceName: name, ConfigNames: names}}}
}

func TestDescribeConfigs(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "a", 1, map[string]string{"retention.ms": "5", "segment.bytes": "1000000"})
	w := d.dial(t)
	const topic, node = kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	all := ask[*kmsg.DescribeConfigsResponse](w, describeOf(4, topic, "a")).Resources[0]
	if expect(t, "describe a", all.ErrorCode, nil); len(all.Configs) != len(broker.TopicSettings()) {
		t.Errorf("%d settings of %d", len(all.Configs), len(broker.TopicSettings()))
	}
	for _, c := range all.Configs {
		own := c.Name == "retention.ms" || c.Name == "segment.bytes"
		if c.Value == nil || c.ReadOnly || c.IsSensitive || c.ConfigType == 0 || text(c.Documentation) == "" || own != (c.Source == kmsg.ConfigSourceDynamicTopicConfig) || !own && c.Source != kmsg.ConfigSourceDefaultConfig {
			t.Errorf("%+v", c)
		}
		synonyms := ""
		for _, s := range c.ConfigSynonyms {
			synonyms += fmt.Sprintf("%s=%s (%d) ", s.Name, *s.Value, s.Source)
		}
		switch c.Name {
		case "retention.ms":
			if *c.Value != "5" || c.ConfigType != kmsg.ConfigTypeLong || synonyms != "retention.ms=5 (1) log.retention.ms=-1 (5) " {
				t.Errorf("%+v", c)
			}
		case "segment.bytes":
			if !strings.Contains(*c.Documentation, "No effect here: ") {
				t.Errorf("%s", *c.Documentation)
			}
		case "cleanup.policy":
			if *c.Value != "delete" || c.ConfigType != kmsg.ConfigTypeList || synonyms != "log.cleanup.policy=delete (5) " {
				t.Errorf("%+v", c)
			}
		}
	}
	some := ask[*kmsg.DescribeConfigsResponse](w, describeOf(1, topic, "a", "retention.ms", "nonsense")).Resources[0]
	if len(some.Configs) != 1 || some.Configs[0].Name != "retention.ms" {
		t.Errorf("%+v", some)
	}
	for _, name := range []string{"7", ""} {
		own := ask[*kmsg.DescribeConfigsResponse](w, describeOf(4, node, name)).Resources[0]
		values := make(map[string]string)
		for _, c := range own.Configs {
			fixed := c.Name == "node.id" || c.Name == "broker.id" || c.Name == "default.replication.factor" || c.Name == "delete.topic.enable" ||
				c.Name == "inter.broker.protocol.version" || c.Name == "offsets.topic.replication.factor"
			if values[c.Name] = *c.Value; c.ReadOnly != fixed || c.Source != kmsg.ConfigSourceStaticBrokerConfig {
				t.Errorf("%+v", c)
			}
		}
		if own.ErrorCode != 0 || values["node.id"] != "7" || values["num.partitions"] != "4" || values["inter.broker.protocol.version"] == "" {
			t.Errorf("broker %q: %v", name, values)
		}
	}
}

func TestDescribeConfigsOfNothing(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	const topic, node = kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	for _, c := range []struct {
		typ  kmsg.ConfigResourceType
		name string
		want *kerr.Error
	}{
		{topic, "x", kerr.UnknownTopicOrPartition}, {topic, "a b", kerr.InvalidTopicException}, {topic, "__x", kerr.UnknownTopicOrPartition},
		{node, "8", kerr.InvalidRequest}, {node, "me", kerr.InvalidRequest}, {8, "7", kerr.InvalidRequest}, {0, "", kerr.InvalidRequest},
	} {
		r := ask[*kmsg.DescribeConfigsResponse](w, describeOf(4, c.typ, c.name)).Resources[0]
		if expect(t, c.name, r.ErrorCode, c.want); r.ErrorMessage == nil || len(r.Configs) != 0 || r.ResourceType != c.typ || r.ResourceName != c.name {
			t.Errorf("%s: %+v", c.name, r)
		}
	}
}

// alteration is a change of one setting, as IncrementalAlterConfigs has it.
func alteration(op kmsg.IncrementalAlterConfigOp, name string, value ...string) kmsg.IncrementalAlterConfigsRequestResourceConfig {
	c := kmsg.IncrementalAlterConfigsRequestResourceConfig{Name: name, Op: op}
	if len(value) > 0 {
		c.Value = &value[0]
	}
	return c
}

func TestIncrementalAlterConfigs(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	const topic, node = kmsg.ConfigResourceTypeTopic, kmsg.ConfigResourceTypeBroker
	const set, remove, add, take = 0, 1, 2, 3
	type changes = []kmsg.IncrementalAlterConfigsRequestResourceConfig
	for what, c := range map[string]struct {
		typ     kmsg.ConfigResourceType
		name    string
		changes changes
		want    *kerr.Error
		after   string // of topic a, which has cleanup.policy compact and retention.ms 5
	}{
		"set":                  {topic, "a", changes{alteration(set, "retention.ms", "6")}, nil, "cleanup.policy:compact retention.ms:6"},
		"set another":          {topic, "a", changes{alteration(set, "segment.ms", "6")}, nil, "cleanup.policy:compact retention.ms:5 segment.ms:6"},
		"delete":               {topic, "a", changes{alteration(remove, "retention.ms")}, nil, "cleanup.policy:compact"},
		"delete with value":    {topic, "a", changes{alteration(remove, "retention.ms", "5")}, nil, "cleanup.policy:compact"},
		"delete what is not":   {topic, "a", changes{alteration(remove, "flush.ms")}, nil, "cleanup.policy:compact retention.ms:5"},
		"append":               {topic, "a", changes{alteration(add, "cleanup.policy", "delete")}, nil, "cleanup.policy:compact,delete retention.ms:5"},
		"append what is there": {topic, "a", changes{alteration(add, "cleanup.policy", "compact")}, nil, "cleanup.policy:compact retention.ms:5"},
		"append to default":    {topic, "a", changes{alteration(add, "leader.replication.throttled.replicas", "0:1,1:1")}, nil, "cleanup.policy:compact leader.replication.throttled.replicas:0:1,1:1 retention.ms:5"},
		"subtract":             {topic, "a", changes{alteration(take, "cleanup.policy", "delete")}, nil, "cleanup.policy:compact retention.ms:5"},
		"subtract all":         {topic, "a", changes{alteration(take, "cleanup.policy", "compact")}, kerr.InvalidConfig, ""},
		"append to a number":   {topic, "a", changes{alteration(add, "retention.ms", "6")}, kerr.InvalidConfig, ""},
		"append to unknown":    {topic, "a", changes{alteration(add, "nonsense", "6")}, kerr.InvalidConfig, ""},
		"all or nothing":       {topic, "a", changes{alteration(set, "segment.ms", "6"), alteration(set, "flush.ms", "x")}, kerr.InvalidConfig, ""},
		"unknown":              {topic, "a", changes{alteration(set, "retention", "6")}, kerr.InvalidConfig, ""},
		"bad value":            {topic, "a", changes{alteration(set, "retention.ms", "soon")}, kerr.InvalidConfig, ""},
		"no value":             {topic, "a", changes{alteration(set, "retention.ms")}, kerr.InvalidRequest, ""},
		"no value, no topic":   {topic, "x", changes{alteration(set, "retention.ms")}, kerr.InvalidRequest, ""},
		"twice":                {topic, "a", changes{alteration(set, "retention.ms", "6"), alteration(remove, "retention.ms")}, kerr.InvalidRequest, ""},
		"unknown operation":    {topic, "a", changes{alteration(4, "retention.ms", "6")}, kerr.InvalidRequest, ""},
		"no topic":             {topic, "x", changes{alteration(set, "retention.ms", "6")}, kerr.UnknownTopicOrPartition, ""},
		"no name":              {topic, "", changes{alteration(set, "retention.ms", "6")}, kerr.InvalidTopicException, ""},
		"a fixed setting":      {node, "7", changes{alteration(set, "node.id", "6")}, kerr.InvalidRequest, ""},
		"no number":            {node, "me", changes{alteration(set, "log.retention.ms", "6")}, kerr.InvalidRequest, ""},
		"another broker":       {node, "8", changes{alteration(set, "log.retention.ms", "6")}, kerr.InvalidRequest, ""},
		"something else":       {99, "a", changes{alteration(set, "retention.ms", "6")}, kerr.InvalidRequest, ""},
		"nothing":              {topic, "a", nil, nil, "cleanup.policy:compact retention.ms:5"},
		"too much":             {topic, "a", changes{alteration(add, "leader.replication.throttled.replicas", strings.Repeat("x", 70_000))}, kerr.InvalidConfig, ""},
		"several":              {topic, "a", changes{alteration(set, "compression.type", "zstd"), alteration(remove, "retention.ms")}, nil, "cleanup.policy:compact compression.type:zstd"},
	} {
		a := d.newTopic(t, "a", 1, map[string]string{"cleanup.policy": "compact", "retention.ms": "5"})
		for _, check := range []bool{true, false} {
			q := &kmsg.IncrementalAlterConfigsRequest{Version: 1, ValidateOnly: check, Resources: []kmsg.IncrementalAlterConfigsRequestResource{{ResourceType: c.typ, ResourceName: c.name, Configs: c.changes}}}
			r := ask[*kmsg.IncrementalAlterConfigsResponse](w, q).Resources[0]
			if expect(t, what, r.ErrorCode, c.want); r.ResourceType != c.typ || r.ResourceName != c.name || (r.ErrorMessage == nil) != (c.want == nil) {
				t.Errorf("%s: %+v", what, r)
			}
			after := "map[cleanup.policy:compact retention.ms:5]"
			if c.after != "" && !check {
				after = "map[" + c.after + "]"
			}
			if now, _ := d.broker.Topic("a"); fmt.Sprint(now.Configs) != after {
				t.Errorf("%s, check %v: %v, want %s", what, check, now.Configs, after)
			}
		}
		if err := d.broker.DeleteTopic(t.Context(), a.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestIncrementalAlterConfigsTogether(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	const topic, set, add = kmsg.ConfigResourceTypeTopic, 0, 2
	type changes = []kmsg.IncrementalAlterConfigsRequestResourceConfig
	d.newTopic(t, "a", 1, nil)
	d.newTopic(t, "b", 1, nil)
	one := func(name string) kmsg.IncrementalAlterConfigsRequestResource {
		return kmsg.IncrementalAlterConfigsRequestResource{ResourceType: topic, ResourceName: name, Configs: changes{alteration(set, "segment.ms", "6")}}
	}
	r := ask[*kmsg.IncrementalAlterConfigsResponse](w, &kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{one("a"), one("b"), one("a")}})
	for i, want := range []*kerr.Error{kerr.InvalidRequest, nil, kerr.InvalidRequest} {
		expect(t, "resource twice", r.Resources[i].ErrorCode, want)
	}
	// What a list has by default stays in it.
	list := kmsg.IncrementalAlterConfigsRequestResource{ResourceType: topic, ResourceName: "b", Configs: changes{alteration(add, "cleanup.policy", "compact")}}
	r = ask[*kmsg.IncrementalAlterConfigsResponse](w, &kmsg.IncrementalAlterConfigsRequest{Resources: []kmsg.IncrementalAlterConfigsRequestResource{list}})
	expect(t, "append to the default", r.Resources[0].ErrorCode, nil)
	if now, _ := d.broker.Topic("b"); now.Configs["cleanup.policy"] != "delete,compact" {
		t.Errorf("%v", now.Configs)
	}
}

func TestAlterConfigs(t *testing.T) {
	d := open(t, setup{})
	d.newTopic(t, "a", 1, map[string]string{"cleanup.policy": "compact"})
	w := d.dial(t)
	alter := func(check bool, name string, kv ...string) int16 {
		rr := kmsg.AlterConfigsRequestResource{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: name}
		for i := 0; i < len(kv); i += 2 {
			c := kmsg.AlterConfigsRequestResourceConfig{Name: kv[i]}
			if kv[i+1] != "null" {
				c.Value = &kv[i+1]
			}
			rr.Configs = append(rr.Configs, c)
		}
		return ask[*kmsg.AlterConfigsResponse](w, &kmsg.AlterConfigsRequest{Version: 2, ValidateOnly: check, Resources: []kmsg.AlterConfigsRequestResource{rr}}).Resources[0].ErrorCode
	}
	expect(t, "bad value", alter(false, "a", "retention.ms", "x"), kerr.InvalidConfig)
	expect(t, "unknown", alter(false, "a", "retention", "5"), kerr.InvalidConfig)
	expect(t, "null", alter(false, "a", "retention.ms", "null"), kerr.InvalidRequest)
	expect(t, "twice", alter(false, "a", "retention.ms", "5", "retention.ms", "5"), kerr.InvalidRequest)
	expect(t, "no topic", alter(false, "x", "retention.ms", "5"), kerr.UnknownTopicOrPartition)
	expect(t, "check", alter(true, "a", "retention.ms", "5"), nil)
	if now, _ := d.broker.Topic("a"); fmt.Sprint(now.Configs) != "map[cleanup.policy:compact]" {
		t.Errorf("%v", now.Configs)
	}
	expect(t, "replace", alter(false, "a", "retention.ms", "5"), nil)
	if now, _ := d.broker.Topic("a"); fmt.Sprint(now.Configs) != "map[retention.ms:5]" {
		t.Errorf("%v", now.Configs)
	}
}

// TestSettingsAreEnforced: through the door, from the next batch on.
func TestSettingsAreEnforced(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	now := time.Now().UnixMilli()
	batchAt := func(ms int64, codec record.Codec) []byte {
		b := record.NewBuilder(codec)
		if err := b.Append(&record.Record{Timestamp: ms, Key: []byte("k"), Value: make([]byte, 5000)}); err != nil {
			t.Fatal(err)
		}
		p, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	const day = 86_400_000
	end := int64(0)
	for _, step := range []struct {
		name, value string
		batch       []byte
		want        *kerr.Error
		codec       record.Codec
	}{
		{"max.message.bytes", "1000", batchAt(now, record.None), kerr.MessageTooLarge, 0},
		{"max.message.bytes", "1000", batchAt(now, record.Gzip), nil, record.Gzip},
		{"max.message.bytes", "100000", batchAt(now, record.None), nil, record.None},
		{"message.timestamp.before.max.ms", "1000", batchAt(now-day, record.None), kerr.InvalidTimestamp, 0},
		{"message.timestamp.after.max.ms", "1000", batchAt(now+day, record.None), kerr.InvalidTimestamp, 0},
		{"message.timestamp.type", "LogAppendTime", batchAt(now+day, record.None), nil, record.None},
		{"compression.type", "zstd", batchAt(now, record.None), nil, record.Zstd},
		{"compression.type", "snappy", batchAt(now, record.LZ4), nil, record.Snappy},
		{"compression.type", "uncompressed", batchAt(now, record.Gzip), nil, record.None},
		{"compression.type", "producer", batchAt(now, record.LZ4), nil, record.LZ4},
	} {
		what := step.name + "=" + step.value
		q := &kmsg.IncrementalAlterConfigsRequest{Version: 1, Resources: []kmsg.IncrementalAlterConfigsRequestResource{
			{ResourceType: kmsg.ConfigResourceTypeTopic, ResourceName: "a", Configs: []kmsg.IncrementalAlterConfigsRequestResourceConfig{alteration(0, step.name, step.value)}}}}
		expect(t, what, ask[*kmsg.IncrementalAlterConfigsResponse](w, q).Resources[0].ErrorCode, nil)
		p := ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, step.batch)).Topics[0].Partitions[0]
		if expect(t, what, p.ErrorCode, step.want); step.want != nil {
			continue
		}
		f := ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, end)).Topics[0].Partitions[0]
		b, _, err := record.Next(f.RecordBatches)
		if err != nil || b.Verify() != nil || b.Codec() != step.codec || p.BaseOffset != end {
			t.Errorf("%s: codec %v at %d, %v", what, b.Codec(), p.BaseOffset, err)
		}
		end++
	}
}
