package kafka

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/record"
)

func TestFetchInTheMiddle(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.Zstd, strings.Repeat("0", 500), "1", "2", "3")))
	_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.LZ4, strings.Repeat("4", 500))))
	fetch := func(version int16, offset int64, change func(*kmsg.FetchRequest)) kmsg.FetchResponseTopicPartition {
		q := fetchFrom(version, topic, offset)
		if change != nil {
			change(q)
		}
		return ask[*kmsg.FetchResponse](w, q).Topics[0].Partitions[0]
	}
	first := func(p kmsg.FetchResponseTopicPartition) int64 {
		if len(p.RecordBatches) == 0 {
			return -1
		}
		return record.Batch(p.RecordBatches).BaseOffset()
	}
	if p := fetch(12, 2, nil); first(p) != 0 || len(values(t, p.RecordBatches)) != 5 {
		t.Errorf("fetch at 2 begins at %d", first(p))
	}
	if p := fetch(12, 4, nil); first(p) != 4 {
		t.Errorf("fetch at 4 begins at %d", first(p))
	}
	// Progress, with limits smaller than a batch; and no more than the first.
	tiny := func(q *kmsg.FetchRequest) { q.MaxBytes, q.Topics[0].Partitions[0].PartitionMaxBytes = 1, 1 }
	if p := fetch(12, 3, tiny); first(p) != 0 || len(values(t, p.RecordBatches)) != 4 {
		t.Errorf("tiny fetch = %d bytes", len(p.RecordBatches))
	}
	if p := fetch(12, 5, nil); p.ErrorCode != 0 || len(p.RecordBatches) != 0 {
		t.Errorf("fetch at the end = %+v", p)
	}
	for _, offset := range []int64{-1, 6} {
		if p := fetch(12, offset, nil); p.ErrorCode != kerr.OffsetOutOfRange.Code || p.HighWatermark != 5 || p.LogStartOffset != 0 {
			t.Errorf("fetch at %d = %+v", offset, p)
		}
	}
	for _, version := range []int16{4, 9} {
		if p := fetch(version, 0, nil); p.ErrorCode != 0 || len(values(t, p.RecordBatches)) != 5 {
			t.Errorf("zstd of a producer to an old client: %v", kerr.ErrorForCode(p.ErrorCode))
		}
	}
	for epoch, want := range map[int32]*kerr.Error{d.own.Log.Epoch() - 1: kerr.FencedLeaderEpoch, d.own.Log.Epoch() + 1: kerr.UnknownLeaderEpoch} {
		if p := fetch(12, 0, func(q *kmsg.FetchRequest) { q.Topics[0].Partitions[0].CurrentLeaderEpoch = epoch }); p.ErrorCode != want.Code && epoch >= 0 {
			t.Errorf("epoch %d: %v", epoch, kerr.ErrorForCode(p.ErrorCode))
		}
	}
	if p := fetch(13, 0, func(q *kmsg.FetchRequest) { q.Topics[0].TopicID = [16]byte{1} }); p.ErrorCode != kerr.UnknownTopicID.Code {
		t.Errorf("unknown id: %v", kerr.ErrorForCode(p.ErrorCode))
	}
	if p := fetch(12, 0, func(q *kmsg.FetchRequest) { q.Topics[0].Topic = "b" }); p.ErrorCode != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("unknown topic: %v", kerr.ErrorForCode(p.ErrorCode))
	}
	for _, s := range []struct {
		id, epoch int32
		want      int16
	}{{0, 0, 0}, {0, -1, 0}, {5, 1, kerr.FetchSessionIDNotFound.Code}, {0, 3, kerr.InvalidFetchSessionEpoch.Code}} {
		q := fetchFrom(12, topic, 0)
		q.SessionID, q.SessionEpoch = s.id, s.epoch
		if r := ask[*kmsg.FetchResponse](w, q); r.ErrorCode != s.want || r.SessionID != 0 {
			t.Errorf("session %+v: %d, session %d", s, r.ErrorCode, r.SessionID)
		}
	}
}

// TestFetchOfZstdTopic: a topic whose own setting is zstd is not for old clients,
// whatever is in it.
func TestFetchOfZstdTopic(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	for value, want := range map[string]*kerr.Error{"zstd": kerr.UnsupportedCompressionType, "gzip": nil, "producer": nil} {
		topic := d.newTopic(t, value, 1, map[string]string{"compression.type": value})
		for _, version := range []int16{4, 9, 10} {
			p := ask[*kmsg.FetchResponse](w, fetchFrom(version, topic, 0)).Topics[0].Partitions[0]
			refused := want != nil && version < zstdFetch
			if refused && p.ErrorCode != want.Code || !refused && p.ErrorCode != 0 {
				t.Errorf("topic with %s, version %d: %v", value, version, kerr.ErrorForCode(p.ErrorCode))
			}
		}
	}
}

func TestFetchSharesItsBytes(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 3, nil)
	w := d.dial(t)
	big := func() []byte { return batchOf(t, record.None, strings.Repeat("x", 1000)) }
	for range 3 {
		_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, big(), big(), big()))
	}
	q := fetchFrom(12, topic, 0, 0, 0)
	q.MaxBytes = 5000
	q.Topics[0].Partitions[0].PartitionMaxBytes = 2500
	var counts []int
	for _, p := range ask[*kmsg.FetchResponse](w, q).Topics[0].Partitions {
		if p.ErrorCode != 0 || p.HighWatermark != 3 {
			t.Errorf("%+v", p)
		}
		counts = append(counts, len(values(t, p.RecordBatches)))
	}
	if !slices.Equal(counts, []int{2, 2, 0}) {
		t.Errorf("records per partition = %v, want 2 (its limit), 2 (what is left), 0", counts)
	}
}

func TestLongPoll(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 3, nil)
	w, other := d.dial(t), d.dial(t)

	start := time.Now()
	q := fetchFrom(12, topic, 0, 0, 0)
	q.MaxWaitMillis = 50
	if r := ask[*kmsg.FetchResponse](w, q); len(r.Topics[0].Partitions[2].RecordBatches) != 0 || time.Since(start) < 50*time.Millisecond {
		t.Errorf("empty fetch after %v: %+v", time.Since(start), r)
	}
	q.MaxWaitMillis = 20_000
	for _, one := range []bool{false, true} { // many partitions, or one
		if one {
			q.Topics[0].Partitions = q.Topics[0].Partitions[:1]
			q.Topics[0].Partitions[0].FetchOffset = 1
		}
		w.send(q)
		if p := ask[*kmsg.ProduceResponse](other, produceTo(9, topic, -1, batchOf(t, record.None, "x"))); p.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatal("produce")
		}
		r := receiveAs(w, w.id, q.ResponseKind().(*kmsg.FetchResponse))
		if got := values(t, r.Topics[0].Partitions[0].RecordBatches); len(got) != 1 {
			t.Errorf("woken with %v", got)
		}
	}
	// min_bytes: more than one batch must come in.
	q.Topics[0].Partitions[0].FetchOffset, q.MinBytes = 2, 1000
	w.send(q)
	for range 3 {
		_ = ask[*kmsg.ProduceResponse](other, produceTo(9, topic, -1, batchOf(t, record.None, strings.Repeat("y", 400))))
	}
	r := receiveAs(w, w.id, q.ResponseKind().(*kmsg.FetchResponse))
	if got := len(r.Topics[0].Partitions[0].RecordBatches); got < 1000 {
		t.Errorf("%d bytes, want 1000", got)
	}
	// Deleting a topic wakes a Fetch that waits for it.
	q.Topics[0].Partitions[0].FetchOffset = 5
	w.send(q)
	if err := d.broker.DeleteTopic(t.Context(), topic.ID); err != nil {
		t.Fatal(err)
	}
	r = receiveAs(w, w.id, q.ResponseKind().(*kmsg.FetchResponse))
	if got := r.Topics[0].Partitions[0].ErrorCode; got != kerr.UnknownTopicOrPartition.Code {
		t.Errorf("after delete: %v", kerr.ErrorForCode(got))
	}
	// A client that waits and then goes holds nothing up: Close would hang.
	q = fetchFrom(12, d.newTopic(t, "b", 1, nil), 0)
	q.MaxWaitMillis = 3_600_000
	d.dial(t).send(q)
	gone := d.dial(t)
	gone.send(q)
	_ = gone.nc.Close()
}
