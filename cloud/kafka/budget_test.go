package kafka

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/storage/record"
)

// announced is the beginning of a frame of so many bytes.
func announced(key kmsg.Key, version int16, size int) []byte {
	p := binary.BigEndian.AppendUint32(nil, uint32(size))
	p = binary.BigEndian.AppendUint16(p, uint16(key))
	p = binary.BigEndian.AppendUint16(p, uint16(version))
	return append(p, 0, 0, 0, 1)
}

// Naming a length costs the door nothing that others need.
func TestAnnouncedIsNotHeld(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	for range 20 {
		w := d.dial(t)
		w.write(announced(kmsg.Produce, 9, 16<<20))
		w.write(make([]byte, 100))
	}
	large := strings.Repeat("x", 900_000)
	for range 5 {
		r := ask[*kmsg.ProduceResponse](d.dial(t), produceTo(9, topic, -1, batchOf(t, record.None, large)))
		if code := r.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatalf("produce: error %d", code)
		}
	}
	if used := d.memory.Used(); used > 20*budget.Piece {
		t.Errorf("%d bytes are held for what has not arrived", used)
	}
}

// What stands in line behind a long poll is not in memory.
func TestLineBehindALongPoll(t *testing.T) {
	d := open(t, setup{options: Options{MemoryBytes: 2 << 20, MaxRequest: 1 << 20}})
	topic := d.newTopic(t, "a", 1, nil)
	for range 4 {
		w := d.dial(t)
		q := fetchFrom(12, topic, 0)
		q.MaxWaitMillis, q.MinBytes = 100_000, 1
		w.send(q)
		go func() {
			for range 5 { // as much as the sockets take
				if _, err := w.nc.Write(append(announced(kmsg.Fetch, 12, 900_000), make([]byte, 900_000-8)...)); err != nil {
					return
				}
			}
		}()
	}
	eventually(t, func() bool { return d.shown(t)[`weir_kafka_requests_total{api="Fetch"}`] == 4 })
	for range 10 {
		w := d.dial(t)
		_ = ask[*kmsg.ApiVersionsResponse](w, &kmsg.ApiVersionsRequest{Version: 2})
		if used := d.memory.Used(); used > 100_000 {
			t.Fatalf("%d bytes are held by requests in line", used)
		}
	}
}

// A client that does not read its answers holds memory for a while, and is then
// closed: other clients need the memory.
func TestAnswersThatNobodyReads(t *testing.T) {
	d := open(t, setup{options: Options{AnswerBytes: 40 << 20}})
	topic := d.newTopic(t, "a", 1, nil)
	large := strings.Repeat("x", 1_000_000)
	for range 12 {
		w := d.dial(t)
		if r := ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.None, large))); r.Topics[0].Partitions[0].ErrorCode != 0 {
			t.Fatalf("%+v", r)
		}
	}
	greedy := func() *kmsg.FetchRequest {
		q := fetchFrom(12, topic, 0)
		q.MaxBytes, q.Topics[0].Partitions[0].PartitionMaxBytes = 64<<20, 64<<20
		return q
	}
	for range 3 { // each takes a quarter, and reads nothing
		d.dial(t).send(greedy())
	}
	eventually(t, func() bool { // they are being written, and hold no more than they have
		d.mu.Lock()
		defer d.mu.Unlock()
		writing := 0
		for c := range d.conns {
			if c.stuck.Load() != 0 {
				writing++
			}
		}
		// A producer's connection may look as if it still wrote its answer.
		return writing >= 3 && d.answers.Used() >= 27<<20
	})
	for d.answers.Peer("").TryTake(smallAnswer) != nil { // and the rest is taken as well
	}
	// Producers do not notice, and a reader gets something.
	began := time.Now()
	w := d.dial(t)
	_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, batchOf(t, record.None, "y")))
	q := greedy()
	q.Topics[0].Partitions[0].FetchOffset = 12
	r := ask[*kmsg.FetchResponse](w, q)
	if len(r.Topics[0].Partitions[0].RecordBatches) == 0 {
		t.Errorf("%+v", r)
	}
	if took := time.Since(began); took < budget.Unread/2 {
		t.Errorf("after %v: nobody had to go", took)
	}
	eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.conns) <= 13 }) // without those three
}

// Silent strangers give way to one that logs in.
func TestStrangersGiveWay(t *testing.T) {
	d := secured(t, Options{MaxConns: 32}, Plain)
	inside := d.dial(t)
	inside.login("ann", "ann's secret")
	var silent []*wire
	for range 20 {
		w := d.dial(t)
		w.write([]byte{0, 0, 0xfd}) // half a length
		silent = append(silent, w)
	}
	for range 3 {
		w := d.dial(t)
		w.login("ann", "ann's secret")
		_ = ask[*kmsg.MetadataResponse](w, &kmsg.MetadataRequest{Version: 4})
	}
	silent[0].closed()
	_ = ask[*kmsg.MetadataResponse](inside, &kmsg.MetadataRequest{Version: 4})
	if n := d.shown(t)["weir_kafka_connections_gave_way_total"]; n < 16 {
		t.Errorf("%v gave way", n)
	}
}

// A Fetch of many partitions does not wait when there is no memory left for such.
func TestPollsAreCut(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	q := fetchFrom(12, topic, 0)
	q.MaxWaitMillis, q.MinBytes = 60_000, 1
	for range 99 {
		q.Topics[0].Partitions = append(q.Topics[0].Partitions, q.Topics[0].Partitions[0])
	}
	d.polls.Peer("").TryTake(pollBytes / 4)
	d.polls.Peer("").TryTake(pollBytes / 4)
	d.polls.Peer("").TryTake(pollBytes / 4)
	if d.polls.Peer("").TryTake(pollBytes/4-1) == nil {
		t.Fatal("the test does not fill the pool")
	}
	_ = ask[*kmsg.FetchResponse](w, q)
	if n := d.shown(t)["weir_kafka_polls_cut_total"]; n != 1 {
		t.Errorf("%v polls were cut", n)
	}
}
