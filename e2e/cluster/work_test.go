package cluster

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// work is what clients do to a cluster while it suffers.
type work interface {
	// run goes on until ctx ends. It notes what it was told.
	run(ctx context.Context)
	// judge compares that with what is there now that nothing is wrong any more.
	judge(ctx context.Context)
}

// works makes every kind of work.
func works(t *testing.T, n *nodes) map[string]work {
	return map[string]work{
		"gateways": newGateways(t, n),
		"producer": newProducer(t, n),
		"admin":    newAdmin(t, n),
		"line":     newLine(t, n),
		"share":    newShare(t, n),
		"queue":    newQueue(t, n),

		"transactions": newTransactions(t, n),
	}
}

// runAll runs all works until the returned stop is called, which waits for them.
func runAll(ctx context.Context, all map[string]work) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	for _, w := range all {
		running.Go(func() { w.run(ctx) })
	}
	return func() { cancel(); running.Wait() }
}

// newClient makes a Kafka client of the whole cluster.
func newClient(t *testing.T, n *nodes, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append(append(clientOptions(), kgo.SeedBrokers(n.kafka()...)), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.CloseAllowingRebalance)
	return client
}

// clientOptions makes clients notice soon that something is elsewhere.
func clientOptions() []kgo.Opt {
	return []kgo.Opt{kgo.MetadataMinAge(100 * time.Millisecond), kgo.MetadataMaxAge(2 * time.Second),
		kgo.DialTimeout(2 * time.Second), kgo.RequestTimeoutOverhead(5 * time.Second)}
}
