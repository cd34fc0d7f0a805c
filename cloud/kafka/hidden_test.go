package kafka

import (
	"errors"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/weir"
)

// TestHiddenTopics: to each request that names a topic of the work queues, by name or by
// id, there is none; it is not listed, and a client cannot create one.
func TestHiddenTopics(t *testing.T) {
	d := open(t, setup{})
	d.topic(t, "t", 1)
	const name = weir.VhostTopics + "x"
	topic, err := d.own.Log.CreateTopicIn(t.Context(), weir.SliceOfVhost("x"), name)
	if err != nil {
		t.Fatal(err)
	}
	unknown, w := kerr.UnknownTopicOrPartition, d.dial(t)
	check := func(what string, code int16, want ...*kerr.Error) {
		t.Helper()
		if !slices.ContainsFunc(want, func(e *kerr.Error) bool { return e.Code == code }) {
			t.Errorf("%s: %v", what, kerr.ErrorForCode(code))
		}
	}
	for _, version := range []int16{9, 13} {
		check("produce", ask[*kmsg.ProduceResponse](w, produceTo(version, topic, -1, sequenced(t, -1, -1, -1))).Topics[0].Partitions[0].ErrorCode, unknown, kerr.UnknownTopicID)
	}
	for _, version := range []int16{12, 13} {
		check("fetch", ask[*kmsg.FetchResponse](w, fetchFrom(version, topic, 0)).Topics[0].Partitions[0].ErrorCode, unknown, kerr.UnknownTopicID)
	}
	for byName, id := range map[bool][16]byte{true: {}, false: topic.ID} {
		q := kmsg.NewPtrMetadataRequest()
		q.Version, q.AllowAutoTopicCreation = 12, true
		rt := kmsg.NewMetadataRequestTopic()
		if rt.TopicID = id; byName {
			rt.Topic = kmsg.StringPtr(name)
		}
		q.Topics = append(q.Topics, rt)
		check("metadata", ask[*kmsg.MetadataResponse](w, q).Topics[0].ErrorCode, unknown, kerr.UnknownTopicID)
	}
	adm, ctx := kadm.NewClient(d.client(t)), within30s(t)
	if all, err := adm.ListTopicsWithInternal(ctx); err != nil || !slices.Equal(all.Names(), []string{broker.OffsetsTopic, "t"}) {
		t.Errorf("listed: %v, %v", all.Names(), err)
	}
	if made, err := adm.CreateTopic(ctx, 1, 1, nil, weir.VhostTopics+"y"); !errors.Is(err, kerr.InvalidTopicException) {
		t.Errorf("create: %+v, %v", made, err)
	}
	hiddenFromAdmins(t, adm, name)
	if _, end, err := d.own.Log.Bounds(topic.ID, 0); end != 0 || err != nil {
		t.Errorf("it ends at %d, %v", end, err)
	}
	if made, found := d.own.Log.Topic(weir.VhostTopics + "y"); found {
		t.Errorf("the log has %v", made)
	}
}

func hiddenFromAdmins(t *testing.T, adm *kadm.Client, name string) {
	t.Helper()
	ctx, unknown, value := within30s(t), kerr.UnknownTopicOrPartition, "1"
	if got, err := adm.DeleteTopics(ctx, name); err != nil || !errors.Is(got[name].Err, unknown) {
		t.Errorf("delete: %+v, %v", got, err)
	}
	if got, err := adm.CreatePartitions(ctx, 1, name); err == nil && !errors.Is(got[name].Err, unknown) || err != nil && !errors.Is(err, unknown) {
		t.Errorf("grow: %+v, %v", got, err)
	}
	if got, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, name); err != nil || !errors.Is(got[0].Err, unknown) {
		t.Errorf("alter: %+v, %v", got, err)
	}
	if got, err := adm.DescribeTopicConfigs(ctx, name); err != nil || len(got) != 1 || !errors.Is(got[0].Err, unknown) {
		t.Errorf("describe: %+v, %v", got, err)
	}
	cut := kadm.Offsets{}
	cut.Add(kadm.Offset{Topic: name, At: 0})
	if got, err := adm.DeleteRecords(ctx, cut); err == nil && !errors.Is(got[name][0].Err, unknown) || err != nil && !errors.Is(err, unknown) {
		t.Errorf("delete records: %+v, %v", got, err)
	}
	if got, err := adm.ListEndOffsets(ctx, name); err == nil && !errors.Is(got.Error(), unknown) || err != nil && !errors.Is(err, unknown) {
		t.Errorf("list offsets: %+v, %v", got, err)
	}
	if got, err := adm.DescribeAllLogDirs(ctx, nil); err != nil {
		t.Error(err)
	} else {
		got.Each(func(d kadm.DescribedLogDir) {
			if _, listed := d.Topics[name]; listed || d.Err != nil {
				t.Errorf("log directories: %+v", d)
			}
		})
	}
}
