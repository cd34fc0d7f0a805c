package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/firmware-sim/audit"
	"github.com/weirmq/weir/firmware-sim/device"
)

// tiered are nodes with some roles each, of which those that are not doors alone have the
// secret of the bucket.
type tiered struct {
	t      *testing.T
	dir    string
	secret string
}

func startTiered(t *testing.T) *tiered {
	t.Helper()
	n := &tiered{t: t, dir: t.TempDir()}
	n.secret = filepath.Join(n.dir, "secret")
	if err := os.WriteFile(n.secret, []byte("a secret of the bucket"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after those of the processes
		checkBucket(t, n.bucket())
		if t.Failed() {
			keepLogs(t, n.dir)
		}
	})
	return n
}

func (n *tiered) bucket() string { return "file:" + filepath.Join(n.dir, "bucket") }

// start starts a node.
func (n *tiered) start(name string, flags ...string) *harness.Process {
	n.t.Helper()
	p, err := n.tryStart(name, flags...)
	if err != nil {
		n.t.Fatal(err)
	}
	return p
}

func (n *tiered) tryStart(name string, flags ...string) (*harness.Process, error) {
	p, err := harness.Start(n.dir, name, "weir-cloud", append([]string{"--data", filepath.Join(n.dir, name), "--node-id", name, "--bucket", n.bucket(),
		"--http", "127.0.0.1:0", "--peer", "127.0.0.1:0"}, flags...)...)
	if err == nil {
		n.t.Cleanup(p.Kill)
	}
	return p, err
}

// weirctl runs weirctl at a node.
func (n *tiered) weirctl(at *harness.Process, args ...string) string {
	n.t.Helper()
	out, stderr, err := harness.Run("weirctl", append(args, "--cloud", "http://"+at.Addr["http"], "--data", filepath.Join(n.dir, at.Name))...)
	if err != nil {
		n.t.Fatalf("weirctl %s: %v\n%s%s", strings.Join(args, " "), err, out, stderr)
	}
	return out
}

// owners returns how many shards with data each node owns; "" is for nobody.
func (n *tiered) owners(at *harness.Process) map[string]int {
	n.t.Helper()
	var all console.Shards
	if err := json.Unmarshal([]byte(n.weirctl(at, "shards", "-o", "json")), &all); err != nil {
		n.t.Fatal(err)
	}
	owned := make(map[string]int)
	for _, s := range all.Shards[1:] {
		owned[s.Owner]++
	}
	return owned
}

// revoked waits until a process has ended because its node is revoked.
func (n *tiered) revoked(p *harness.Process) {
	n.t.Helper()
	within(n.t, 60*time.Second, p.Name+" ends", func() bool {
		select {
		case <-p.Exited():
			return true
		default:
			return false
		}
	})
	if said := p.Tail(3); p.ExitCode() != 78 || !strings.Contains(said, "this node is revoked") {
		n.t.Errorf("%s ends with %d:\n%s", p.Name, p.ExitCode(), said)
	}
}

// gateway starts weir-edge and returns what its devices do, of which each has acknowledged
// readings at the end.
func (n *tiered) gateway(cloud, token string, auditor *audit.Auditor) device.Fleet {
	n.t.Helper()
	p, err := harness.Start(n.dir, "gw", "weir-edge", "--data", filepath.Join(n.dir, "gw"), "--gateway-id", "gw", "--join", strings.TrimSpace(token),
		"--source-header", "--cloud", cloud, "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0")
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(p.Kill)
	f := device.Fleet{Devices: 3, Prefix: "dev", Seed: 1, Brokers: []string{p.Addr["mqtt"]}, Topic: "sensors/{device}/telemetry", QoS: []byte{1}, Versions: []byte{5}}
	f.Count, f.InFlight, f.Event = 10, 16, auditor.Event
	return f
}

// TestRevokedNodes: a door without the secret joins with a token and serves clients and a
// gateway, also after it was started again without the token. A revoked node that owns data
// ends, and another one serves that; a revoked door ends, and is not served before. Nothing
// that was acknowledged is lost.
func TestRevokedNodes(t *testing.T) {
	t.Parallel() // it mostly waits
	n := startTiered(t)
	owner := n.start("owner", "--roles", "meta,log", "--secret-file", n.secret, "--shards", "3")
	goes := n.start("goes", "--roles", "log", "--secret-file", n.secret)
	within(t, 60*time.Second, "the node that will be revoked owns data", func() bool { return n.owners(owner)["goes"] > 0 })
	token := filepath.Join(n.dir, "token")
	if err := os.WriteFile(token, []byte(n.weirctl(owner, "nodes", "token", "door")), 0o600); err != nil {
		t.Fatal(err)
	}
	kafka, gateways := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	doorFlags := []string{"--roles", "door", "--join-file", token, "--sync", gateways, "--kafka", "listen=" + kafka + ",route=here"}
	door := n.start("door", doorFlags...)
	stays := n.start("stays", "--roles", "log,door", "--secret-file", n.secret, "--sync", "off", "--kafka", "listen=127.0.0.1:0,route=here")

	options := []kgo.Opt{kgo.SeedBrokers(kafka), kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner())}
	cl, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	within(t, 60*time.Second, "the topic is there", func() bool {
		_, err := kadm.NewClient(cl).CreateTopic(t.Context(), shardPartitions, 1, nil, "t")
		return err == nil || errors.Is(err, kerr.TopicAlreadyExists)
	})
	p := &producing{acked: make(map[int32][]int)}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { p.run(ctx, t, cl) })
	written := func(what string) {
		t.Helper()
		at := p.counts()
		within(t, 60*time.Second, "all partitions are written to, "+what, func() bool {
			for partition, now := range p.counts() {
				if now < at[partition]+10 {
					return false
				}
			}
			return true
		})
	}
	auditor := audit.New()
	fleet := n.gateway(gateways, n.weirctl(owner, "join-token"), auditor)
	var stats device.Stats
	fleet.Run(t.Context(), &stats)
	written("through the door")

	if err := os.Remove(token); err != nil {
		t.Fatal(err)
	}
	if err := door.Stop(); err != nil {
		t.Errorf("stop the door: %v\n%s", err, door.Tail(10))
	}
	door = n.start("door", doorFlags...)
	written("through the door that was started without a token")

	n.weirctl(owner, "nodes", "revoke", "goes")
	n.revoked(goes)
	within(t, 60*time.Second, "other nodes own all data", func() bool { by := n.owners(owner); return by["owner"]+by["stays"] == 3 })
	written("when another node has them")
	stop()
	running.Wait()
	reader := audit.Reader{Brokers: []string{kafka}, Topic: "sensors"}
	if err := reader.Settle(t.Context(), auditor, 60*time.Second); err != nil {
		t.Error(err)
	}
	if report := auditor.Report(); !report.Clean() || report.Acked != 30 {
		t.Errorf("readings of the gateway: %+v", report)
	}

	door.Signal(syscall.SIGSTOP) // so that it does not learn of it
	n.weirctl(owner, "nodes", "revoke", "door")
	refused := make(chan error, 1)
	cl.Produce(t.Context(), &kgo.Record{Topic: "t", Partition: 0, Value: []byte("1000000")}, func(_ *kgo.Record, err error) { refused <- err })
	door.Signal(syscall.SIGCONT)
	n.revoked(door)
	cl.Close() // it ends what is not acknowledged
	if err := <-refused; err == nil {
		t.Error("a record was acknowledged that came through a door which was revoked before")
	}
	again, err := n.tryStart("door", doorFlags...)
	if err == nil {
		n.revoked(again)
	} else if !strings.Contains(err.Error(), "this node is revoked") {
		t.Errorf("the revoked door, started again: %v", err)
	}
	other, err := kgo.NewClient(kgo.SeedBrokers(stays.Addr["kafka"]), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	p.judge(t, other)
}
