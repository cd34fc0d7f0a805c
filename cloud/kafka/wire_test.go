package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage"
	"github.com/weirmq/weir/storage/record"
)

// wire is a client without any cleverness.
type wire struct {
	t  testing.TB
	nc net.Conn
	br *bufio.Reader
	id int32
}

func (d *door) dial(t testing.TB) *wire {
	t.Helper()
	nc, err := net.Dial("tcp", d.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	_ = nc.SetDeadline(time.Now().Add(30 * time.Second))
	return &wire{t: t, nc: nc, br: bufio.NewReader(nc)}
}

func (w *wire) send(q kmsg.Request) {
	w.t.Helper()
	w.id++
	p := kmsg.NewRequestFormatter(kmsg.FormatterClientID("wire")).AppendRequest(nil, q, w.id)
	w.write(p)
}

func (w *wire) write(p []byte) {
	w.t.Helper()
	if _, err := w.nc.Write(p); err != nil {
		w.t.Fatal(err)
	}
}

// frame reads one response, header included.
func (w *wire) frame() []byte {
	w.t.Helper()
	var size [4]byte
	if _, err := io.ReadFull(w.br, size[:]); err != nil {
		w.t.Fatalf("read response: %v", err)
	}
	p := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(w.br, p); err != nil {
		w.t.Fatalf("read response: %v", err)
	}
	return p
}

// receive reads the response to the request with this correlation id.
func receiveAs[R kmsg.Response](w *wire, id int32, resp R) R {
	w.t.Helper()
	p := w.frame()
	if got := int32(binary.BigEndian.Uint32(p)); got != id {
		w.t.Fatalf("response to request %d, want %d", got, id)
	}
	p = p[4:]
	if resp.IsFlexible() && resp.Key() != kmsg.ApiVersions.Int16() {
		if p[0] != 0 {
			w.t.Fatalf("tags in the header: %x", p)
		}
		p = p[1:]
	}
	if err := resp.ReadFrom(p); err != nil {
		w.t.Fatalf("decode response: %v", err)
	}
	return resp
}

// ask sends a request and waits for its response.
func ask[R kmsg.Response](w *wire, q kmsg.Request) R {
	w.t.Helper()
	w.send(q)
	return receiveAs(w, w.id, q.ResponseKind().(R))
}

// closed checks that the server hangs up, without another word.
func (w *wire) closed() {
	w.t.Helper()
	if n, err := io.Copy(io.Discard, w.br); n != 0 || errors.Is(err, os.ErrDeadlineExceeded) {
		w.t.Fatalf("%d bytes, then %v; want the end", n, err)
	}
}

func batchOf(t testing.TB, codec record.Codec, values ...string) record.Batch {
	t.Helper()
	b := record.NewBuilder(codec)
	for i, v := range values {
		if err := b.Append(&record.Record{Timestamp: int64(1000 + i), Value: []byte(v)}); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(batch)
}

func produceTo(version int16, topic broker.Topic, acks int16, records ...[]byte) *kmsg.ProduceRequest {
	q := kmsg.NewPtrProduceRequest()
	q.Version, q.Acks, q.TimeoutMillis = version, acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic, rt.TopicID = topic.Name, topic.ID
	for i, r := range records {
		rp := kmsg.NewProduceRequestTopicPartition()
		rp.Partition, rp.Records = int32(i), r
		rt.Partitions = append(rt.Partitions, rp)
	}
	q.Topics = append(q.Topics, rt)
	return q
}

func fetchFrom(version int16, topic broker.Topic, offsets ...int64) *kmsg.FetchRequest {
	q := kmsg.NewPtrFetchRequest()
	q.Version, q.MaxBytes, q.MinBytes = version, 1<<20, 1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic, rt.TopicID = topic.Name, topic.ID
	for i, o := range offsets {
		rp := kmsg.NewFetchRequestTopicPartition()
		rp.Partition, rp.FetchOffset, rp.PartitionMaxBytes = int32(i), o, 1<<20
		rt.Partitions = append(rt.Partitions, rp)
	}
	q.Topics = append(q.Topics, rt)
	return q
}

// newTopic creates a topic through the broker.
func (d *door) newTopic(t testing.TB, name string, partitions int32, configs map[string]string) broker.Topic {
	t.Helper()
	topic, err := d.broker.CreateTopic(t.Context(), name, partitions, configs)
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// values opens fetched batches.
func values(t testing.TB, p []byte) []string {
	t.Helper()
	var all []string
	for len(p) > 0 {
		b, rest, err := record.Next(p)
		if err == nil {
			err = b.Verify()
		}
		if err == nil {
			err = b.Each(1<<20, func(r *record.Record) error {
				all = append(all, string(r.Value))
				return nil
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		p = rest
	}
	return all
}

func sequenced(t testing.TB, id int64, epoch int16, sequence int32) []byte {
	t.Helper()
	b := record.NewBuilder(record.None)
	b.SetProducer(id, epoch, sequence)
	if err := b.Append(&record.Record{Value: []byte("x")}); err != nil {
		t.Fatal(err)
	}
	p, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	return slices.Clone(p)
}

// slow is a bucket whose Creates can be held back.
type slow struct {
	storage.Bucket
	mu      sync.Mutex
	gate    chan struct{} // guarded by mu
	creates int           // guarded by mu
}

// created returns how many objects were created since hold.
func (s *slow) created() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.creates
}

func (s *slow) Create(ctx context.Context, key string, body []byte) error {
	s.mu.Lock()
	gate := s.gate
	s.creates++
	s.mu.Unlock()
	if gate != nil {
		<-gate
	}
	return s.Bucket.Create(ctx, key, body)
}

func (s *slow) hold() func() {
	s.mu.Lock()
	defer s.mu.Unlock()
	gate := make(chan struct{})
	s.gate, s.creates = gate, 0
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.gate = nil
		close(gate)
	}
}

// held counts the requests that are not yet answered.
func (d *door) held() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for c := range d.conns {
		n += len(c.flying)
	}
	return n
}

func eventually(t testing.TB, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatal("did not happen within 20 s")
		}
		time.Sleep(time.Millisecond)
	}
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}
