package e2e

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// balancer is a TCP load balancer before the listeners with route=here of some nodes. Each
// connection goes to the next node that takes it.
type balancer struct {
	ln net.Listener

	mu    sync.Mutex
	names []string          // of nodes; guarded by mu
	nodes map[string]string // their addresses, by name; guarded by mu
	next  int               // guarded by mu
	conns map[net.Conn]bool // guarded by mu
}

func newBalancer(t *testing.T) *balancer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &balancer{ln: ln, nodes: make(map[string]string), conns: make(map[net.Conn]bool)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			all.Go(func() { b.pass(c) })
		}
	})
	t.Cleanup(func() {
		ln.Close()
		b.mu.Lock()
		for c := range b.conns {
			c.Close()
		}
		b.mu.Unlock()
		all.Wait()
	})
	return b
}

func (b *balancer) address() string { return b.ln.Addr().String() }

// flags returns what a node behind the balancer needs, nothing if that is nil.
func (b *balancer) flags(t *testing.T, name string) []string {
	t.Helper()
	if b == nil {
		return nil
	}
	return []string{"--kafka", fmt.Sprintf("name=here,listen=%s,advertise=%s,route=here", b.backend(t, name), b.address())}
}

// backend returns the address of a node, which is the same in all its lives.
func (b *balancer) backend(t *testing.T, name string) string {
	t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.nodes[name] == "" {
		b.nodes[name] = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		b.names = append(b.names, name)
	}
	return b.nodes[name]
}

// pass passes a connection on until either side ends it.
func (b *balancer) pass(c net.Conn) {
	defer c.Close()
	b.mu.Lock()
	count := len(b.names)
	b.mu.Unlock()
	for range count {
		b.mu.Lock()
		at := b.nodes[b.names[b.next%count]]
		b.next++
		b.mu.Unlock()
		to, err := net.DialTimeout("tcp", at, time.Second)
		if err != nil {
			continue
		}
		b.mu.Lock()
		b.conns[c], b.conns[to] = true, true
		b.mu.Unlock()
		var both sync.WaitGroup
		for from, into := range map[net.Conn]net.Conn{c: to, to: c} {
			both.Go(func() {
				_, _ = io.Copy(into, from) // the end of one is the end of both
				c.Close()
				to.Close()
			})
		}
		both.Wait()
		b.mu.Lock()
		delete(b.conns, c)
		delete(b.conns, to)
		b.mu.Unlock()
		return
	}
}

// TestHere: clients of three nodes behind one address write and read all partitions, as
// members of groups and share groups too, while one node after the other is restarted:
// nothing acknowledged is lost, doubled or out of order.
func TestHere(t *testing.T) {
	n := startShardsBehind(t, newBalancer(t), "one", "two", "three")
	cl := n.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	admin := kadm.NewClient(cl)
	if _, err := admin.CreateTopic(t.Context(), shardPartitions, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	n.spread(t)
	if led := n.leaders(admin, "t"); len(led) != 1 || led[1] != shardPartitions {
		t.Fatalf("partitions by node: %v", led)
	}
	shareSetting(t, cl, "share.auto.offset.reset", "earliest")
	p := &producing{acked: make(map[int32][]int)}
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { p.run(ctx, t, cl) })
	reader := n.client(kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit())
	for _, name := range []string{"one", "two", "three"} {
		readSome(t, reader, 100)
		if err := reader.CommitUncommittedOffsets(t.Context()); err != nil {
			t.Logf("commit: %v", err) // the coordinator moves
		}
		if err := n.nodes[name].Stop(); err != nil {
			t.Fatal(err)
		}
		n.start(name)
		at := p.counts()
		within(t, 30*time.Second, "all partitions are written to again", func() bool {
			for partition, now := range p.counts() {
				if now < at[partition]+5 {
					return false
				}
			}
			return true
		})
	}
	taken := n.share(t, 100)
	for value := range n.share(t, 100) {
		if taken[value] {
			t.Errorf("record %s was accepted, and is delivered again", value)
		}
	}
	within(t, 20*time.Second, "the group's offsets are answered", func() bool {
		offsets, err := admin.FetchOffsets(t.Context(), "g")
		return err == nil && len(offsets["t"]) > 0
	})
	stop()
	running.Wait()
	p.judge(t, n.client(kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart())))
}

// spread waits until each node leads partitions of the topic, as clients see that have all
// addresses.
func (n *shardNodes) spread(t *testing.T) {
	t.Helper()
	direct := *n
	direct.here = nil
	admin := kadm.NewClient(direct.client())
	within(t, 30*time.Second, "each node leads partitions", func() bool {
		total, by := 0, n.leaders(admin, "t")
		for _, led := range by {
			total += led
		}
		return total == shardPartitions && len(by) == len(n.nodes)
	})
}
