package e2e

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
	"github.com/weirmq/weir/storage/commitlog/check"
	bucket "github.com/weirmq/weir/storage/open"
	"github.com/weirmq/weir/storage/s3/s3test"
)

// settleTime is how long an audit waits for readings that do not come.
const settleTime = 30 * time.Second

// TestKill: 50 devices send 2,000 QoS 1 readings a second while the edge or
// the cloud is killed at random moments and the link is cut between. Nothing
// may be lost, doubled or out of order.
func TestKill(t *testing.T) {
	kills(t, &harness.Cluster{}, 1)
}

// TestKillAtEveryQoS: the same with a third of the devices at QoS 2, where no
// copy at all is allowed.
func TestKillAtEveryQoS(t *testing.T) {
	kills(t, &harness.Cluster{CloudArgs: busyUpkeep()}, 1, 2, 0)
}

// busyUpkeep lets a cloud rewrite, checkpoint and delete all the time.
func busyUpkeep() []string {
	return []string{"--checkpoint-bytes", "100000", "--segment-bytes", "50000", "--checkpoint-interval", "1s"}
}

// TestKillUpkeep kills the cloud at random moments, of which most lie in the
// middle of rewriting slots into segments, of a checkpoint or of a deletion.
// What lies in the bucket at that moment is whole.
func TestKillUpkeep(t *testing.T) {
	rng := newRand(t)
	rounds := 8
	if soak() {
		rounds = 200
	}
	c := &harness.Cluster{CloudArgs: busyUpkeep()}
	open(t, c)
	auditor := audit.New()
	fleet := c.Fleet(50, 25*time.Millisecond, 1)
	fleet.Event = auditor.Event
	ctx, cancel := context.WithCancel(t.Context())
	var stats device.Stats
	var running sync.WaitGroup
	running.Go(func() { fleet.Run(ctx, &stats) })
	defer running.Wait()
	defer cancel()
	var last check.Report
	for round := range rounds {
		timer := time.NewTimer(200*time.Millisecond + time.Duration(rng.Int64N(int64(time.Second))))
		<-timer.C
		c.Cloud.Kill()
		last = sound(t, c.Bucket)
		t.Logf("round %d: checkpoint %s, %d slots behind it, %d segments, %d orphans", round, last.Checkpoint, last.Slots, last.Segments, last.Orphans)
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	cancel()
	running.Wait()
	if report := settle(t, c.Reader(""), auditor); report.Acked == 0 {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
	if last.Segments == 0 || last.Checkpoint == "" {
		t.Errorf("nothing was rewritten: %+v", last)
	}
}

// sound checks a bucket at rest.
func sound(t *testing.T, url string) check.Report {
	t.Helper()
	b, err := bucket.Open(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	report, err := check.Check(t.Context(), b, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, problem := range report.Problems {
		t.Error(problem)
	}
	return report
}

// TestKillS3: the same with the bucket on a MinIO server.
func TestKillS3(t *testing.T) {
	server := s3test.Start(t)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("the secret of this test\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	kills(t, &harness.Cluster{Bucket: server.NewBucket(t), CloudArgs: []string{"--secret-file", secret}}, 1)
}

func kills(t *testing.T, c *harness.Cluster, qos ...byte) {
	rng := newRand(t)
	rounds := 3
	if soak() {
		rounds = 20
	}
	open(t, c)
	auditor := audit.New()
	fleet := c.Fleet(50, 25*time.Millisecond, qos...)
	fleet.Event = auditor.Event
	ctx, cancel := context.WithCancel(t.Context())
	var stats device.Stats
	var running sync.WaitGroup
	running.Go(func() { fleet.Run(ctx, &stats) })
	defer running.Wait()
	defer cancel()
	for round := range rounds {
		killOne(t, c, rng, round)
	}
	cancel()
	running.Wait()
	report := settle(t, c.Reader(""), auditor)
	if report.Acked == 0 {
		t.Error("nothing was acknowledged: the test shows nothing")
	}
	if report.Reported != 0 {
		t.Errorf("%d readings were reported as lost, though no disk was damaged", report.Reported)
	}
}

// killOne waits, cuts the link for a while or not, kills one of the two
// processes and starts it again.
func killOne(t *testing.T, c *harness.Cluster, rng *rand.Rand, round int) {
	t.Helper()
	pause := func(least, most time.Duration) {
		timer := time.NewTimer(least + time.Duration(rng.Int64N(int64(most-least))))
		defer timer.Stop()
		<-timer.C
	}
	pause(500*time.Millisecond, 3*time.Second)
	cut := rng.IntN(2) == 0
	if cut {
		c.Link.Cut()
		pause(100*time.Millisecond, 3*time.Second)
	}
	victim := "edge"
	if rng.IntN(2) == 0 {
		victim = "cloud"
	}
	t.Logf("round %d: kill the %s, link cut: %v", round, victim, cut)
	var err error
	if victim == "edge" {
		c.Edge.Kill()
		pause(0+time.Millisecond, time.Second)
		err = c.StartEdge()
	} else {
		c.Cloud.Kill()
		pause(0+time.Millisecond, 2*time.Second)
		err = c.StartCloud()
	}
	if err != nil {
		t.Fatal(err)
	}
	if cut {
		pause(100*time.Millisecond, time.Second)
		c.Link.Heal()
	}
}

// settle reads until everything has come, or does not come, and judges.
func settle(t *testing.T, r audit.Reader, a *audit.Auditor) audit.Report {
	t.Helper()
	if err := r.Settle(t.Context(), a, settleTime); err != nil {
		t.Fatal(err)
	}
	report := a.Report()
	line, err := json.Marshal(report)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("audit: %s", line)
	if !report.Clean() {
		t.Errorf("lost %d, duplicated %d, disordered %d", report.Lost, report.Duplicated, report.Disordered)
	}
	return report
}
