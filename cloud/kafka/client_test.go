package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func TestProduceAndConsume(t *testing.T) {
	d := open(t, setup{})
	for codec, opts := range map[string][]kgo.Opt{
		"none":           {kgo.ProducerBatchCompression(kgo.NoCompression())},
		"gzip":           {kgo.ProducerBatchCompression(kgo.GzipCompression())},
		"snappy":         {kgo.ProducerBatchCompression(kgo.SnappyCompression())},
		"lz4":            {kgo.ProducerBatchCompression(kgo.Lz4Compression())},
		"zstd":           {kgo.ProducerBatchCompression(kgo.ZstdCompression())},
		"not-idempotent": {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())},
		"acks-none":      {kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.NoAck())},
	} {
		t.Run(codec, func(t *testing.T) {
			const n = 2000
			topic := "t-" + codec
			d.topic(t, topic, 3)
			cl := d.client(t, append(opts, kgo.DefaultProduceTopic(topic))...)
			var mu sync.Mutex
			acked := map[string]int64{}
			for i := range n {
				r := &kgo.Record{
					Key:       strconv.AppendInt(nil, int64(i%50), 10),
					Value:     []byte(strings.Repeat(strconv.Itoa(i)+" ", 20)),
					Headers:   []kgo.RecordHeader{{Key: "n", Value: strconv.AppendInt(nil, int64(i), 10)}},
					Timestamp: time.UnixMilli(1_700_000_000_000 + int64(i)),
				}
				cl.Produce(t.Context(), r, func(r *kgo.Record, err error) {
					if err != nil {
						t.Errorf("produce: %v", err)
					}
					mu.Lock()
					defer mu.Unlock()
					acked[string(r.Headers[0].Value)] = r.Offset
				})
			}
			if err := cl.Flush(within30s(t)); err != nil {
				t.Fatal(err)
			}
			got := poll(t, d.client(t, kgo.ConsumeTopics(topic)), n)
			last := map[string]int{}
			for _, r := range got {
				i, _ := strconv.Atoi(string(r.Headers[0].Value))
				if at, ok := acked[strconv.Itoa(i)]; codec != "acks-none" && (!ok || at != r.Offset) {
					t.Fatalf("record %d at offset %d was acked at %d", i, r.Offset, at)
				}
				if want := strings.Repeat(strconv.Itoa(i)+" ", 20); string(r.Value) != want || r.Timestamp.UnixMilli() != 1_700_000_000_000+int64(i) {
					t.Fatalf("record %d came back as %q at %v", i, r.Value, r.Timestamp)
				}
				if before, ok := last[string(r.Key)]; ok && before >= i {
					t.Fatalf("key %s: %d behind %d", r.Key, i, before)
				}
				last[string(r.Key)] = i
			}
		})
	}
}

func TestAutoCreate(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	if err := d.client(t).ProduceSync(ctx, &kgo.Record{Topic: "new", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	topic, err := d.broker.Topic("new")
	if err != nil || topic.Partitions != 4 {
		t.Fatalf("topic = %+v, %v", topic, err)
	}
	// Not when the client does not want it, the broker does not, or the name is bad.
	polite, err := kgo.NewClient(kgo.SeedBrokers(d.addr), kgo.UnknownTopicRetries(0))
	if err != nil {
		t.Fatal(err)
	}
	defer polite.Close()
	for _, test := range []struct {
		cl    *kgo.Client
		topic string
		want  error
	}{
		{polite, "nope", kerr.UnknownTopicOrPartition},
		{open(t, setup{manual: true}).client(t, kgo.UnknownTopicRetries(0)), "nope", kerr.UnknownTopicOrPartition},
		{d.client(t, kgo.UnknownTopicRetries(0)), "weir.inner", kerr.UnknownTopicOrPartition},
		{d.client(t), "bad/name", kerr.InvalidTopicException},
	} {
		if err := test.cl.ProduceSync(ctx, &kgo.Record{Topic: test.topic}).FirstErr(); !errors.Is(err, test.want) {
			t.Errorf("produce to %s: %v, want %v", test.topic, err, test.want)
		}
	}
}

func TestGroups(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	d.topic(t, "readings", 6)
	const n = 3000
	produce := func(from, to int) {
		cl := d.client(t, kgo.DefaultProduceTopic("readings"))
		for i := from; i < to; i++ {
			cl.Produce(ctx, kgo.KeyStringRecord(strconv.Itoa(i), strconv.Itoa(i)), nil)
		}
		if err := cl.Flush(ctx); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	seen := map[string]int{}
	all := make(chan struct{})
	consume := func(ctx context.Context, opts ...kgo.Opt) func() {
		cl := d.client(t, append(opts, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("readings"),
			kgo.HeartbeatInterval(100*time.Millisecond), kgo.FetchMaxWait(100*time.Millisecond), kgo.AutoCommitMarks(), kgo.BlockRebalanceOnPoll())...)
		ctx, cancel := context.WithCancel(ctx)
		var wg sync.WaitGroup
		wg.Go(func() {
			for ctx.Err() == nil {
				f := cl.PollRecords(ctx, 100)
				f.EachRecord(func(r *kgo.Record) {
					mu.Lock()
					defer mu.Unlock()
					seen[string(r.Value)]++
					if len(seen) == n {
						select {
						case <-all:
						default:
							close(all)
						}
					}
					cl.MarkCommitRecords(r)
				})
				if err := cl.CommitMarkedOffsets(context.WithoutCancel(ctx)); err != nil && ctx.Err() == nil && !errors.Is(err, kerr.RebalanceInProgress) {
					t.Logf("commit: %v", err)
				}
				cl.AllowRebalance()
			}
			cl.CloseAllowingRebalance()
		})
		return func() { cancel(); wg.Wait() }
	}
	produce(0, 1000)
	stopA := consume(ctx)
	stopB := consume(ctx)
	produce(1000, 2000)
	stopC := consume(ctx, kgo.InstanceID("static"))
	stopA()
	produce(2000, n)
	select {
	case <-all:
	case <-ctx.Done():
		t.Fatalf("%d of %d records were read", len(seen), n)
	}
	stopB()
	stopC()
	again := 0
	for _, times := range seen {
		again += times - 1
	}
	if again > 0 {
		t.Errorf("%d records were read twice, although every rebalance waited for commits", again)
	}
	lag, err := kadm.NewClient(d.client(t)).FetchOffsets(ctx, "g")
	if err != nil {
		t.Fatal(err)
	}
	var committed int64
	lag.Each(func(o kadm.OffsetResponse) { committed += o.At })
	if committed != n {
		t.Errorf("committed offsets add up to %d, want %d", committed, n)
	}
}

func TestOffsetsRoundTrip(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{manual: true})
	d.topic(t, "a", 2)
	adm := kadm.NewClient(d.client(t))
	var offsets kadm.Offsets = map[string]map[int32]kadm.Offset{
		"a": {0: {Topic: "a", Partition: 0, At: 5, LeaderEpoch: 1, Metadata: "seen by äöü"}, 1: {Topic: "a", Partition: 1, At: 6, LeaderEpoch: -1},
			9: {Topic: "a", Partition: 9, At: 1, LeaderEpoch: -1}},
		"nope": {0: {Topic: "nope", At: 1, LeaderEpoch: -1}},
	}
	done, err := adm.CommitOffsets(ctx, "simple", offsets)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []struct {
		topic     string
		partition int32
	}{{"nope", 0}, {"a", 9}} {
		if r, _ := done.Lookup(bad.topic, bad.partition); !errors.Is(r.Err, kerr.UnknownTopicOrPartition) {
			t.Errorf("commit to %v: %v", bad, r.Err)
		}
	}
	got, err := adm.FetchOffsets(ctx, "simple")
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := got.Lookup("a", 0); !ok || o.At != 5 || o.Metadata != "seen by äöü" || o.LeaderEpoch != 1 {
		t.Errorf("offset of a/0 = %+v", o)
	}
	if o, ok := got.Lookup("a", 1); !ok || o.At != 6 || o.LeaderEpoch != -1 {
		t.Errorf("offset of a/1 = %+v", o)
	}
	if len(got["nope"])+len(got["a"]) != 2 {
		t.Errorf("offsets = %+v", got)
	}
	some, err := adm.FetchOffsetsForTopics(ctx, "empty-group", "a")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := some.Lookup("a", 1); o.At != -1 || o.Err != nil {
		t.Errorf("offset of nobody = %+v", o)
	}
	// They go with the topic.
	if _, err := adm.DeleteTopic(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	d.topic(t, "a", 2)
	if got, _ := adm.FetchOffsets(ctx, "simple"); len(got["a"]) != 0 {
		t.Errorf("offsets of a deleted topic = %+v", got)
	}
	if l, _ := d.own.Groups.List(); len(l) != 0 {
		t.Errorf("groups = %+v", l)
	}
}

func TestListOffsets(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	d.topic(t, "a", 1)
	cl := d.client(t, kgo.DefaultProduceTopic("a"), kgo.ProducerLinger(0))
	for i, ms := range []int64{1000, 2000, 5000, 3000} {
		r := &kgo.Record{Value: []byte(strconv.Itoa(i)), Timestamp: time.UnixMilli(ms)}
		if err := cl.ProduceSync(ctx, r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	adm := kadm.NewClient(cl)
	for ms, want := range map[int64]int64{0: 0, 1000: 0, 1001: 1, 2001: 2, 4000: 2, 5000: 2} {
		l, err := adm.ListOffsetsAfterMilli(ctx, ms, "a")
		if o, _ := l.Lookup("a", 0); err != nil || o.Err != nil || o.Offset != want {
			t.Errorf("after %d ms: %+v, %v; want %d", ms, o, err, want)
		}
	}
	if l, _ := adm.ListOffsetsAfterMilli(ctx, 5001, "a"); l["a"][0].Offset != 4 { // kadm asks for the end then
		t.Errorf("after all: %+v", l)
	}
	if l, _ := adm.ListStartOffsets(ctx, "a"); l["a"][0].Offset != 0 {
		t.Errorf("start: %+v", l)
	}
	if l, _ := adm.ListEndOffsets(ctx, "a"); l["a"][0].Offset != 4 {
		t.Errorf("end: %+v", l)
	}
	if l, _ := adm.ListCommittedOffsets(ctx, "a"); l["a"][0].Offset != 4 {
		t.Errorf("committed: %+v", l)
	}
	if l, _ := adm.ListMaxTimestampOffsets(ctx, "a"); l["a"][0].Offset != 2 || l["a"][0].Timestamp != 5000 {
		t.Errorf("max timestamp: %+v", l)
	}
}

func TestTopicsAsAdmin(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{manual: true})
	adm := kadm.NewClient(d.client(t))
	compact := "compact"
	nonsense := "nonsense"
	for _, test := range []struct {
		name       string
		partitions int32
		replicas   int16
		configs    map[string]*string
		want       error
	}{
		{"ok", 3, 3, map[string]*string{"cleanup.policy": &compact}, nil},
		{"ok", 3, 3, nil, kerr.TopicAlreadyExists},
		{"defaults", -1, -1, nil, nil},
		{"__consumer_offsets", 1, 1, nil, kerr.InvalidTopicException},
		{"__transaction_state", 1, 1, nil, kerr.InvalidTopicException},
		{"weir.x", 1, 1, nil, kerr.InvalidTopicException},
		{"__weir_x", 1, 1, nil, kerr.InvalidTopicException},
		{"__debezium-heartbeat.a_b", 1, 1, nil, nil},
		{"__CruiseControlMetrics", 1, 1, nil, nil},
		{"__debezium-heartbeat.a.b", 1, 1, nil, kerr.InvalidTopicException}, // collides
		{"no/slash", 1, 1, nil, kerr.InvalidTopicException},
		{strings.Repeat("x", 250), 1, 1, nil, kerr.InvalidTopicException},
		{"x", 0, 1, nil, kerr.InvalidPartitions},
		{"x", 1, 0, nil, kerr.InvalidReplicationFactor},
		{"x", 1, 1, map[string]*string{"no.such.thing": &compact}, kerr.InvalidConfig},
		{"x", 1, 1, map[string]*string{"cleanup.policy": &nonsense}, kerr.InvalidConfig},
		{"x", 1, 1, map[string]*string{"cleanup.policy": nil}, kerr.InvalidConfig},
	} {
		for _, create := range []bool{false, true} {
			if !create && test.want == nil && test.name == "ok" && len(test.configs) == 0 {
				continue
			}
			var r kadm.CreateTopicResponses
			var err error
			if create {
				r, err = adm.CreateTopics(ctx, test.partitions, test.replicas, test.configs, test.name)
			} else {
				r, err = adm.ValidateCreateTopics(ctx, test.partitions, test.replicas, test.configs, test.name)
			}
			if err != nil || !errors.Is(r[test.name].Err, test.want) {
				t.Errorf("create %s (%v): %v, %v; want %v", test.name, create, r[test.name].Err, err, test.want)
			}
		}
	}
	topics, err := adm.ListTopics(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if got := topics["ok"]; len(got.Partitions) != 3 || got.Partitions[0].Leader != 7 || got.ID == [16]byte{} {
		t.Errorf("metadata of ok = %+v", got)
	}
	if got := topics["defaults"]; len(got.Partitions) != 4 {
		t.Errorf("metadata of defaults = %+v", got)
	}
	m, err := adm.BrokerMetadata(ctx)
	if err != nil || m.Cluster != d.own.Log.ClusterID() || m.Controller != 7 || len(m.Brokers) != 1 || fmt.Sprintf("%s:%d", m.Brokers[0].Host, m.Brokers[0].Port) != d.addr {
		t.Errorf("cluster = %+v, %v", m, err)
	}
	gone, err := adm.DeleteTopics(ctx, "ok", "never")
	if err != nil || gone["ok"].Err != nil || !errors.Is(gone["never"].Err, kerr.UnknownTopicOrPartition) {
		t.Errorf("deleted %+v, %v", gone, err)
	}
}

func TestDeleteRecords(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	cl := d.client(t)
	adm := kadm.NewClient(cl)
	if _, err := adm.CreateTopic(ctx, 2, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "t", Partition: 0, Key: []byte("k"), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	ends, err := adm.ListEndOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	full := int32(0)
	if o, _ := ends.Lookup("t", 1); o.Offset == 5 {
		full = 1
	}
	var ask kadm.Offsets
	ask.AddOffset("t", full, 3, -1)
	ask.AddOffset("t", 1-full, 9, -1)
	got, err := adm.DeleteRecords(ctx, ask)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := got.Lookup("t", full); r.Err != nil || r.LowWatermark != 3 {
		t.Errorf("up to 3: %+v", r)
	}
	if r, _ := got.Lookup("t", 1-full); !errors.Is(r.Err, kerr.OffsetOutOfRange) {
		t.Errorf("beyond the end: %+v", r)
	}
	starts, err := adm.ListStartOffsets(ctx, "t")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := starts.Lookup("t", full); o.Offset != 3 {
		t.Errorf("begins at %+v", o)
	}
	reader := d.client(t, kgo.ConsumeTopics("t"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for _, want := range []string{"3", "4"} {
		fetches := reader.PollRecords(ctx, 1)
		if r := fetches.Records(); len(r) != 1 || string(r[0].Value) != want {
			t.Errorf("read %v, %v; want %s", r, fetches.Err(), want)
		}
	}
}

func TestMaxMessageBytes(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	small := "1000"
	if _, err := kadm.NewClient(d.client(t)).CreateTopic(ctx, 1, 1, map[string]*string{"max.message.bytes": &small}, "small"); err != nil {
		t.Fatal(err)
	}
	big := make([]byte, 2000)
	err := d.client(t, kgo.ProducerBatchCompression(kgo.NoCompression())).ProduceSync(ctx, &kgo.Record{Topic: "small", Value: big}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("produce 2000 bytes: %v", err)
	}
}

func TestKeylessInCompactedTopic(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	compact := "compact"
	if _, err := kadm.NewClient(d.client(t)).CreateTopic(ctx, 1, 1, map[string]*string{"cleanup.policy": &compact}, "c"); err != nil {
		t.Fatal(err)
	}
	cl := d.client(t)
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "c", Value: []byte("v")}).FirstErr(); !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("without a key: %v", err)
	}
	if err := d.client(t).ProduceSync(ctx, &kgo.Record{Topic: "c", Key: []byte("k")}).FirstErr(); err != nil {
		t.Errorf("a tombstone: %v", err)
	}
}

// A log that another owner took over: its door sends clients there, and they go.
func TestClientsFollowTheOwner(t *testing.T) {
	ctx := within30s(t)
	d := open(t, setup{})
	owner := d.broker.Self()
	b := standby(t, &owner)
	cl := b.client(t) // knows only the standby
	if err := cl.ProduceSync(ctx, &kgo.Record{Topic: "a", Value: []byte("x")}).FirstErr(); err != nil {
		t.Fatal(err)
	}
	group := b.client(t, kgo.ConsumerGroup("g"), kgo.ConsumeTopics("a"))
	if got := poll(t, group, 1); string(got[0].Value) != "x" {
		t.Errorf("read %q", got[0].Value)
	}
}
