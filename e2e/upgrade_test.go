package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/e2e/harness"
)

// before is the last commit at which a node had to close the log of a shard to hand it
// over, and said nothing of itself to others.
const before = "c06525c"

// TestRollingUpgrade: three nodes of an earlier version become ones of this version, one
// after the other under load, and earlier ones again. Nothing that was acknowledged is lost,
// and every partition can be written to all along.
func TestRollingUpgrade(t *testing.T) {
	if os.Getenv("WEIR_SOAK") == "" {
		t.Skip("set WEIR_SOAK=1: it builds an earlier version, and takes a minute")
	}
	dir, err := harness.Earlier(t.TempDir(), before, "cloud/weir-cloud")
	if errors.Is(err, harness.ErrNoHistory) {
		t.Skipf("SKIPPED, NOTHING IS PROVED: %v; a fresh clone has it", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	earlier, names := filepath.Join(dir, "weir-cloud"), []string{"one", "two", "three"}
	n := startShards(t)
	for _, name := range names {
		n.ports[name] = freePort(t)
		n.startAs(name, earlier)
	}
	cl := n.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(t.Context(), shardPartitions, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	n.allLead(admin, len(names))
	p := &producing{acked: make(map[int32][]int)}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { p.run(ctx, t, cl) })
	for _, binary := range []string{"weir-cloud", earlier} {
		for i, name := range names {
			if err := n.nodes[name].Stop(); err != nil {
				t.Errorf("stop %s: %v", name, err)
			}
			n.startAs(name, binary)
			n.allLead(admin, len(names))
			n.writes(t, p)
			if binary != earlier {
				n.lists(t, name, names, i+1)
			}
		}
	}
	stop()
	running.Wait()
	p.judge(t, n.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
}

// allLead waits until each of so many nodes leads partitions.
func (n *shardNodes) allLead(admin *kadm.Client, nodes int) {
	n.t.Helper()
	within(n.t, 30*time.Second, "each node leads partitions", func() bool {
		total := 0
		by := n.leaders(admin, "t")
		for _, led := range by {
			total += led
		}
		return total == shardPartitions && len(by) == nodes
	})
}

// writes waits until more records are acknowledged in each partition.
func (n *shardNodes) writes(t *testing.T, p *producing) {
	t.Helper()
	at := p.counts()
	within(t, 30*time.Second, "all partitions are written to", func() bool {
		for partition, now := range p.counts() {
			if now < at[partition]+20 {
				return false
			}
		}
		return true
	})
}

// lists checks that a node of this version lists all, and knows those of the earlier one.
func (n *shardNodes) lists(t *testing.T, at string, names []string, present int) {
	t.Helper()
	out, said, err := harness.Run("weirctl", "nodes", "-o", "json", "--cloud", n.nodes[at].Addr["http"], "--data", filepath.Join(n.dir, at))
	var all console.Nodes
	if err == nil {
		err = json.Unmarshal([]byte(out), &all)
	}
	if err != nil {
		t.Fatalf("weirctl nodes: %v\n%s", err, said)
	}
	tell := 0
	for _, one := range all.Nodes {
		if one.State != console.NodeUp {
			t.Errorf("node %s is %s: %s", one.Name, one.State, one.Error)
		}
		if one.Error == "" {
			tell++
		}
	}
	if len(all.Nodes) != len(names) || tell != present {
		t.Errorf("%d nodes are listed, and %d of %d say something of themselves: %s", len(all.Nodes), tell, present, out)
	}
}
