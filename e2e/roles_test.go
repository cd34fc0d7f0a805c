package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// TestRoles: Kafka clients use a cluster through a door with route=here, whose only owner
// has no listener for them. While no node with the other roles is there, they are told to try
// again, and their records are acknowledged when one comes.
func TestRoles(t *testing.T) {
	dir := t.TempDir()
	start := func(name string, flags ...string) *harness.Process {
		p, err := harness.Start(dir, name, "weir-cloud", append([]string{"--data", filepath.Join(dir, name), "--node-id", name, "--bucket", "file:" + filepath.Join(dir, "bucket"),
			"--shards", "2", "--http", "off", "--peer", "127.0.0.1:0"}, flags...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.Kill)
		return p
	}
	owner := start("owner", "--roles", "meta,log")
	door := start("door", "--roles", "door", "--sync", "off", "--kafka", "listen=127.0.0.1:0,route=here")
	client, err := kgo.NewClient(kgo.SeedBrokers(door.Addr["kafka"]), kgo.DefaultProduceTopic("readings"), kgo.AllowAutoTopicCreation(), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.ConsumeTopics("readings"), kgo.ConsumerGroup("readers"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	const records = 20
	for i := range records {
		if err := client.ProduceSync(ctx, kgo.KeyStringRecord(fmt.Sprint(i), "early")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	if err := owner.Stop(); err != nil {
		t.Fatal(err)
	}
	acked := make(chan error, records)
	for i := range records {
		client.Produce(ctx, kgo.KeyStringRecord(fmt.Sprint(i), "late"), func(_ *kgo.Record, err error) { acked <- err })
	}
	start("owner", "--roles", "meta,log")
	for range records {
		if err := <-acked; err != nil {
			t.Error(err)
		}
	}
	for read := 0; read < 2*records; {
		fetches := client.PollFetches(ctx)
		if err := errors.Join(ctx.Err(), fetches.Err0()); err != nil {
			t.Fatalf("%d records were read: %v", read, err)
		}
		read += fetches.NumRecords()
	}
	if err := client.CommitUncommittedOffsets(ctx); err != nil {
		t.Error(err)
	}
}
