package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// earlier is the last commit at which format level 1 was the newest.
const earlier = "3ca7736"

// earlierCloud builds weir-cloud as it was then. In a copy without its history there is
// nothing to build.
func earlierCloud(t *testing.T) string {
	t.Helper()
	dir, err := harness.Earlier(t.TempDir(), earlier, "cloud/weir-cloud")
	if errors.Is(err, harness.ErrNoHistory) {
		t.Skipf("SKIPPED, NOTHING IS PROVED: %v; a fresh clone has it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, "weir-cloud")
}

// pair is a bucket with an earlier node and one of today.
type pair struct {
	t            *testing.T
	dir, bucket  string
	old, present string // binaries
	values       []string
}

func (p *pair) start(name, binary string) *harness.Process {
	p.t.Helper()
	node, err := harness.Start(p.dir, name, binary, "--data", filepath.Join(p.dir, name), "--bucket", p.bucket,
		"--sync", "off", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(node.Kill)
	return node
}

// leads waits until a node leads.
func (p *pair) leads(node *harness.Process) {
	p.t.Helper()
	within(p.t, 30*time.Second, node.Name+" leads", func() bool {
		body, err := os.ReadFile(node.Log)
		if err != nil {
			return false
		}
		lives := strings.Split(string(body), "---- ")
		return strings.Contains(lives[len(lives)-1], "msg=leading")
	})
}

// stays makes sure that the standby finds the owner alive by whatever both know.
func (p *pair) stays(owner *harness.Process) {
	p.t.Helper()
	claims := func() int {
		all, err := filepath.Glob(filepath.Join(strings.TrimPrefix(p.bucket, "file:"), "0000", "epoch", "*"))
		if err != nil {
			p.t.Fatal(err)
		}
		return len(all)
	}
	before := claims()
	pause(p.t.Context(), 7*time.Second) // twice the takeover time
	if n := claims() - before; n > 0 {
		p.t.Errorf("%d claims beside %s, which lives", n, owner.Name)
	}
}

// produce appends a record by way of a node, and reads everything there.
func (p *pair) produce(node *harness.Process) {
	p.t.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(node.Addr["kafka"]), kgo.DefaultProduceTopic("t"), kgo.AllowAutoTopicCreation(),
		kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond))
	if err != nil {
		p.t.Fatal(err)
	}
	defer client.Close()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	value := fmt.Sprint(node.Name, " ", len(p.values))
	if err := client.ProduceSync(ctx, &kgo.Record{Value: []byte(value)}).FirstErr(); err != nil {
		p.t.Fatalf("produce to %s: %v", node.Name, err)
	}
	p.values = append(p.values, value)
	var got []string
	for len(got) < len(p.values) {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			p.t.Fatalf("%s gives %q of %q", node.Name, got, p.values)
		}
		fetches.EachRecord(func(r *kgo.Record) { got = append(got, string(r.Value)) })
	}
	want := slices.Clone(p.values)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		p.t.Errorf("%s gives %q, appended were %q", node.Name, got, p.values)
	}
}

// TestEarlierNode: on a bucket of format level 1 a node of an earlier commit and one of
// today take over from each other, both ways. When the bucket is raised to level 2 the
// earlier one refuses, and says why; today's goes on.
func TestEarlierNode(t *testing.T) {
	t.Parallel() // it mostly waits
	p := &pair{t: t, dir: t.TempDir(), bucket: "file:" + filepath.Join(t.TempDir(), "bucket"), old: earlierCloud(t), present: "weir-cloud"}
	before := p.start("before", p.old)
	p.produce(before)
	present := p.start("present", p.present)
	if role := present.Addr["role"]; role != "standby" {
		t.Errorf("beside an earlier owner today's node is %s", role)
	}
	p.stays(before)
	before.Kill()
	p.leads(present)
	p.produce(present)
	before = p.start("before", p.old)
	if role := before.Addr["role"]; role != "standby" {
		t.Errorf("beside today's owner the earlier node is %s", role)
	}
	p.stays(present)
	if err := present.Stop(); err != nil {
		t.Error(err)
	}
	p.leads(before)
	p.produce(before)
	if err := before.Stop(); err != nil {
		t.Error(err)
	}
	sound(t, p.bucket)
	if out, _, err := harness.Run("weirctl", "upgrade", p.bucket); err != nil || !strings.Contains(out, "raised from 1 to 2") {
		t.Fatalf("upgrade: %v, %s", err, out)
	}
	_, said, err := harness.Run(p.old, "--data", filepath.Join(p.dir, "before"), "--bucket", p.bucket,
		"--sync", "off", "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err == nil || !strings.Contains(said, "format level 2") {
		t.Errorf("the earlier node on a bucket of level 2: %v, %s", err, said)
	}
	present = p.start("present", p.present)
	p.leads(present)
	p.produce(present)
	if err := present.Stop(); err != nil {
		t.Error(err)
	}
	sound(t, p.bucket)
}
