package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/weirmq/weir/e2e/harness"
)

// A ledger of transactions: what became of each, as its producer was told.
type transactions struct {
	mu    sync.Mutex
	fates map[string]string // by the transaction's name: committed, aborted, unknown
}

func (l *transactions) note(name, fate string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.fates[name] = fate
}

const (
	inTransaction = 6 // records of each transaction
	txPartitions  = 3
)

// TestKillTransactions: producers commit and abort transactions and a consumer
// moves what it reads into another topic, exactly once, while the node is killed
// again and again. Afterwards, read_committed: of a committed transaction every
// record, once; of an aborted one none; of one with an unknown end all or none;
// and each record that was read was moved once.
func TestKillTransactions(t *testing.T) {
	kills := 5
	if os.Getenv("WEIR_SOAK") != "" {
		kills = 100
	}
	c := cloud(t)
	createTopics(t, c, txPartitions, "ledger", "moved")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ledger := &transactions{fates: make(map[string]string)}
	var workers sync.WaitGroup
	for id := range 4 {
		workers.Go(func() { produceTransactions(ctx, t, c.Kafka(), id, ledger) })
	}
	moverDone := make(chan struct{})
	moverCtx, stopMover := context.WithCancel(t.Context())
	defer stopMover()
	go func() { defer close(moverDone); move(moverCtx, t, c.Kafka()) }()

	seed := rand.Uint64()
	rng := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	for range kills {
		pause := time.NewTimer(time.Duration(500+rng.IntN(1_500)) * time.Millisecond)
		<-pause.C
		c.Cloud.Kill()
		if err := c.StartCloud(); err != nil {
			t.Fatal(err)
		}
	}
	stop()
	workers.Wait()
	read := readCommitted(t, c.Kafka(), "ledger")
	within(t, 2*time.Minute, fmt.Sprintf("all %d records moved", len(read)), func() bool {
		return len(readCommitted(t, c.Kafka(), "moved")) >= len(read)
	})
	stopMover()
	<-moverDone
	ledger.audit(t, read, readCommitted(t, c.Kafka(), "moved"))
}

func createTopics(t *testing.T, c *harness.Cluster, partitions int32, names ...string) {
	t.Helper()
	admin := kadm.NewClient(kafkaClient(t, c.Kafka()))
	for _, name := range names {
		if _, err := admin.CreateTopic(t.Context(), partitions, 1, nil, name); err != nil {
			t.Fatal(err)
		}
	}
}

func kafkaClient(t *testing.T, server string, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	client, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(server), kgo.MetadataMinAge(50 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

// produceTransactions goes on until ctx ends. A producer that does not know how
// its transaction ended is given up, and the next one fences it.
func produceTransactions(ctx context.Context, t *testing.T, server string, id int, ledger *transactions) {
	rng := rand.New(rand.NewPCG(uint64(id), 1))
	for number, generation := 0, 0; ctx.Err() == nil; generation++ {
		client, err := kgo.NewClient(kgo.SeedBrokers(server), kgo.TransactionalID(fmt.Sprint("producer-", id)),
			kgo.DefaultProduceTopic("ledger"), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(50*time.Millisecond),
			kgo.TransactionTimeout(time.Minute))
		if err != nil {
			t.Error(err)
			return
		}
		for ctx.Err() == nil {
			name := fmt.Sprintf("%d.%d.%d", id, generation, number)
			number++
			fate := produceTransaction(t.Context(), client, name, rng.IntN(3) > 0)
			ledger.note(name, fate)
			if fate == "unknown" {
				break
			}
		}
		client.CloseAllowingRebalance()
	}
}

// produceTransaction returns what became of one transaction.
func produceTransaction(ctx context.Context, client *kgo.Client, name string, commit bool) string {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	if err := client.BeginTransaction(); err != nil {
		return "unknown"
	}
	records := make([]*kgo.Record, inTransaction)
	for i := range records {
		records[i] = &kgo.Record{Partition: int32(i % txPartitions), Value: fmt.Appendf(nil, "%s/%d", name, i)}
	}
	if err := client.ProduceSync(ctx, records...).FirstErr(); err != nil {
		commit = false
	}
	// franz-go notes where a topic's partitions are only after it has begun to send
	// what waited for that, and until then ends no transaction in them. This waits.
	if err := client.AbortBufferedRecords(ctx); err != nil {
		return "unknown"
	}
	if err := client.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		return "unknown"
	}
	if commit {
		return "committed"
	}
	return "aborted"
}

// move reads what is committed and produces it again, with the offsets in the
// same transaction.
func move(ctx context.Context, t *testing.T, server string) {
	for ctx.Err() == nil {
		session, err := kgo.NewGroupTransactSession(kgo.SeedBrokers(server), kgo.TransactionalID("mover"), kgo.ConsumerGroup("mover"),
			kgo.ConsumeTopics("ledger"), kgo.DefaultProduceTopic("moved"), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.SessionTimeout(6*time.Second),
			kgo.MetadataMinAge(50*time.Millisecond))
		if err != nil {
			t.Error(err)
			return
		}
		for ctx.Err() == nil && moveOnce(ctx, session) == nil {
		}
		session.Close()
	}
}

func moveOnce(ctx context.Context, session *kgo.GroupTransactSession) error {
	poll, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	fetches := session.PollFetches(poll)
	if fetches.NumRecords() == 0 {
		return nil
	}
	if err := session.Begin(); err != nil {
		return err
	}
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	var failed error
	fetches.EachRecord(func(r *kgo.Record) {
		session.Produce(end, &kgo.Record{Value: r.Value, Key: []byte("k")}, func(_ *kgo.Record, err error) {
			if err != nil {
				failed = err
			}
		})
	})
	if err := session.Client().Flush(end); err != nil {
		failed = errors.Join(failed, err)
	}
	_, err := session.End(end, kgo.TransactionEndTry(failed == nil))
	return err
}

// readCommitted returns all values of a topic, in the order of each partition.
func readCommitted(t *testing.T, server, topic string) []string {
	t.Helper()
	client := kafkaClient(t, server, kgo.ConsumeTopics(topic), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.KeepControlRecords())
	ends, err := kadm.NewClient(client).ListCommittedOffsets(t.Context(), topic)
	if err != nil {
		t.Fatal(err)
	}
	left := make(map[int32]int64)
	ends.Each(func(o kadm.ListedOffset) {
		if o.Offset > 0 {
			left[o.Partition] = o.Offset
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var values []string
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if err := ctx.Err(); err != nil {
			t.Fatalf("%s: %v of the ends not reached", topic, left)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if !r.Attrs.IsControl() {
				values = append(values, string(r.Value))
			}
			if end, ok := left[r.Partition]; ok && r.Offset >= end-1 {
				delete(left, r.Partition)
			}
		})
	}
	return values
}

// audit compares what was read with what the producers were told.
func (l *transactions) audit(t *testing.T, read, moved []string) {
	t.Helper()
	counts := make(map[string]int) // records of each transaction
	seen := make(map[string]bool)
	last := make(map[string]int) // transactions of one producer in one partition are in order
	for _, value := range read {
		name, number, _ := strings.Cut(value, "/")
		if seen[value] {
			t.Errorf("%s was read twice", value)
		}
		seen[value] = true
		counts[name]++
		var producer, generation, n, i int
		if _, err := fmt.Sscanf(value, "%d.%d.%d/%d", &producer, &generation, &n, &i); err != nil {
			t.Fatalf("%q: %v", value, err)
		}
		lane := fmt.Sprint(producer, "/", number)
		if before, ok := last[lane]; ok && n <= before {
			t.Errorf("%s was read behind transaction %d", value, before)
		}
		last[lane] = n
	}
	tally := make(map[string]int)
	for name, fate := range l.fates {
		tally[fate]++
		switch n := counts[name]; {
		case fate == "committed" && n != inTransaction:
			t.Errorf("transaction %s was committed, and %d of its %d records are there", name, n, inTransaction)
		case fate == "aborted" && n != 0:
			t.Errorf("transaction %s was aborted, and %d of its records were read", name, n)
		case fate == "unknown" && n != 0 && n != inTransaction:
			t.Errorf("transaction %s is half there: %d records", name, n)
		}
		delete(counts, name)
	}
	if len(counts) > 0 {
		t.Errorf("records of transactions that nobody began: %v", slices.Collect(maps.Keys(counts)))
	}
	t.Logf("transactions: %v; %d records read, %d moved", tally, len(read), len(moved))
	slices.Sort(read)
	slices.Sort(moved)
	if !slices.Equal(read, moved) {
		t.Errorf("%d records were read and %d moved; the first difference is at %d", len(read), len(moved), firstDifference(read, moved))
	}
	if tally["committed"] < 20 || tally["aborted"] == 0 {
		t.Errorf("too little happened: %v", tally)
	}
}

func firstDifference(a, b []string) int {
	i := 0
	for i < min(len(a), len(b)) && a[i] == b[i] {
		i++
	}
	return i
}
