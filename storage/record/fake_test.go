package record_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/storage/record"
)

// fakeBroker is the least that real clients take for a Kafka broker: one topic
// with one partition. It keeps what is produced, byte for byte, and serves
// what it was given, byte for byte.
type fakeBroker struct {
	t        testing.TB
	listener net.Listener
	wg       sync.WaitGroup

	mu       sync.Mutex
	produced []byte            // batches as they came, one behind the other
	stored   []byte            // batches to serve, offsets already set
	end      int64             // the offset after stored
	conns    map[net.Conn]bool // open ones
}

const fakeTopic = "golden"

// fakeVersions is what the broker answers to ApiVersions. Only the first key
// has flexible versions among these, which keeps the framing simple.
var fakeVersions = []struct{ key, min, max int16 }{
	{18, 0, 3}, // ApiVersions
	{3, 0, 8},  // Metadata
	{22, 0, 1}, // InitProducerID
	{0, 0, 8},  // Produce: librdkafka compresses only for a broker that knows version 0
	{10, 0, 0}, // FindCoordinator: librdkafka takes it for knowledge of lz4
	{2, 1, 5},  // ListOffsets
	{1, 4, 11}, // Fetch
}

func newFakeBroker(t testing.TB) *fakeBroker {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fakeBroker{t: t, listener: listener, conns: make(map[net.Conn]bool)}
	f.wg.Add(1)
	go f.accept()
	t.Cleanup(func() {
		listener.Close()
		f.mu.Lock()
		for c := range f.conns {
			c.Close()
		}
		f.conns = nil
		f.mu.Unlock()
		f.wg.Wait()
	})
	return f
}

func (f *fakeBroker) addr() string { return f.listener.Addr().String() }

// serve makes batches the content of the partition.
func (f *fakeBroker) serve(batches ...record.Batch) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.stored, f.end = nil, 0
	for _, b := range batches {
		b = slices.Clone(b)
		b.SetBaseOffset(f.end)
		b.SetLeaderEpoch(0)
		f.end = b.NextOffset()
		f.stored = append(f.stored, b...)
	}
}

// take returns what was produced since the last call.
func (f *fakeBroker) take() []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.produced
	f.produced = nil
	return p
}

func (f *fakeBroker) accept() {
	defer f.wg.Done()
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		if f.conns == nil {
			conn.Close()
		} else {
			f.conns[conn] = true
			f.wg.Add(1)
			go f.converse(conn)
		}
		f.mu.Unlock()
	}
}

func (f *fakeBroker) converse(conn net.Conn) {
	defer f.wg.Done()
	defer conn.Close()
	for {
		err := f.answer(conn)
		if err == nil {
			continue
		}
		if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) {
			f.t.Logf("fake broker: %v", err)
		}
		f.mu.Lock()
		delete(f.conns, conn)
		f.mu.Unlock()
		return
	}
}

// answer reads one request and writes its response.
func (f *fakeBroker) answer(conn net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	if _, err := io.ReadFull(conn, frame); err != nil {
		return err
	}
	key := int16(binary.BigEndian.Uint16(frame))
	version := int16(binary.BigEndian.Uint16(frame[2:]))
	correlation := frame[4:8]
	body := frame[10+max(0, int(int16(binary.BigEndian.Uint16(frame[8:])))):]

	req := kmsg.RequestForKey(key)
	if req == nil {
		return fmt.Errorf("request of unknown key %d", key)
	}
	known := version <= 3
	if key != 18 || known {
		req.SetVersion(version)
		if req.IsFlexible() {
			body = body[1:] // no tags in the header
		}
		if err := req.ReadFrom(body); err != nil {
			return fmt.Errorf("request %d version %d: %w", key, version, err)
		}
	}
	resp, err := f.respond(req, known)
	if err != nil || resp == nil {
		return err
	}
	out := append(make([]byte, 4), correlation...)
	out = resp.AppendTo(out) // header version 0: no flexible one but ApiVersions, which has it too
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	_, err = conn.Write(out)
	return err
}

func (f *fakeBroker) respond(req kmsg.Request, known bool) (kmsg.Response, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	resp := req.ResponseKind()
	switch resp := resp.(type) {
	case *kmsg.ApiVersionsResponse:
		if !known {
			resp.SetVersion(0)
			resp.ErrorCode = 35 // UNSUPPORTED_VERSION
		}
		for _, v := range fakeVersions {
			resp.ApiKeys = append(resp.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: v.key, MinVersion: v.min, MaxVersion: v.max})
		}
	case *kmsg.MetadataResponse:
		f.metadata(resp)
	case *kmsg.InitProducerIDResponse:
		resp.ProducerID = 4711
	case *kmsg.ProduceResponse:
		f.produce(req.(*kmsg.ProduceRequest), resp)
	case *kmsg.ListOffsetsResponse:
		p := kmsg.NewListOffsetsResponseTopicPartition()
		if req.(*kmsg.ListOffsetsRequest).Topics[0].Partitions[0].Timestamp == -1 {
			p.Offset = f.end
		} else {
			p.Offset = 0
		}
		t := kmsg.NewListOffsetsResponseTopic()
		t.Topic, t.Partitions = fakeTopic, append(t.Partitions, p)
		resp.Topics = append(resp.Topics, t)
	case *kmsg.FetchResponse:
		f.fetch(req.(*kmsg.FetchRequest), resp)
	default:
		return nil, fmt.Errorf("request %T is not served", req)
	}
	return resp, nil
}

func (f *fakeBroker) metadata(resp *kmsg.MetadataResponse) {
	addr := f.listener.Addr().(*net.TCPAddr)
	b := kmsg.NewMetadataResponseBroker()
	b.NodeID, b.Host, b.Port = 1, "127.0.0.1", int32(addr.Port)
	resp.Brokers, resp.ControllerID = append(resp.Brokers, b), 1
	p := kmsg.NewMetadataResponseTopicPartition()
	p.Leader, p.LeaderEpoch, p.Replicas, p.ISR = 1, 0, []int32{1}, []int32{1}
	t := kmsg.NewMetadataResponseTopic()
	t.Topic, t.Partitions = kmsg.StringPtr(fakeTopic), append(t.Partitions, p)
	resp.Topics = append(resp.Topics, t)
}

func (f *fakeBroker) produce(req *kmsg.ProduceRequest, resp *kmsg.ProduceResponse) {
	for _, rt := range req.Topics {
		t := kmsg.NewProduceResponseTopic()
		t.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			f.produced = append(f.produced, rp.Records...)
			p := kmsg.NewProduceResponseTopicPartition()
			p.Partition = rp.Partition
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
}

// fetch answers with everything from the start: whatever lies before the
// offset asked for is dropped by the client.
func (f *fakeBroker) fetch(req *kmsg.FetchRequest, resp *kmsg.FetchResponse) {
	for _, rt := range req.Topics {
		t := kmsg.NewFetchResponseTopic()
		t.Topic = rt.Topic
		for _, rp := range rt.Partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.HighWatermark, p.LastStableOffset, p.LogStartOffset = rp.Partition, f.end, f.end, 0
			p.RecordBatches = []byte{} // librdkafka takes null for a broken answer
			if rp.FetchOffset < f.end {
				p.RecordBatches = f.stored
			}
			t.Partitions = append(t.Partitions, p)
		}
		resp.Topics = append(resp.Topics, t)
	}
}
