package kafka

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/mem"
)

// knownOffsets is what a reader of the offsets topic knows, as Burrow and kminion keep
// it: offsets by group, topic and partition.
type knownOffsets map[string]int64

// take is what those do with a record.
func (c knownOffsets) take(r *kgo.Record) error {
	var key kmsg.OffsetCommitKey
	version := int16(r.Key[0])<<8 | int16(r.Key[1])
	if version > 1 {
		return nil // about the group itself
	}
	if err := key.ReadFrom(r.Key); err != nil {
		return err
	}
	at := fmt.Sprintf("%s %s/%d", key.Group, key.Topic, key.Partition)
	if r.Value == nil {
		delete(c, at)
		return nil
	}
	var value kmsg.OffsetCommitValue
	if err := value.ReadFrom(r.Value); err != nil {
		return err
	}
	if value.CommitTimestamp != r.Timestamp.UnixMilli() {
		return fmt.Errorf("committed at %d, record at %v", value.CommitTimestamp, r.Timestamp)
	}
	c[at] = value.Offset
	return nil
}

// readUntil reads on until the reader knows what it is to know.
func readUntil(t *testing.T, cl *kgo.Client, known, want knownOffsets) {
	t.Helper()
	for ctx := within30s(t); !maps.Equal(known, want); {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%v; known: %v, want %v", err, known, want)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if err := known.take(r); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// commits stores an offset of a partition for groups without members.
func commits(t *testing.T, adm *kadm.Client, offset int64, topic string, partition int32, groups ...string) {
	t.Helper()
	for _, name := range groups {
		offsets := make(kadm.Offsets)
		offsets.Add(kadm.Offset{Topic: topic, Partition: partition, At: offset, LeaderEpoch: -1})
		if _, err := adm.CommitOffsets(t.Context(), name, offsets); err != nil {
			t.Fatal(err)
		}
	}
}

// TestOffsetsTopic: a reader of the whole topic knows what was committed and
// continues through a change of the owner. A reader that starts then knows the same.
func TestOffsetsTopic(t *testing.T) {
	bucket := mem.New()
	d := open(t, setup{bucket: bucket})
	d.topic(t, "t", 3)
	adm := kadm.NewClient(d.client(t))
	names := []string{"a", "b", "console-consumer-12345"}
	commits(t, adm, 5, "t", 0, names...)
	commits(t, adm, 6, "t", 1, names[0])

	known := knownOffsets{}
	reader := d.client(t, kgo.ConsumeTopics(broker.OffsetsTopic))
	want := knownOffsets{"a t/0": 5, "b t/0": 5, "console-consumer-12345 t/0": 5, "a t/1": 6}
	readUntil(t, reader, known, want)
	// It waits for what comes, and is woken.
	commits(t, adm, 7, "t", 0, names[1])
	want["b t/0"] = 7
	readUntil(t, reader, known, want)
	if _, err := adm.DeleteOffsets(t.Context(), "a", kadm.TopicsSet{"t": {1: {}}}); err != nil {
		t.Fatal(err)
	}
	delete(want, "a t/1")
	readUntil(t, reader, known, want)

	// Another owner, another reader from where this one was, and a new one.
	at := kadm.Offsets{}
	ends, err := adm.ListEndOffsets(t.Context(), broker.OffsetsTopic)
	if err != nil {
		t.Fatal(err)
	}
	ends.Each(func(o kadm.ListedOffset) {
		at.Add(kadm.Offset{Topic: o.Topic, Partition: o.Partition, At: o.Offset, LeaderEpoch: o.LeaderEpoch})
	})
	next := open(t, setup{bucket: bucket})
	adm = kadm.NewClient(next.client(t))
	on := next.client(t, kgo.ConsumePartitions(at.KOffsets()))
	commits(t, adm, 9, "t", 2, names[2])
	want["console-consumer-12345 t/2"] = 9
	readUntil(t, on, known, want)
	readUntil(t, next.client(t, kgo.ConsumeTopics(broker.OffsetsTopic)), knownOffsets{}, want)
	if _, err := adm.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	readUntil(t, on, known, knownOffsets{})
}

// TestOffsetsTopicDescribesGroups: readers learn the members of a group.
func TestOffsetsTopicDescribesGroups(t *testing.T) {
	d := open(t, setup{})
	d.topic(t, "t", 1)
	member := d.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ClientID("reader 1"), kgo.DisableAutoCommit())
	if err := member.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	_ = poll(t, member, 1)
	if err := member.CommitUncommittedOffsets(within30s(t)); err != nil {
		t.Fatal(err)
	}
	reader := d.client(t, kgo.ConsumeTopics(broker.OffsetsTopic))
	for ctx := within30s(t); ; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatal(err)
		}
		for _, r := range fetches.Records() {
			var key kmsg.GroupMetadataKey
			var value kmsg.GroupMetadataValue
			if r.Key[1] != 2 {
				continue
			}
			if err := errors.Join(key.ReadFrom(r.Key), value.ReadFrom(r.Value)); err != nil {
				t.Fatal(err)
			}
			if key.Group != "g" || value.ProtocolType != "consumer" || len(value.Members) != 1 || value.Members[0].ClientID != "reader 1" || len(value.Members[0].Assignment) == 0 || r.Partition != group.OffsetsPartition("g") {
				t.Errorf("%+v %+v", key, value)
			}
			return
		}
	}
}

// TestOffsetsTopicIsReadOnly: and it is there for those who may see the cluster.
func TestOffsetsTopicIsReadOnly(t *testing.T) {
	d := open(t, setup{})
	d.topic(t, "t", 1)
	adm := kadm.NewClient(d.client(t))
	commits(t, adm, 5, "t", 0, "g")
	ctx := within30s(t)
	all, err := adm.ListTopicsWithInternal(ctx)
	if err != nil || !all[broker.OffsetsTopic].IsInternal || len(all[broker.OffsetsTopic].Partitions) != group.OffsetsPartitions {
		t.Fatalf("%+v, %v", all[broker.OffsetsTopic], err)
	}
	few, err := adm.ListTopics(ctx)
	if err != nil || !slices.Equal(few.Names(), []string{"t"}) {
		t.Errorf("%v, %v", few.Names(), err)
	}
	topic, err := d.broker.Topic(broker.OffsetsTopic)
	if err != nil {
		t.Fatal(err)
	}
	w := d.dial(t)
	denied := kerr.TopicAuthorizationFailed
	for _, version := range []int16{9, 13} {
		if p := ask[*kmsg.ProduceResponse](w, produceTo(version, topic, -1, sequenced(t, -1, -1, -1))).Topics[0].Partitions[0]; p.ErrorCode != denied.Code {
			t.Errorf("produce: %v", kerr.ErrorForCode(p.ErrorCode))
		}
	}
	deletion, err := adm.DeleteTopics(ctx, broker.OffsetsTopic)
	if err != nil || !errors.Is(deletion[broker.OffsetsTopic].Err, denied) {
		t.Errorf("delete: %+v %v", deletion, err)
	}
	growth, err := adm.CreatePartitions(ctx, 1, broker.OffsetsTopic)
	if err != nil || !errors.Is(growth[broker.OffsetsTopic].Err, denied) {
		t.Errorf("grow: %+v %v", growth, err)
	}
	value := "1"
	change, err := adm.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "retention.ms", Value: &value}}, broker.OffsetsTopic)
	if err != nil || !errors.Is(change[0].Err, denied) {
		t.Errorf("alter: %+v %v", change, err)
	}
	cut := kadm.Offsets{}
	cut.Add(kadm.Offset{Topic: broker.OffsetsTopic, Partition: group.OffsetsPartition("g"), At: 1})
	records, err := adm.DeleteRecords(ctx, cut)
	if err != nil || !errors.Is(records[broker.OffsetsTopic][group.OffsetsPartition("g")].Err, denied) {
		t.Errorf("delete records: %+v %v", records, err)
	}
	configs, err := adm.DescribeTopicConfigs(ctx, broker.OffsetsTopic)
	if err != nil || len(configs) != 1 || configs[0].Err != nil || !slices.ContainsFunc(configs[0].Configs, func(c kadm.Config) bool { return c.Key == "cleanup.policy" && c.MaybeValue() == "compact" }) {
		t.Errorf("configs: %+v %v", configs, err)
	}
}

// TestOffsetsTopicOffsets: where it begins, ends, and was at a time.
func TestOffsetsTopicOffsets(t *testing.T) {
	d := open(t, setup{})
	d.topic(t, "t", 1)
	cl := d.client(t)
	adm := kadm.NewClient(cl)
	commits(t, adm, 5, "t", 0, "g")
	commits(t, adm, 6, "t", 0, "g")
	p := group.OffsetsPartition("g")
	all, err := d.own.Groups.Offsets("g", nil)
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	for what, c := range map[string]struct {
		list func(context.Context, ...string) (kadm.ListedOffsets, error)
		want int64
	}{
		"start": {adm.ListStartOffsets, 0}, "end": {adm.ListEndOffsets, 4}, "committed": {adm.ListCommittedOffsets, 4},
		"last": {func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, all[0].CommittedAt+1, topics...) // nothing: the end
		}, 4},
		"first": {func(ctx context.Context, topics ...string) (kadm.ListedOffsets, error) {
			return adm.ListOffsetsAfterMilli(ctx, 1, topics...)
		}, 1},
		"largest time": {adm.ListMaxTimestampOffsets, 3},
	} {
		listed, err := c.list(within30s(t), broker.OffsetsTopic)
		o, ok := listed.Lookup(broker.OffsetsTopic, p)
		if what == "largest time" && o.Offset == 1 {
			continue // both in the same millisecond
		}
		if err != nil || !ok || o.Err != nil || o.Offset != c.want {
			t.Errorf("%s: %+v %v, want %d", what, o, err, c.want)
		}
	}
	w := d.dial(t)
	topic, _ := d.broker.Topic(broker.OffsetsTopic)
	for _, offset := range []int64{-1, 5} {
		q := fetchFrom(13, topic, 0)
		q.Topics[0].Partitions[0].Partition, q.Topics[0].Partitions[0].FetchOffset = p, offset
		if r := ask[*kmsg.FetchResponse](w, q).Topics[0].Partitions[0]; r.ErrorCode != kerr.OffsetOutOfRange.Code || r.HighWatermark != 4 {
			t.Errorf("fetch at %d: %+v", offset, r)
		}
	}
	q := fetchFrom(13, topic, 0)
	q.Topics[0].Partitions[0].Partition = group.OffsetsPartitions
	if r := ask[*kmsg.FetchResponse](w, q).Topics[0].Partitions[0]; r.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("unknown partition: %+v", r)
	}
}
