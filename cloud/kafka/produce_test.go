package kafka

import (
	"errors"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/mem"
	"github.com/weirmq/weir/storage/record"
)

// Every version of Produce and Fetch, against what kmsg makes of it.
func TestProduceAndFetchVersions(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 2, nil)
	w := d.dial(t)
	offset := int64(0)
	for v := int16(firstProduce); v <= 13; v++ {
		resp := ask[*kmsg.ProduceResponse](w, produceTo(v, topic, -1, batchOf(t, record.None, "x", "y"), nil))
		p := resp.Topics[0].Partitions
		if p[0].ErrorCode != 0 || p[0].BaseOffset != offset || p[0].LogAppendTime != -1 || v >= 5 && p[0].LogStartOffset != 0 {
			t.Errorf("produce v%d = %+v", v, p[0])
		}
		if p[1].ErrorCode != kerr.InvalidRecord.Code || p[1].BaseOffset != -1 || v >= 8 && p[1].ErrorMessage == nil {
			t.Errorf("produce v%d of nothing = %+v", v, p[1])
		}
		if v >= 13 && resp.Topics[0].TopicID != topic.ID || v < 13 && resp.Topics[0].Topic != "a" {
			t.Errorf("produce v%d topic = %+v", v, resp.Topics[0])
		}
		offset += 2
	}
	for v := int16(4); v <= 17; v++ {
		q := fetchFrom(v, topic, 0, 0)
		q.IsolationLevel = int8(v % 2)
		resp := ask[*kmsg.FetchResponse](w, q)
		rt := resp.Topics[0]
		if v >= 13 && rt.TopicID != topic.ID || v < 13 && rt.Topic != "a" {
			t.Errorf("fetch v%d topic = %+v", v, rt)
		}
		p := rt.Partitions[0]
		if p.ErrorCode != 0 || p.HighWatermark != offset || p.LastStableOffset != offset || v >= 5 && p.LogStartOffset != 0 {
			t.Errorf("fetch v%d = %+v", v, p)
		}
		if got := values(t, p.RecordBatches); len(got) != int(offset) {
			t.Errorf("fetch v%d has %d records, want %d", v, len(got), offset)
		}
		if (p.AbortedTransactions == nil) != (v%2 == 0) {
			t.Errorf("fetch v%d, isolation %d: aborted = %v", v, v%2, p.AbortedTransactions)
		}
		if e := rt.Partitions[1]; e.ErrorCode != 0 || e.HighWatermark != 0 || len(e.RecordBatches) != 0 {
			t.Errorf("fetch v%d of an empty partition = %+v", v, e)
		}
	}
}

func TestBadBatches(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	good := batchOf(t, record.None, "x", "y")
	change := func(f func(p []byte)) []byte {
		p := slices.Clone(good)
		f(p)
		return p
	}
	sealed := func(f func(p []byte)) []byte { // with a CRC that is right
		return change(func(p []byte) {
			f(p)
			at := record.Batch(p).MaxTimestamp()
			logTime := record.Batch(p).LogAppendTime()
			record.Batch(p).SetLogAppendTime(at)
			if !logTime {
				p[22] &^= 8
				seal(p)
			}
		})
	}
	for what, test := range map[string]struct {
		version int16
		acks    int16
		records []byte
		want    *kerr.Error
	}{
		"bit flipped":       {9, 1, change(func(p []byte) { p[len(p)-1] ^= 1 }), kerr.CorruptMessage},
		"old magic":         {9, 1, change(func(p []byte) { p[16] = 1 }), kerr.InvalidRecord},
		"cut off":           {9, 1, good[:len(good)-1], kerr.CorruptMessage},
		"two batches":       {9, 1, append(slices.Clone(good), good...), kerr.InvalidRecord},
		"transactional":     {9, 1, sealed(func(p []byte) { p[22] |= 16 }), kerr.TransactionalIDAuthorizationFailed},
		"control":           {9, 1, sealed(func(p []byte) { p[22] |= 32 }), kerr.InvalidRecord},
		"wrong count":       {9, 1, sealed(func(p []byte) { p[60] = 1 }), kerr.InvalidRecord},
		"codec of the moon": {9, 1, sealed(func(p []byte) { p[22] |= 7 }), kerr.CorruptMessage},
		"zstd too early":    {6, 1, batchOf(t, record.Zstd, strings.Repeat("x", 500)), kerr.UnsupportedCompressionType},
		"acks 2":            {9, 2, good, kerr.InvalidRequiredAcks},
	} {
		resp := ask[*kmsg.ProduceResponse](w, produceTo(test.version, topic, test.acks, test.records))
		if got := resp.Topics[0].Partitions[0]; got.ErrorCode != test.want.Code {
			t.Errorf("%s: %v (%s), want %v", what, kerr.ErrorForCode(got.ErrorCode), text(got.ErrorMessage), test.want)
		}
	}
	for what, topic := range map[string]broker.Topic{"name": {Name: "b"}, "partition": topic} {
		q := produceTo(9, topic, -1, good)
		q.Topics[0].Partitions[0].Partition = 9
		if got := ask[*kmsg.ProduceResponse](w, q).Topics[0].Partitions[0]; got.ErrorCode != kerr.UnknownTopicOrPartition.Code {
			t.Errorf("unknown %s: %v", what, kerr.ErrorForCode(got.ErrorCode))
		}
	}
	if got := ask[*kmsg.ProduceResponse](w, produceTo(13, broker.Topic{ID: [16]byte{1}}, -1, good)).Topics[0].Partitions[0]; got.ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("unknown id: %v", kerr.ErrorForCode(got.ErrorCode))
	}
	// The connection has survived all that, and nothing was stored.
	if got := ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, slices.Clone(good))).Topics[0].Partitions[0]; got.ErrorCode != 0 || got.BaseOffset != 0 {
		t.Errorf("good batch: %+v", got)
	}
}

func TestIdempotentProducer(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	init := kmsg.NewPtrInitProducerIDRequest()
	init.Version = 4
	id := ask[*kmsg.InitProducerIDResponse](w, init)
	if id.ErrorCode != 0 || id.ProducerID < 0 || id.ProducerEpoch != 0 {
		t.Fatalf("producer id = %+v", id)
	}
	if again := ask[*kmsg.InitProducerIDResponse](w, init); again.ProducerID == id.ProducerID {
		t.Error("the same producer id twice")
	}
	for _, step := range []struct {
		epoch    int16
		sequence int32
		base     int64
		want     error
	}{
		{0, 0, 0, nil}, {0, 1, 1, nil}, {0, 1, 1, nil}, {0, 0, 0, nil}, {0, 7, -1, kerr.OutOfOrderSequenceNumber},
		{1, 0, 2, nil}, {0, 2, -1, kerr.InvalidProducerEpoch},
	} {
		p := ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, sequenced(t, id.ProducerID, step.epoch, step.sequence))).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(p.ErrorCode); !errors.Is(err, step.want) || p.BaseOffset != step.base {
			t.Errorf("%+v: offset %d, %v", step, p.BaseOffset, err)
		}
	}
}

// TestUnknownProducer: the first batch of a producer may have any sequence (KIP-360),
// as when its topic was deleted and created again; afterwards it is held to it.
func TestUnknownProducer(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	for _, step := range []struct {
		epoch    int16
		sequence int32
		base     int64
		want     error
	}{{3, 7, 0, nil}, {3, 7, 0, nil}, {3, 8, 1, nil}, {3, 6, -1, kerr.OutOfOrderSequenceNumber}, {3, 10, -1, kerr.OutOfOrderSequenceNumber}, {4, 1, -1, kerr.OutOfOrderSequenceNumber}, {2, 9, -1, kerr.InvalidProducerEpoch}} {
		p := ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, sequenced(t, 5, step.epoch, step.sequence))).Topics[0].Partitions[0]
		if err := kerr.ErrorForCode(p.ErrorCode); !errors.Is(err, step.want) || p.BaseOffset != step.base {
			t.Errorf("%+v: offset %d, %v", step, p.BaseOffset, err)
		}
	}
}

// TestRecordErrors: which records are at fault is told from v8 on (KIP-467), and
// nothing of their batch is stored.
func TestRecordErrors(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	now := time.Now().UnixMilli()
	compacted := map[string]string{"cleanup.policy": "compact"}
	timed := map[string]string{"message.timestamp.before.max.ms": "60000", "message.timestamp.after.max.ms": "60000"}
	both := map[string]string{"cleanup.policy": "compact", "message.timestamp.before.max.ms": "60000"}
	key := []byte("k")
	good := record.Record{Timestamp: now, Key: key}
	for what, c := range map[string]struct {
		configs map[string]string
		records []record.Record
		want    *kerr.Error
		at      []int32
	}{
		"no keys":   {compacted, []record.Record{good, {Timestamp: now}, good, {Timestamp: now}}, kerr.InvalidRecord, []int32{1, 3}},
		"times":     {timed, []record.Record{{Timestamp: now - 90_000}, good, {Timestamp: now + 90_000}}, kerr.InvalidTimestamp, []int32{0, 2}},
		"mixed":     {both, []record.Record{{Timestamp: now}, {Timestamp: 1, Key: key}}, kerr.InvalidTimestamp, []int32{0, 1}},
		"all right": {both, []record.Record{good, good}, nil, nil},
	} {
		for _, codec := range []record.Codec{record.None, record.LZ4} {
			topic := d.newTopic(t, strings.ReplaceAll(what, " ", "-")+codec.String(), 1, c.configs)
			b := record.NewBuilder(codec)
			for i := range c.records {
				if err := b.Append(&c.records[i]); err != nil {
					t.Fatal(err)
				}
			}
			batch, err := b.Build()
			if err != nil {
				t.Fatal(err)
			}
			for _, version := range []int16{7, 8, 9, 13} {
				p := ask[*kmsg.ProduceResponse](w, produceTo(version, topic, -1, slices.Clone(batch))).Topics[0].Partitions[0]
				var at []int32
				for _, r := range p.ErrorRecords {
					if at = append(at, r.RelativeOffset); text(r.ErrorMessage) == "" {
						t.Errorf("%s, version %d: nothing is said of record %d", what, version, r.RelativeOffset)
					}
				}
				want := c.at
				if version < 8 {
					want = nil
				}
				if got := kerr.ErrorForCode(p.ErrorCode); c.want == nil && got != nil || c.want != nil && !errors.Is(got, c.want) || !slices.Equal(at, want) {
					t.Errorf("%s, version %d: %v at %v, want %v at %v", what, version, got, at, c.want, want)
				}
			}
			if _, end, err := d.broker.Bounds(topic.ID, 0); err != nil || c.want != nil && end != 0 {
				t.Errorf("%s: %d records are stored, %v", what, end, err)
			}
		}
	}
}

func TestLogAppendTime(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, map[string]string{"message.timestamp.type": "LogAppendTime"})
	before := time.Now().UnixMilli()
	p := ask[*kmsg.ProduceResponse](d.dial(t), produceTo(9, topic, -1, batchOf(t, record.None, "x"))).Topics[0].Partitions[0]
	if p.ErrorCode != 0 || p.LogAppendTime < before || p.LogAppendTime > time.Now().UnixMilli() {
		t.Errorf("%+v, sent at %d", p, before)
	}
}

func TestPipelinedProduces(t *testing.T) {
	bucket := &slow{Bucket: mem.New()}
	d := open(t, setup{bucket: bucket})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	const n = 40
	release := bucket.hold()
	for i := range n {
		w.send(produceTo(9, topic, -1, batchOf(t, record.None, strings.Repeat("x", i+1))))
	}
	fetch := fetchFrom(12, topic, 0) // its answer stands behind theirs, and it sees them
	w.send(fetch)
	eventually(t, func() bool { return d.held() == n+1 }) // no answer has left
	release()
	for i := range n {
		p := receiveAs(w, int32(i+1), &kmsg.ProduceResponse{Version: 9}).Topics[0].Partitions[0]
		if p.ErrorCode != 0 || p.BaseOffset != int64(i) {
			t.Fatalf("answer %d = %+v", i, p)
		}
	}
	r := receiveAs(w, n+1, fetch.ResponseKind().(*kmsg.FetchResponse)).Topics[0].Partitions[0]
	if r.HighWatermark != n {
		t.Errorf("it saw %d records, want %d", r.HighWatermark, n)
	}
	var got []string
	for r.ErrorCode == 0 && len(r.RecordBatches) > 0 { // one answer has the records of some objects
		got = append(got, values(t, r.RecordBatches)...)
		r = ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, int64(len(got)))).Topics[0].Partitions[0]
	}
	for i, v := range got {
		if len(v) != i+1 {
			t.Fatalf("record %d is the one of request %d", i, len(v)-1)
		}
	}
	if len(got) != n {
		t.Errorf("%d records, want %d", len(got), n)
	}
	if created := bucket.created(); created > n/2 {
		t.Errorf("%d objects for %d requests: they waited for each other", created, n)
	}
}

// A connection that sends faster than the bucket takes is not read any further.
func TestBackpressure(t *testing.T) {
	bucket := &slow{Bucket: mem.New()}
	d := open(t, setup{bucket: bucket, options: Options{MaxFlying: 4, MaxRequest: 100_000, MemoryBytes: 400_000}})
	topic := d.newTopic(t, "a", 1, nil)
	release := bucket.hold()
	defer release()
	w := d.dial(t)
	for range 3 {
		w.send(produceTo(9, topic, -1, batchOf(t, record.None, strings.Repeat("x", 90_000))))
	}
	eventually(t, func() bool { // two of them, half of the memory, which is all that a connection may hold
		return d.memory.Used() > 2*90_000 && d.memory.Used() < 3*90_000
	})
	// Another connection still gets through.
	_ = ask[*kmsg.ApiVersionsResponse](d.dial(t), &kmsg.ApiVersionsRequest{Version: 2})
}

func TestNoAcks(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	w.send(produceTo(9, topic, 0, batchOf(t, record.None, "x")))
	end := &kmsg.ListOffsetsRequest{Version: 1, Topics: []kmsg.ListOffsetsRequestTopic{{Topic: "a", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Timestamp: -1, CurrentLeaderEpoch: -1}}}}}
	if p := ask[*kmsg.ListOffsetsResponse](w, end).Topics[0].Partitions[0]; p.ErrorCode != 0 || p.Offset != 1 {
		t.Errorf("offsets after it: %+v", p)
	}
	// What was sent before the client closed is taken.
	for range 20 {
		w.send(produceTo(9, topic, 0, batchOf(t, record.None, "x")))
	}
	_ = w.nc.(*net.TCPConn).CloseWrite()
	eventually(t, func() bool { _, end, _ := d.broker.Bounds(topic.ID, 0); return end == 21 })
	// An error can only be said by closing.
	w = d.dial(t)
	w.send(produceTo(9, broker.Topic{Name: "b"}, 0, batchOf(t, record.None, "x")))
	w.closed()
}
