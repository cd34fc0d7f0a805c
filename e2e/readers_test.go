package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/device"
)

// TestOldReader: kafka-python 2.0.2 fetches by a version that is older than zstd, and
// reads what a gateway has packed with it.
func TestOldReader(t *testing.T) {
	python := ""
	for _, program := range []string{"python3", "/usr/bin/python3"} {
		if exec.CommandContext(t.Context(), program, "-c", "import kafka, zstandard").Run() == nil {
			python = program
			break
		}
	}
	if python == "" {
		need(t, "python3 with kafka and zstandard", "python3-kafka python3-zstandard")
	}
	c := open(t, &harness.Cluster{})
	fleet := c.Fleet(10, time.Millisecond, 1)
	fleet.Count = 60
	var stats device.Stats
	fleet.Run(t.Context(), &stats)
	total := int(stats.Acked.Load())
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	reader := kafkaClient(t, c.Kafka(), kgo.ConsumeTopics("sensors"))
	zstd := 0
	for n := 0; n < total; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d records of %d: %v", n, total, err)
		}
		for _, r := range fetches.Records() {
			if n++; r.Attrs.CompressionType() == 4 {
				zstd++
			}
		}
	}
	if zstd < total/2 {
		t.Fatalf("%d records of %d were packed with zstd", zstd, total)
	}
	out := run(t, exec.CommandContext(t.Context(), python, "clients/python/old_reader.py", c.Kafka(), "sensors", fmt.Sprint(total)))
	if strings.TrimSpace(out) != "ok" {
		t.Errorf("the client said %q", out)
	}
}

// offsets is what somebody knows who reads the offsets topic, as Burrow does: the
// committed offsets by group, topic and partition.
type offsets map[string]int64

// take decodes a record as Burrow does.
func (o offsets) take(r *kgo.Record) {
	text := func(b []byte) (string, []byte) {
		n := 2 + int(binary.BigEndian.Uint16(b))
		return string(b[2:n]), b[n:]
	}
	if version := binary.BigEndian.Uint16(r.Key); version > 1 || len(r.Value) == 0 {
		return // about the group itself; what is removed Burrow lets expire
	}
	group, rest := text(r.Key[2:])
	topic, rest := text(rest)
	o[fmt.Sprintf("%s %s/%d", group, topic, binary.BigEndian.Uint32(rest))] = int64(binary.BigEndian.Uint64(r.Value[2:]))
}

func (o offsets) readUntil(t *testing.T, reader *kgo.Client, want offsets) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for !maps.Equal(o, want) {
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			t.Fatalf("known: %v, want %v", o, want)
		}
		fetches.EachRecord(o.take)
	}
}

// TestOffsetsTopic: somebody who reads the offsets topic goes on reading when the
// owner is killed, at the offsets at which he was, and somebody who comes then
// learns the same.
func TestOffsetsTopic(t *testing.T) {
	c := cloud(t)
	second := standby(t, c, "second")
	nodes := []string{c.Kafka(), second.Addr["kafka"]}
	createTopics(t, c, 4, "t")
	client := kafkaClient(t, nodes[0], kgo.SeedBrokers(nodes...))
	admin := kadm.NewClient(client)
	want := offsets{}
	commit := func(group string, partition int32, at int64) {
		t.Helper()
		o := make(kadm.Offsets)
		o.Add(kadm.Offset{Topic: "t", Partition: partition, At: at, LeaderEpoch: -1})
		within(t, 30*time.Second, "a commit", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			_, err := admin.CommitOffsets(ctx, group, o)
			return err == nil
		})
		want[fmt.Sprintf("%s t/%d", group, partition)] = at
	}
	for i := range 40 {
		commit(fmt.Sprint("g", i%8), int32(i%4), int64(i))
	}
	known := offsets{}
	reader := kafkaClient(t, nodes[0], kgo.SeedBrokers(nodes...), kgo.ConsumeTopics("__consumer_offsets"))
	known.readUntil(t, reader, want)
	before, err := admin.ListEndOffsets(t.Context(), "__consumer_offsets")
	if err != nil {
		t.Fatal(err)
	}

	c.Cloud.Kill()
	within(t, 30*time.Second, "the standby leads", func() bool {
		body, err := os.ReadFile(second.Log)
		return err == nil && strings.Contains(string(body), "msg=leading")
	})
	var after kadm.ListedOffsets
	within(t, 30*time.Second, "the next owner's offsets", func() bool {
		after, err = admin.ListEndOffsets(t.Context(), "__consumer_offsets")
		return err == nil && after.Error() == nil
	})
	before.Each(func(o kadm.ListedOffset) {
		if n, ok := after.Lookup(o.Topic, o.Partition); !ok || n.Offset != o.Offset {
			t.Errorf("partition %d ended at %d, and ends at %d", o.Partition, o.Offset, n.Offset)
		}
	})
	for i := range 40 {
		commit(fmt.Sprint("g", i%8), int32(i%4), int64(1000+i))
	}
	commit("new", 0, 7)
	known.readUntil(t, reader, want)
	offsets{}.readUntil(t, kafkaClient(t, nodes[1], kgo.ConsumeTopics("__consumer_offsets")), want)
}
