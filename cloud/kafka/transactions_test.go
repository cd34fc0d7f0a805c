package kafka

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/txn"
	"github.com/weirmq/weir/storage/crc"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// transactionExamples are of the requests about transactions.
func transactionExamples(topic broker.Topic) []kmsg.Request {
	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.Topics = "tx", []kmsg.AddPartitionsToTxnRequestTopic{{Topic: topic.Name, Partitions: []int32{0, 99}}, {Topic: "never", Partitions: []int32{0}}}
	offsets := kmsg.NewPtrAddOffsetsToTxnRequest()
	offsets.TransactionalID, offsets.Group = "tx", "g"
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID = "tx"
	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group, commit.Generation = "tx", "g", -1
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: topic.Name, Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 1, LeaderEpoch: -1}, {Partition: 99}}}}
	producers := kmsg.NewPtrDescribeProducersRequest()
	producers.Topics = []kmsg.DescribeProducersRequestTopic{{Topic: topic.Name, Partitions: []int32{0, 99}}, {Topic: "never", Partitions: []int32{0}}}
	describe := kmsg.NewPtrDescribeTransactionsRequest()
	describe.TransactionalIDs = []string{"tx", "", "never"}
	list := kmsg.NewPtrListTransactionsRequest()
	list.StateFilters = []string{"Ongoing", "Empty"}
	return []kmsg.Request{add, offsets, end, commit, producers, describe, list}
}

// generations are clients that know transactions v2 (KIP-890), and that do not.
var generations = map[string][]kgo.Opt{
	"v2": nil,
	"v1": {kgo.MaxVersions(kversion.V3_5_0())},
}

// write produces values in one transaction and ends it.
func write(t testing.TB, cl *kgo.Client, commit bool, values ...string) {
	t.Helper()
	ctx := within30s(t)
	if err := cl.BeginTransaction(); err != nil {
		t.Fatalf("begin: %v", err)
	}
	for _, v := range values {
		cl.Produce(ctx, kgo.KeyStringRecord(v, v), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Errorf("produce: %v", err)
			}
		})
	}
	// franz-go records where a topic's partitions are only after it has begun to send
	// what waited for that. A client that ends a transaction at once may be told that it
	// has sent nothing. This call waits for the record; there is nothing to abort.
	if err := errors.Join(cl.Flush(ctx), cl.AbortBufferedRecords(ctx)); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TransactionEndTry(commit)); err != nil {
		t.Fatalf("end: %v", err)
	}
}

func valuesOf(rs []*kgo.Record) []string {
	var all []string
	for _, r := range rs {
		all = append(all, string(r.Value))
	}
	return all
}

func TestTransactions(t *testing.T) {
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) {
			d := open(t, setup{})
			d.topic(t, "a", 3)
			cl := d.client(t, append(opts, kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("a"))...)
			var committed, all []string
			for i := range 20 {
				var some []string
				for j := range 10 {
					some = append(some, fmt.Sprint(i, "-", j))
				}
				if write(t, cl, i%3 != 0, some...); i%3 != 0 {
					committed = append(committed, some...)
				}
				all = append(all, some...)
			}
			txns, err := d.broker.Transactions("tx")
			if err != nil {
				t.Fatal(err)
			}
			if x, err := txns.Describe("tx"); err != nil || (x.Producer.Epoch == 20) != (name == "v2") {
				t.Errorf("after 20 transactions it is %+v, %v", x, err)
			}
			for level, want := range map[kgo.IsolationLevel][]string{kgo.ReadCommitted(): committed, kgo.ReadUncommitted(): all} {
				got := valuesOf(poll(t, d.client(t, append(opts, kgo.ConsumeTopics("a"), kgo.FetchIsolationLevel(level))...), len(want)))
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("read %v at %v, want %v", got, level, want)
				}
			}
		})
	}
}

// Clients of both generations may have one transactional id in turn, and the old
// producer is fenced by the new one.
func TestTransactionalIDChangesHands(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	d.topic(t, "a", 1)
	var want []string
	var before *kgo.Client
	for i := range 6 {
		opts := slices.Concat(generations[[]string{"v1", "v2"}[i%2]], []kgo.Opt{kgo.TransactionalID("tx"), kgo.DefaultProduceTopic("a")})
		cl := d.client(t, opts...)
		write(t, cl, true, strconv.Itoa(i))
		want = append(want, strconv.Itoa(i))
		if before != nil {
			if err := before.ProduceSync(ctx, kgo.StringRecord("fenced")).FirstErr(); err == nil {
				t.Errorf("client %d still produces", i-1)
			}
		}
		before = cl
		if err := cl.BeginTransaction(); err != nil { // and leaves it open
			t.Fatal(err)
		}
		if err := cl.ProduceSync(ctx, kgo.StringRecord("open")).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := before.EndTransaction(ctx, kgo.TryAbort); err != nil {
		t.Fatal(err)
	}
	got := valuesOf(poll(t, d.client(t, kgo.ConsumeTopics("a"), kgo.FetchIsolationLevel(kgo.ReadCommitted())), len(want)))
	if !slices.Equal(got, want) {
		t.Errorf("read %v, want %v", got, want)
	}
}

// asked is ask in a version.
func asked[R kmsg.Response](w *wire, q kmsg.Request, version int16) R {
	w.t.Helper()
	q.SetVersion(version)
	return ask[R](w, q)
}

// beginAt makes a producer and, unless the topic is nil, one transactional record in
// its partition 0.
func (d *door) beginAt(t testing.TB, id string, topic *broker.Topic) txn.Producer {
	t.Helper()
	txns, err := d.broker.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	p, err := txns.InitProducerID(t.Context(), txn.InitRequest{ID: id, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if topic != nil {
		resp := asked[*kmsg.ProduceResponse](d.dial(t), d.transactional(t, id, p, *topic, 0), 12)
		if c := resp.Topics[0].Partitions[0].ErrorCode; c != 0 {
			t.Fatalf("produce: code %d", c)
		}
	}
	return p
}

// transactional is a Produce of one transactional batch.
func (d *door) transactional(t testing.TB, id string, p txn.Producer, topic broker.Topic, sequence int32) *kmsg.ProduceRequest {
	t.Helper()
	q := produceTo(12, topic, -1, transactionalBatch(t, p, sequence))
	q.TransactionID = &id
	return q
}

// transactionalBatch is one record of a transaction.
func transactionalBatch(t testing.TB, p txn.Producer, sequence int32) record.Batch {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.SetProducer(p.ID, p.Epoch, sequence)
	if err := b.Append(&record.Record{Timestamp: 1000, Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	batch = slices.Clone(batch)
	batch[22] |= 0x10 // an attribute that only clients set
	binary.BigEndian.PutUint32(batch[17:], crc.Sum(batch[21:]))
	return batch
}

func TestReadCommitted(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w, waiting := d.dial(t), d.dial(t)
	p := d.beginAt(t, "tx", &topic)

	read := func(w *wire, isolation int8, wait int32) *kmsg.FetchResponseTopicPartition {
		q := fetchFrom(12, topic, 0)
		q.IsolationLevel, q.MaxWaitMillis = isolation, wait
		return &asked[*kmsg.FetchResponse](w, q, 12).Topics[0].Partitions[0]
	}
	if r := read(w, 0, 0); len(r.RecordBatches) == 0 || r.HighWatermark != 1 || r.LastStableOffset != 0 || r.AbortedTransactions != nil {
		t.Errorf("uncommitted: %+v", r)
	}
	if r := read(w, 1, 0); len(r.RecordBatches) != 0 || r.HighWatermark != 1 || r.LastStableOffset != 0 || r.AbortedTransactions == nil {
		t.Errorf("committed: %+v", r)
	}
	latest := func(isolation int8, at int64) int64 {
		q := kmsg.NewPtrListOffsetsRequest()
		q.IsolationLevel = isolation
		q.Topics = []kmsg.ListOffsetsRequestTopic{{Topic: topic.Name, Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: at, CurrentLeaderEpoch: -1}}}}
		return asked[*kmsg.ListOffsetsResponse](w, q, 5).Topics[0].Partitions[0].Offset
	}
	if a, b, c, e := latest(0, -1), latest(1, -1), latest(0, 0), latest(1, 0); a != 1 || b != 0 || c != 0 || e != -1 {
		t.Errorf("offsets listed: %d, %d, by time %d, %d", a, b, c, e)
	}

	// A reader of committed records waits for the end of the transaction.
	answer := make(chan *kmsg.FetchResponseTopicPartition, 1)
	go func() { answer <- read(waiting, 1, 30_000) }()
	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch = "tx", p.ID, p.Epoch
	if r := asked[*kmsg.EndTxnResponse](w, end, 5); r.ErrorCode != 0 || r.ProducerID != p.ID || r.ProducerEpoch != p.Epoch+1 {
		t.Fatalf("end: %+v", r)
	}
	r := <-answer
	if len(r.RecordBatches) == 0 || r.LastStableOffset != 2 || len(r.AbortedTransactions) != 1 || r.AbortedTransactions[0].ProducerID != p.ID || r.AbortedTransactions[0].FirstOffset != 0 {
		t.Errorf("after the abort: %+v", r)
	}
	if a, b := latest(0, -1), latest(1, -1); a != 2 || b != 2 {
		t.Errorf("ends at %d, %d", a, b)
	}
}

func TestProduceOutsideOfTransaction(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	p := d.beginAt(t, "tx", nil)
	w := d.dial(t)
	for _, test := range []struct {
		id      string
		p       txn.Producer
		version int16
		want    *kerr.Error
	}{
		{"tx", p, 10, kerr.InvalidTxnState},
		{"tx", p, 11, kerr.TransactionAbortable},
		{"tx", txn.Producer{ID: p.ID, Epoch: 7}, 12, kerr.InvalidProducerEpoch},
		{"tx", txn.Producer{ID: p.ID + 1}, 12, kerr.InvalidProducerIDMapping},
		{"other", p, 12, kerr.InvalidProducerIDMapping},
		{"", p, 12, kerr.TransactionalIDAuthorizationFailed},
		{"tx", p, 12, nil},
		{"tx", p, 3, nil}, // a duplicate, once the partition is known
	} {
		resp := asked[*kmsg.ProduceResponse](w, d.transactional(t, test.id, test.p, topic, 0), test.version)
		if got := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); got != error(test.want) && (got != nil || test.want != nil) {
			t.Errorf("%+v: %v", test, got)
		}
	}
	for version, want := range map[int16]int16{11: kerr.NotEnoughReplicas.Code, 12: kerr.ConcurrentTransactions.Code} {
		if got := produceCode(txn.ErrConcurrent, version); got != want {
			t.Errorf("v%d: code %d for a transaction that is ending", version, got)
		}
	}
}

// What the requests about transactions answer, version by version.
func TestTransactionCodes(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	p := d.beginAt(t, "tx", nil)
	w := d.dial(t)
	is := func(what string, got int16, want *kerr.Error) {
		t.Helper()
		if want == nil && got != 0 || want != nil && got != want.Code {
			t.Errorf("%s: %v, want %v", what, kerr.ErrorForCode(got), want)
		}
	}
	fenced := []*kerr.Error{kerr.InvalidProducerEpoch, kerr.InvalidProducerEpoch, kerr.ProducerFenced, kerr.ProducerFenced, kerr.ProducerFenced, kerr.ProducerFenced}

	init := kmsg.NewPtrInitProducerIDRequest()
	init.TransactionalID, init.TransactionTimeoutMillis, init.ProducerID, init.ProducerEpoch = kmsg.StringPtr("tx"), 1000, p.ID, 5
	is("init v3", asked[*kmsg.InitProducerIDResponse](w, init, 3).ErrorCode, kerr.InvalidProducerEpoch)
	is("init v4", asked[*kmsg.InitProducerIDResponse](w, init, 4).ErrorCode, kerr.ProducerFenced)
	init.ProducerID = -1
	is("init with an epoch only", asked[*kmsg.InitProducerIDResponse](w, init, 4).ErrorCode, kerr.InvalidRequest)
	init.ProducerEpoch, init.TransactionTimeoutMillis = -1, 900_001
	is("init for long", asked[*kmsg.InitProducerIDResponse](w, init, 4).ErrorCode, kerr.InvalidTransactionTimeout)
	init.TransactionalID = kmsg.StringPtr("")
	is("init nobody", asked[*kmsg.InitProducerIDResponse](w, init, 4).ErrorCode, kerr.InvalidRequest)

	add := kmsg.NewPtrAddPartitionsToTxnRequest()
	add.TransactionalID, add.ProducerID, add.ProducerEpoch = "tx", p.ID, 5
	add.Topics = []kmsg.AddPartitionsToTxnRequestTopic{{Topic: "a", Partitions: []int32{0}}}
	for v := range int16(4) {
		is(fmt.Sprint("add v", v), asked[*kmsg.AddPartitionsToTxnResponse](w, add, v).Topics[0].Partitions[0].ErrorCode, fenced[v])
	}
	add.ProducerEpoch, add.Topics[0].Partitions = p.Epoch, []int32{0, 1}
	parts := asked[*kmsg.AddPartitionsToTxnResponse](w, add, 3).Topics[0].Partitions
	is("add what there is", parts[0].ErrorCode, kerr.OperationNotAttempted)
	is("add what there is not", parts[1].ErrorCode, kerr.UnknownTopicOrPartition)

	offsets := kmsg.NewPtrAddOffsetsToTxnRequest()
	offsets.TransactionalID, offsets.Group, offsets.ProducerID, offsets.ProducerEpoch = "tx", "g", p.ID, 5
	for v := range int16(5) {
		is(fmt.Sprint("add offsets v", v), asked[*kmsg.AddOffsetsToTxnResponse](w, offsets, v).ErrorCode, fenced[v])
	}

	commit := kmsg.NewPtrTxnOffsetCommitRequest()
	commit.TransactionalID, commit.Group, commit.ProducerID, commit.ProducerEpoch, commit.Generation = "tx", "g", p.ID, p.Epoch, -1
	commit.Topics = []kmsg.TxnOffsetCommitRequestTopic{{Topic: "a", Partitions: []kmsg.TxnOffsetCommitRequestTopicPartition{{Offset: 1}, {Partition: 1}}}}
	commitAt := func(v int16) int16 {
		ps := asked[*kmsg.TxnOffsetCommitResponse](w, commit, v).Topics[0].Partitions
		is("commit what there is not", ps[1].ErrorCode, kerr.UnknownTopicOrPartition)
		return ps[0].ErrorCode
	}
	is("commit v3", commitAt(3), kerr.InvalidTxnState)
	is("commit v4", commitAt(4), kerr.TransactionAbortable)
	commit.Generation = 4
	is("commit of no member", commitAt(5), kerr.IllegalGeneration)
	commit.Generation, commit.ProducerEpoch = -1, 5
	is("commit by a zombie", commitAt(5), kerr.InvalidProducerEpoch)
	commit.ProducerEpoch = p.Epoch
	is("commit v5", commitAt(5), nil)

	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.RequireStable, fetch.Topics = "g", true, []kmsg.OffsetFetchRequestTopic{{Topic: "a", Partitions: []int32{0}}}
	is("fetch stable offsets", asked[*kmsg.OffsetFetchResponse](w, fetch, 7).Topics[0].Partitions[0].ErrorCode, kerr.UnstableOffsetCommit)
	fetch.RequireStable = false
	if got := asked[*kmsg.OffsetFetchResponse](w, fetch, 7).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.Offset != -1 {
		t.Errorf("fetch any offsets: %+v", got)
	}

	end := kmsg.NewPtrEndTxnRequest()
	end.TransactionalID, end.ProducerID, end.ProducerEpoch, end.Commit = "tx", p.ID, 5, true
	for v := range int16(6) {
		is(fmt.Sprint("end v", v), asked[*kmsg.EndTxnResponse](w, end, v).ErrorCode, fenced[v])
	}
	end.ProducerEpoch = p.Epoch
	is("end", asked[*kmsg.EndTxnResponse](w, end, 3).ErrorCode, nil)
	end.Commit = false
	is("end otherwise", asked[*kmsg.EndTxnResponse](w, end, 3).ErrorCode, kerr.InvalidTxnState)
	fetch.RequireStable = true
	if got := asked[*kmsg.OffsetFetchResponse](w, fetch, 7).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.Offset != 1 {
		t.Errorf("fetch stable offsets: %+v", got)
	}
	_ = topic
}

func TestDescribeTransactions(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 2, nil)
	p := d.beginAt(t, "tx", &topic)
	d.beginAt(t, "idle", nil)
	adm := kadm.NewClient(d.client(t))

	all, err := adm.DescribeTransactions(ctx, "tx", "never")
	if err != nil {
		t.Fatal(err)
	}
	if x := all["tx"]; x.Err != nil || x.State != "Ongoing" || x.ProducerID != p.ID || x.TimeoutMillis != 60_000 || x.StartTimestamp <= 0 || !maps.Equal(x.Topics["a"], map[int32]struct{}{0: {}}) {
		t.Errorf("described: %+v", x)
	}
	if x := all["never"]; !errors.Is(x.Err, kerr.TransactionalIDNotFound) {
		t.Errorf("described: %+v", x)
	}
	listed, err := adm.ListTransactions(ctx, nil, []string{"Ongoing"})
	if err != nil || len(listed) != 1 || listed["tx"].ProducerID != p.ID {
		t.Errorf("listed: %+v, %v", listed, err)
	}
	if listed, err = adm.ListTransactions(ctx, nil, nil); err != nil || len(listed) != 2 {
		t.Errorf("listed: %+v, %v", listed, err)
	}
	list := kmsg.NewPtrListTransactionsRequest()
	list.DurationFilterMillis, list.StateFilters = 3_600_000, []string{"Ongoing", "PrepareCommit", "Odd"}
	if got := asked[*kmsg.ListTransactionsResponse](d.dial(t), list, 1); len(got.TransactionStates) != 0 || !slices.Equal(got.UnknownStateFilters, []string{"Odd"}) {
		t.Errorf("listed: %+v", got)
	}
	var set kadm.TopicsSet
	set.Add("a", 0, 1)
	producers, err := adm.DescribeProducers(ctx, set)
	if err != nil {
		t.Fatal(err)
	}
	open := producers["a"].Partitions[0].ActiveProducers[p.ID]
	if open.CurrentTxnStartOffset != 0 || open.LastSequence != 0 || len(producers["a"].Partitions[1].ActiveProducers) != 0 {
		t.Errorf("producers: %+v", producers)
	}

	// A partition drops out of the transaction with its topic.
	if err := d.broker.DeleteTopic(ctx, topic.ID); err != nil {
		t.Fatal(err)
	}
	if all, err := adm.DescribeTransactions(ctx, "tx"); err != nil || len(all["tx"].Topics) != 0 || all["tx"].State != "Ongoing" {
		t.Errorf("described: %+v, %v", all, err)
	}
	txns, _ := d.broker.Transactions("tx")
	if _, err := txns.End(ctx, txn.EndRequest{ID: "tx", Producer: p, Commit: true}); err != nil {
		t.Errorf("end without its topic: %v", err)
	}
}

func TestFeatures(t *testing.T) {
	w := open(t, setup{}).dial(t)
	for v := range int16(5) {
		q := kmsg.NewPtrApiVersionsRequest()
		q.ClientSoftwareName, q.ClientSoftwareVersion = "x", "1"
		q.SetVersion(v)
		w.send(q)
		resp := kmsg.NewPtrApiVersionsResponse()
		resp.Version = v
		if err := resp.ReadFrom(w.frame()[4:]); err != nil {
			t.Fatal(err)
		}
		i := slices.IndexFunc(resp.FinalizedFeatures, func(f kmsg.ApiVersionsResponseFinalizedFeature) bool { return f.Name == "transaction.version" })
		if finalized := i >= 0; finalized != (v >= 3) || finalized && resp.FinalizedFeatures[i].MaxVersionLevel != 2 {
			t.Errorf("v%d: %+v", v, resp.FinalizedFeatures)
		}
		for _, f := range resp.SupportedFeatures {
			if f.MinVersion == 0 && v < 4 {
				t.Errorf("v%d cannot be read by old clients: %+v", v, f)
			}
		}
	}
}

// A new owner goes on with the transactions that it finds.
func TestTransactionsOutliveTheOwner(t *testing.T) {
	bucket := mem.New()
	d := open(t, setup{bucket: bucket})
	topic := d.newTopic(t, "a", 1, nil)
	p := d.beginAt(t, "tx", &topic)

	next := open(t, setup{bucket: bucket})
	if stable, err := next.broker.Stable(topic.ID, 0); err != nil || stable != 0 {
		t.Errorf("stable up to %d, %v", stable, err)
	}
	resp := asked[*kmsg.ProduceResponse](next.dial(t), next.transactional(t, "tx", p, topic, 1), 11) // without adding
	if c := resp.Topics[0].Partitions[0].ErrorCode; c != 0 {
		t.Fatalf("produce at the new owner: code %d", c)
	}
	txns, err := next.broker.Transactions("tx")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := txns.End(t.Context(), txn.EndRequest{ID: "tx", Producer: p, Commit: true}); err != nil {
		t.Fatal(err)
	}
	got := poll(t, next.client(t, kgo.ConsumeTopics("a"), kgo.FetchIsolationLevel(kgo.ReadCommitted())), 2)
	if len(got) != 2 {
		t.Errorf("read %v", valuesOf(got))
	}
}

// Consume, transform, produce, with workers that die at any moment: each input
// becomes exactly one output.
func TestExactlyOnce(t *testing.T) {
	for name, opts := range generations {
		t.Run(name, func(t *testing.T) { exactlyOnce(t, opts) })
	}
}

func exactlyOnce(t *testing.T, opts []kgo.Opt) {
	const n = 2000
	ctx := within30s(t)
	d := open(t, setup{})
	d.topic(t, "in", 4)
	d.topic(t, "out", 3)
	source := d.client(t, kgo.DefaultProduceTopic("in"))
	for i := range n {
		source.Produce(ctx, kgo.KeyStringRecord(strconv.Itoa(i), strconv.Itoa(i)), nil)
	}
	if err := source.Flush(ctx); err != nil {
		t.Fatal(err)
	}

	working, stop := context.WithCancel(ctx)
	var workers sync.WaitGroup
	defer workers.Wait()
	defer stop()
	for i := range uint64(3) {
		workers.Go(func() {
			random := rand.New(rand.NewPCG(i, 5))
			for working.Err() == nil {
				work(working, t, d, fmt.Sprint("worker-", i), random, opts)
			}
		})
	}
	seen := map[string]int{}
	reader := d.client(t, append(opts, kgo.ConsumeTopics("out"), kgo.FetchIsolationLevel(kgo.ReadCommitted()))...)
	for len(seen) < n && ctx.Err() == nil {
		reader.PollFetches(ctx).EachRecord(func(r *kgo.Record) { seen[string(r.Value)]++ })
	}
	stop()
	workers.Wait()
	if len(seen) != n {
		t.Fatalf("%d of %d inputs became an output", len(seen), n)
	}
	for v := range maps.Keys(seen) {
		if seen[v] != 1 {
			t.Errorf("%s is there %d times", v, seen[v])
		}
	}
}

// work is the life of a worker, which may end with its transaction open.
func work(ctx context.Context, t *testing.T, d *door, id string, random *rand.Rand, opts []kgo.Opt) {
	s, err := kgo.NewGroupTransactSession(append(opts, kgo.SeedBrokers(d.addr), kgo.TransactionalID(id), kgo.ConsumerGroup("workers"), kgo.ConsumeTopics("in"),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.DefaultProduceTopic("out"),
		kgo.TransactionTimeout(2*time.Second), // it may find no work to begin another transaction for, which would end the open one
		kgo.HeartbeatInterval(100*time.Millisecond), kgo.SessionTimeout(2*time.Second), kgo.FetchMaxWait(100*time.Millisecond))...)
	if err != nil {
		t.Error(err)
		return
	}
	defer s.Close()
	for range 2 + random.IntN(6) {
		polling, cancel := context.WithTimeout(ctx, 500*time.Millisecond)
		fetches := s.PollRecords(polling, 50)
		cancel()
		if ctx.Err() != nil {
			return
		}
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := s.Begin(); err != nil {
			return
		}
		fetches.EachRecord(func(r *kgo.Record) { s.Produce(ctx, &kgo.Record{Key: r.Key, Value: r.Value}, nil) })
		if random.IntN(4) == 0 {
			return // with the transaction open
		}
		if _, err := s.End(ctx, kgo.TransactionEndTry(random.IntN(5) > 0)); err != nil {
			return
		}
	}
}
