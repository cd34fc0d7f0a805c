package listappend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kversion"
)

// Options of Run. All fields are required but Client.
type Options struct {
	Brokers []string
	Topic   string // its partitions are the lists; it exists, and nobody else writes to it
	Lists   int32
	Writers int // clients, each with a transactional id of its own
	Seed    uint64
	Client  []kgo.Opt // further options of all clients
	Log     func(format string, a ...any)
}

// run is the clients of one Run.
type run struct {
	o    Options
	next atomic.Int64 // value

	mu  sync.Mutex
	all []Transaction // guarded by mu
}

// times of the clients
const (
	requestTime = 10 * time.Second // for one transaction to be written or to end
	pollTime    = 50 * time.Millisecond
	againTime   = 200 * time.Millisecond // until another client begins after an error
)

// Run lets clients do transactions until ctx ends, and returns what they did. A client that
// does not know the outcome of its transaction is replaced by one with the same
// transactional id.
func Run(ctx context.Context, o Options) []Transaction {
	r := &run{o: o}
	var writers sync.WaitGroup
	for i := range o.Writers {
		writers.Go(func() {
			random := rand.New(rand.NewPCG(o.Seed, uint64(i)))
			for ctx.Err() == nil {
				if err := r.client(ctx, i, random); err != nil && ctx.Err() == nil {
					o.Log("client %d: %v", i, err)
					sleep(ctx, againTime)
				}
			}
		})
	}
	writers.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (o *Options) options(more ...kgo.Opt) []kgo.Opt {
	return append(append([]kgo.Opt{kgo.SeedBrokers(o.Brokers...)}, o.Client...), more...)
}

// everything has a reader begin at the start of all lists.
func (o *Options) everything() kgo.Opt {
	at := make(map[int32]kgo.Offset, o.Lists)
	for list := range o.Lists {
		at[list] = kgo.NewOffset().AtStart()
	}
	return kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{o.Topic: at})
}

// client does transactions until one has an unknown outcome. Every second client does not
// know the newer version of transactions (KIP-890).
func (r *run) client(ctx context.Context, i int, random *rand.Rand) error {
	versions := kversion.Stable()
	if i%2 == 1 {
		versions = kversion.V3_8_0()
	}
	writer, err := kgo.NewClient(r.o.options(kgo.MaxVersions(versions), kgo.TransactionalID(fmt.Sprintf("%s-%d", r.o.Topic, i)), kgo.TransactionTimeout(20*time.Second), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DefaultProduceTopic(r.o.Topic), kgo.RecordDeliveryTimeout(requestTime), kgo.ProducerLinger(0))...)
	if err != nil {
		return err
	}
	defer writer.Close()
	reader, err := kgo.NewClient(r.o.options(r.o.everything(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.FetchMaxWait(pollTime))...)
	if err != nil {
		return err
	}
	defer reader.Close()
	for ctx.Err() == nil {
		t, err := r.transaction(writer, reader, random)
		r.mu.Lock()
		r.all = append(r.all, t)
		r.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// transaction appends a few values to random lists, and reads a little in between. It is
// not cut short when the clients are to end, so that few outcomes are unknown.
func (r *run) transaction(writer, reader *kgo.Client, random *rand.Rand) (Transaction, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*requestTime)
	defer cancel()
	t := Transaction{Outcome: Unknown}
	if err := writer.BeginTransaction(); err != nil {
		return Transaction{Outcome: Aborted}, fmt.Errorf("begin: %w", err)
	}
	failed := r.write(ctx, writer, random, &t)
	if random.IntN(3) == 0 {
		t.Reads = read(ctx, reader)
	}
	if failed == nil {
		failed = r.write(ctx, writer, random, &t)
	}
	commit := failed == nil && random.IntN(4) > 0
	if !commit { // whatever becomes of the request, the transaction is not committed
		t.Outcome = Aborted
	}
	err := writer.EndTransaction(ctx, kgo.TransactionEndTry(commit))
	if err == nil && commit {
		t.Outcome = Committed
	}
	return t, errors.Join(failed, err)
}

// write appends one to three values at once, and notes those that are acknowledged.
func (r *run) write(ctx context.Context, writer *kgo.Client, random *rand.Rand, t *Transaction) error {
	var records []*kgo.Record
	for range 1 + random.IntN(3) {
		records = append(records, &kgo.Record{Partition: random.Int32N(r.o.Lists), Value: strconv.AppendInt(nil, r.next.Add(1), 10)})
	}
	var failed error
	for _, done := range writer.ProduceSync(ctx, records...) {
		if done.Err != nil {
			failed = errors.Join(failed, fmt.Errorf("append: %w", done.Err))
			continue
		}
		t.Appends = append(t.Appends, appended(done.Record))
	}
	return failed
}

func appended(x *kgo.Record) Append {
	value, err := strconv.ParseInt(string(x.Value), 10, 64)
	if err != nil {
		value = -1 // nobody has written it
	}
	return Append{x.Partition, Element{x.Offset, Value(value)}}
}

// read returns what the reader has not read yet, if it comes at once.
func read(ctx context.Context, reader *kgo.Client) (all []Append) {
	ctx, cancel := context.WithTimeout(ctx, pollTime)
	defer cancel()
	reader.PollFetches(ctx).EachRecord(func(x *kgo.Record) { all = append(all, appended(x)) })
	return all
}

// Read returns the lists as they are now that no client writes any more. It waits until no
// transaction is open, for as long as ctx allows.
func Read(ctx context.Context, o Options) (Lists, error) {
	// With the markers, the last record of a list is at its end, whatever was aborted.
	reader, err := kgo.NewClient(o.options(o.everything(), kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())...)
	if err != nil {
		return nil, err
	}
	defer reader.Close()
	ends, err := settled(ctx, kadm.NewClient(reader), o.Topic)
	if err != nil {
		return nil, err
	}
	all, at := make(Lists), make(map[int32]int64)
	for {
		behind := false
		for list, end := range ends {
			behind = behind || at[list] < end
		}
		if !behind {
			return all, nil
		}
		fetches := reader.PollFetches(ctx)
		if ctx.Err() != nil {
			return nil, fmt.Errorf("read to the ends %v, got to %v: %w", ends, at, ctx.Err())
		}
		fetches.EachRecord(func(x *kgo.Record) {
			if at[x.Partition] = x.Offset + 1; !x.Attrs.IsControl() {
				a := appended(x)
				all[a.List] = append(all[a.List], a.Element)
			}
		})
	}
}

// settled waits until the last stable offset of each list is its end, and returns the ends.
func settled(ctx context.Context, admin *kadm.Client, topic string) (map[int32]int64, error) {
	for {
		stable, err := admin.ListCommittedOffsets(ctx, topic)
		var last kadm.ListedOffsets
		if err == nil {
			last, err = admin.ListEndOffsets(ctx, topic)
		}
		err = errors.Join(err, stable.Error(), last.Error())
		ends, open := make(map[int32]int64), ""
		last.Each(func(o kadm.ListedOffset) {
			ends[o.Partition] = o.Offset
			if s, _ := stable.Lookup(topic, o.Partition); s.Offset != o.Offset {
				open += fmt.Sprintf("list %d is stable up to %d of %d; ", o.Partition, s.Offset, o.Offset)
			}
		})
		if err == nil && open == "" && len(ends) > 0 {
			return ends, nil
		}
		if sleep(ctx, againTime); ctx.Err() != nil {
			return nil, fmt.Errorf("%s%w: %w", open, ctx.Err(), err)
		}
	}
}
