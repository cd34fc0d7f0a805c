package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// TestFullBucket: the disk under the bucket runs full while a producer writes.
// The node acknowledges nothing more, says why, stays up, and goes on by itself
// when there is room again. What it had acknowledged is there.
func TestFullBucket(t *testing.T) {
	dir := t.TempDir()
	mount := filepath.Join(dir, "mount")
	if err := os.Mkdir(mount, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=12m"); err != nil {
		text := fmt.Sprintf("NO FULL DISK: a file system of its own cannot be mounted (%v): run as root", err)
		if os.Getenv("WEIR_REQUIRE_SERVICES") == "1" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	url := "file:" + filepath.Join(mount, "bucket")
	cloud, err := harness.Start(dir, "cloud", "weir-cloud", "--data", filepath.Join(dir, "cloud"), "--bucket", url,
		"--sync", "off", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0", "--checkpoint-bytes", "1000000", "--segment-bytes", "500000")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cloud.Kill)
	client, err := kgo.NewClient(kgo.SeedBrokers(cloud.Addr["kafka"]), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(),
		kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	acked := 0
	put := func(limit time.Duration) error { // what is late may still come
		answer := make(chan error, 1)
		r := &kgo.Record{Value: fmt.Appendf(nil, "%d %s", acked, strings.Repeat("x", 100_000))}
		client.Produce(t.Context(), r, func(_ *kgo.Record, err error) { answer <- err })
		timer := time.NewTimer(limit)
		defer timer.Stop()
		select {
		case err := <-answer:
			return err
		case <-timer.C:
			return context.DeadlineExceeded
		}
	}
	for ; acked < 10; acked++ {
		if err := put(30 * time.Second); err != nil {
			t.Fatal(err)
		}
	}
	// All the room there is, but for a little.
	junk := filepath.Join(mount, "junk")
	fill(t, junk)
	for ; acked < 200; acked++ {
		if err := put(3 * time.Second); err != nil {
			t.Logf("no more after %d records: %v", acked, err)
			break
		}
	}
	if acked == 200 {
		t.Fatal("the disk never ran full")
	}
	select {
	case <-cloud.Exited():
		t.Fatalf("the node has ended:\n%s", cloud.Tail(10))
	default:
	}
	if log := cloud.Tail(50); !strings.Contains(log, "no space left on device") {
		t.Errorf("the log does not say why:\n%s", log)
	}
	if err := os.Remove(junk); err != nil {
		t.Fatal(err)
	}
	within(t, time.Minute, "writing again", func() bool { return put(10*time.Second) == nil })
	cloud.Kill()
	report := sound(t, url)
	if report.Records < int64(acked)+1 {
		t.Errorf("%d records, %d were acknowledged", report.Records, acked+1)
	}
}

// fill writes a file until there is no room.
func fill(t *testing.T, path string) {
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			return
		}
	}
}
