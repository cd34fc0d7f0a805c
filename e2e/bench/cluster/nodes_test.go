// Package cluster measures clusters of several nodes: what another node costs, what
// shards bring, how long a move and the death of a node are felt, and what memory
// gateways, shards and topics take. `make bench` runs it; its figures are in ../README.md.
package cluster

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
	"github.com/weirmq/weir/sync/join"
)

// nodes are weir-cloud processes on loopback with one bucket.
type nodes struct {
	b      *testing.B
	dir    string
	bucket string
	shards int
	flags  []string
	idle   float64  // cores: see measureIdle
	sync   []string // the address for gateways of each node

	mu  sync.Mutex         // held to change all, and to read it beside the benchmark
	all []*harness.Process // nil: stopped
}

// startNodes starts count nodes, which are killed at the end of the benchmark. An empty
// bucket is a folder.
func startNodes(b *testing.B, bucket string, shards, count int, flags ...string) *nodes {
	b.Helper()
	n := &nodes{b: b, dir: b.TempDir(), bucket: bucket, shards: shards, flags: flags}
	if n.bucket == "" {
		n.bucket = "file:" + filepath.Join(n.dir, "bucket")
	} else if !strings.HasPrefix(n.bucket, "file:") {
		secret := filepath.Join(n.dir, "secret")
		if err := os.WriteFile(secret, []byte("the secret of this benchmark\n"), 0o600); err != nil {
			b.Fatal(err)
		}
		n.flags = append([]string{"--secret-file", secret}, flags...)
	}
	for i := range count {
		n.all, n.sync = append(n.all, nil), append(n.sync, "127.0.0.1:0")
		n.start(i)
	}
	b.Cleanup(n.stopAll)
	b.Cleanup(func() {
		for _, p := range n.all {
			if p != nil && b.Failed() {
				b.Logf("---- %s\n%s", p.Name, p.Tail(30))
			}
		}
	})
	n.settle()
	return n
}

// start starts a node, with all that it had before, where gateways look for it.
func (n *nodes) start(i int) {
	n.b.Helper()
	name := fmt.Sprintf("n%d", i+1)
	args := append([]string{"--data", filepath.Join(n.dir, name), "--node-id", name, "--bucket", n.bucket, "--shards", strconv.Itoa(n.shards),
		"--peer", "127.0.0.1:0", "--sync", n.sync[i], "--kafka", "127.0.0.1:0", "--http", "127.0.0.1:0"}, n.flags...)
	p, err := harness.Start(n.dir, name, "weir-cloud", args...)
	if err != nil {
		n.b.Fatal(err)
	}
	n.sync[i] = p.Addr["sync"]
	n.set(i, p)
}

func (n *nodes) set(i int, p *harness.Process) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all[i] = p
}

// settle waits until the shards have stayed where they are for three seconds.
func (n *nodes) settle() {
	n.b.Helper()
	if n.shards == 1 {
		return
	}
	last, since := "", time.Now()
	for end := time.Now().Add(time.Minute); time.Now().Before(end); pause(100 * time.Millisecond) {
		if now := n.owned(); now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) > 3*time.Second {
			return
		}
	}
	n.b.Fatalf("the shards do not come to rest: %s", last)
}

// owned is which shards each node owns, with their epochs.
func (n *nodes) owned() string {
	var counts []string
	for _, p := range n.all {
		if p == nil {
			continue
		}
		body, err := get("http://" + p.Addr["http"] + "/metrics")
		if err != nil {
			return err.Error()
		}
		var owned []string
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "weir_shard_epoch{") {
				owned = append(owned, line)
			}
		}
		counts = append(counts, strings.Join(owned, ""))
	}
	return strings.Join(counts, "; ")
}

// stopAll kills what runs.
func (n *nodes) stopAll() {
	for i := range n.all {
		n.kill(i)
	}
}

func (n *nodes) kill(i int) {
	if p := n.all[i]; p != nil {
		p.Kill()
		n.set(i, nil)
	}
}

// stop ends a node as systemd does: it hands its shards over.
func (n *nodes) stop(i int) {
	n.b.Helper()
	if err := n.all[i].Stop(); err != nil {
		n.b.Fatal(err)
	}
	n.set(i, nil)
}

// addresses are those of a door of the nodes that run.
func (n *nodes) addresses(door string) (all []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.all {
		if p != nil {
			all = append(all, p.Addr[door])
		}
	}
	return all
}

// cpu is the processor time that all nodes have used.
func (n *nodes) cpu() (sum time.Duration) {
	n.b.Helper()
	for _, p := range n.all {
		if p == nil {
			continue
		}
		cpu, err := harness.CPU(p.Pid())
		if err != nil {
			n.b.Fatal(err)
		}
		sum += cpu
	}
	return sum
}

// measureIdle notes how many cores the nodes use while nothing happens.
func (n *nodes) measureIdle(length time.Duration) {
	before, began := n.cpu(), time.Now()
	pause(length)
	n.idle = (n.cpu() - before).Seconds() / time.Since(began).Seconds()
}

// measure begins to measure processor time.
func (n *nodes) measure() meter { return meter{n, n.cpu(), time.Now()} }

type meter struct {
	n     *nodes
	cpu   time.Duration
	began time.Time
}

// perMillion is the processor seconds since then for a million records, beyond those of
// idle nodes.
func (m meter) perMillion(records int64) float64 {
	used := (m.n.cpu() - m.cpu).Seconds() - m.n.idle*time.Since(m.began).Seconds()
	return used / float64(records) * 1e6
}

// rss is the memory in bytes of all nodes that run.
func (n *nodes) rss() (sum int64) {
	n.b.Helper()
	for _, p := range n.all {
		if p == nil {
			continue
		}
		bytes, err := p.RSS()
		if err != nil {
			n.b.Fatal(err)
		}
		sum += bytes
	}
	return sum
}

// resetPeaks makes peak begin anew.
func (n *nodes) resetPeaks() {
	n.b.Helper()
	for _, p := range n.all {
		if p == nil {
			continue
		}
		if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", p.Pid()), []byte("5"), 0); err != nil {
			n.b.Fatal(err)
		}
	}
}

// peak is the most memory in bytes that a node has had.
func (n *nodes) peak() (most int64) {
	n.b.Helper()
	for _, p := range n.all {
		if p == nil {
			continue
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.Pid()))
		if err != nil {
			n.b.Fatal(err)
		}
		for line := range strings.Lines(string(status)) {
			var kb int64
			if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kb); err == nil {
				most = max(most, kb<<10)
			}
		}
	}
	return most
}

// token makes a join token for that many gateways.
func (n *nodes) token(gateways int) join.Token {
	n.b.Helper()
	out, said, err := harness.Run("weirctl", "join-token", "--uses", strconv.Itoa(gateways), "--cloud", "http://"+n.all[0].Addr["http"], "--data", filepath.Join(n.dir, "n1"))
	if err != nil {
		n.b.Fatalf("%v: %s", err, said)
	}
	token, err := join.ParseToken(strings.TrimSpace(out))
	if err != nil {
		n.b.Fatal(err)
	}
	return token
}

// client is a Kafka client of the cluster, closed with the benchmark.
func (n *nodes) client(opts ...kgo.Opt) *kgo.Client {
	n.b.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(n.addresses("kafka")...), kgo.RequiredAcks(kgo.AllISRAcks()), kgo.DisableIdempotentWrite(),
		kgo.MetadataMinAge(100 * time.Millisecond)}, opts...)...)
	if err != nil {
		n.b.Fatal(err)
	}
	n.b.Cleanup(client.Close)
	return client
}

// createTopics creates topics.
func (n *nodes) createTopics(partitions int32, names ...string) {
	n.b.Helper()
	created, err := kadm.NewClient(n.client()).CreateTopics(n.b.Context(), partitions, 1, nil, names...)
	if err == nil {
		err = created.Error()
	}
	if err != nil {
		n.b.Fatal(err)
	}
}

// records is how many records a topic has.
func (n *nodes) records(topic string) (sum int64) {
	n.b.Helper()
	listed, err := kadm.NewClient(n.client()).ListEndOffsets(n.b.Context(), topic)
	if err == nil {
		err = listed.Error()
	}
	if err != nil {
		n.b.Fatal(err)
	}
	listed.Each(func(o kadm.ListedOffset) { sum += o.Offset })
	return sum
}

// get returns what a URL answers.
func get(url string) (string, error) {
	resp, err := http.Get(url)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

func mib(bytes int64) float64    { return float64(bytes) / (1 << 20) }
func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
func pause(d time.Duration)      { <-time.After(d) }
