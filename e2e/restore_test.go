package e2e

import (
	"context"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// TestRestoredBucket: the bucket is replaced by a backup. The gateway sends what
// it still holds, reports what the backup lacks and it has freed, and goes on;
// nothing is there twice.
func TestRestoredBucket(t *testing.T) {
	c := &harness.Cluster{CloudArgs: busyUpkeep()}
	open(t, c)
	auditor := audit.New()
	send := func(prefix string) (acked int64) {
		fleet := c.Fleet(20, 20*time.Millisecond, 1)
		fleet.Prefix = prefix
		fleet.Event = auditor.Event
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
		defer cancel()
		var stats device.Stats
		fleet.Run(ctx, &stats)
		return stats.Acked.Load()
	}
	synced := func() {
		within(t, 30*time.Second, "everything synced", func() bool { return backlog(t, c) == 0 })
	}
	send("in-the-backup")
	synced()
	if err := c.Cloud.Stop(); err != nil {
		t.Fatal(err)
	}
	bucket, backup := filepath.Join(c.Dir, "bucket"), filepath.Join(c.Dir, "backup")
	if err := os.CopyFS(backup, os.DirFS(bucket)); err != nil {
		t.Fatal(err)
	}
	sound(t, "file:"+backup)
	if err := c.StartCloud(); err != nil {
		t.Fatal(err)
	}
	freed := send("freed")
	synced()
	c.Link.Cut()
	send("held")
	c.Cloud.Kill()
	if err := os.Rename(bucket, bucket+".lost"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(backup, bucket); err != nil {
		t.Fatal(err)
	}
	if err := c.StartCloud(); err != nil {
		t.Fatal(err)
	}
	c.Link.Heal()
	// Settle fails the test if a reading is neither there nor reported.
	report := settle(t, c.Reader(""), auditor)
	if report.Reported == 0 || int64(report.Reported) > freed {
		t.Errorf("%d readings reported, %d had been freed", report.Reported, freed)
	}
}

var unacked = regexp.MustCompile(`(?m)^weir_edge_oldest_unacked_seconds (\S+)$`)

// backlog is how old the oldest reading is that the cloud does not have, in
// seconds.
func backlog(t *testing.T, c *harness.Cluster) float64 {
	resp, err := http.Get("http://" + c.Edge.Addr["http"] + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	match := unacked.FindSubmatch(body)
	if match == nil {
		t.Fatalf("no weir_edge_oldest_unacked_seconds in\n%s", body)
	}
	seconds, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil {
		t.Fatal(err)
	}
	return seconds
}
