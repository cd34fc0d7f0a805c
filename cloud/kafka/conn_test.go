package kafka

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/record"
)

func TestApiVersions(t *testing.T) {
	d := open(t, setup{})
	w := d.dial(t)
	for v := int16(0); v <= 4; v++ {
		q := kmsg.NewPtrApiVersionsRequest()
		q.Version, q.ClientSoftwareName, q.ClientSoftwareVersion = v, "test-client", "1.0"
		r := ask[*kmsg.ApiVersionsResponse](w, q)
		if r.ErrorCode != 0 || len(r.ApiKeys) != len(d.apis) {
			t.Errorf("v%d = %+v", v, r)
		}
	}
	bad := kmsg.NewPtrApiVersionsRequest()
	bad.Version, bad.ClientSoftwareName, bad.ClientSoftwareVersion = 3, "a b", "1"
	if r := ask[*kmsg.ApiVersionsResponse](w, bad); r.ErrorCode != kerr.InvalidRequest.Code {
		t.Errorf("insane name: %+v", r)
	}
	// From the future: a v0 answer with our range.
	w.write([]byte{0, 0, 0, 14, 0, 18, 0, 99, 0, 0, 0, 42, 0, 1, 'x', 0, 1, 2})
	r := receiveAs(w, 42, &kmsg.ApiVersionsResponse{Version: 0})
	if r.ErrorCode != kerr.UnsupportedVersion.Code || len(r.ApiKeys) != 1 || r.ApiKeys[0].ApiKey != 18 || r.ApiKeys[0].MaxVersion != 4 {
		t.Errorf("v99 = %+v", r)
	}
}

// Anything that is not a request closes its connection, is logged with the peer, and
// does not disturb other connections.
func TestMalformed(t *testing.T) {
	var mu sync.Mutex
	var out bytes.Buffer
	d := open(t, setup{options: Options{Log: slog.New(slog.NewTextHandler(lockedWriter{&mu, &out}, nil)), FrameTime: 100 * time.Millisecond}})
	innocent := d.dial(t)
	frame := func(p ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...) }
	for what, test := range map[string]struct {
		p    []byte
		logs string
	}{
		"huge frame":        {[]byte{0x7f, 0xff, 0xff, 0xff}, "frame of 2147483647 bytes"},
		"negative frame":    {[]byte{0xff, 0xff, 0xff, 0xff}, "frame of -1 bytes"},
		"empty frame":       {[]byte{0, 0, 0, 0}, "frame of 0 bytes"},
		"http":              {[]byte("GET / HTTP/1.1\r\n\r\n"), "looks like HTTP"},
		"tls":               {[]byte{0x16, 3, 1, 2, 0, 1, 0, 1}, "looks like TLS"},
		"unknown key":       {frame(0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff), "api key 32512"},
		"not advertised":    {frame(0, 4, 0, 1, 0, 0, 0, 1, 0xff, 0xff), "api key 4 "},
		"version":           {frame(0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff), "Metadata version 99"},
		"negative version":  {frame(0, 18, 0xff, 0xff, 0, 0, 0, 1, 0xff, 0xff), "ApiVersions version -1"},
		"old produce":       {frame(0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff), "version 2 of Produce"},
		"short header":      {frame(0, 3, 0, 1, 0, 0, 0, 1, 0, 9), "decode header of Metadata"},
		"short body":        {frame(0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff), "decode Metadata"},
		"long heartbeat":    {binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint32(nil, 1<<20), 12<<48), "Heartbeat request of 1048576 bytes"},
		"array of millions": {frame(append([]byte{0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0x7f, 0, 0, 0}, make([]byte, 64)...)...), "decode Metadata"},
		"produced millions": {frame(0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0, 1, 0, 0, 0, 1, 0x7f, 0, 0, 0), "decode Produce"},
		"half a length":     {[]byte{0, 0}, "stopped arriving"},
		"never ends":        {[]byte{0, 0, 1, 0, 0, 3, 0, 1, 0, 0, 0, 1}, "stopped arriving"},
	} {
		t.Run(what, func(t *testing.T) {
			w := d.dial(t)
			peer := w.nc.LocalAddr().String()
			w.write(test.p)
			w.closed()
			eventually(t, func() bool {
				mu.Lock()
				defer mu.Unlock()
				for line := range strings.Lines(out.String()) {
					if strings.Contains(line, test.logs) && strings.Contains(line, "address="+peer) {
						return true
					}
				}
				return false
			})
		})
	}
	_ = ask[*kmsg.ApiVersionsResponse](innocent, &kmsg.ApiVersionsRequest{Version: 2})
	eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.conns) == 1 })
	if n := d.memory.Used(); n != 0 {
		t.Errorf("%d bytes of memory are lost", n)
	}
}

func TestMaxConns(t *testing.T) {
	d := open(t, setup{options: Options{MaxConns: 1}})
	first := d.dial(t)
	_ = ask[*kmsg.ApiVersionsResponse](first, &kmsg.ApiVersionsRequest{Version: 2})
	d.dial(t).closed()
	_ = first.nc.Close()
	eventually(t, func() bool { d.mu.Lock(); defer d.mu.Unlock(); return len(d.conns) == 0 })
	_ = ask[*kmsg.ApiVersionsResponse](d.dial(t), &kmsg.ApiVersionsRequest{Version: 2})
}

func TestIdleConnection(t *testing.T) {
	d := open(t, setup{options: Options{IdleTimeout: 30 * time.Millisecond}})
	topic := d.newTopic(t, "a", 1, nil)
	w := d.dial(t)
	q := fetchFrom(12, topic, 0)
	q.MaxWaitMillis = 150
	_ = ask[*kmsg.FetchResponse](w, q) // waiting is not being idle
	w.closed()
}

func TestStandby(t *testing.T) {
	topic := broker.Topic{Name: "a", ID: [16]byte{1}}
	owner := &broker.Node{ID: 7, Name: "a", Addresses: cluster.Addresses{cluster.Kafka: {"": "owner.example:9092"}}}
	for _, d := range []*door{standby(t, owner), standby(t, nil)} {
		_, known := d.broker.Controller()
		w := d.dial(t)
		m := kmsg.NewPtrMetadataRequest()
		m.Version = 12
		m.Topics = []kmsg.MetadataRequestTopic{{Topic: kmsg.StringPtr("a")}}
		r := ask[*kmsg.MetadataResponse](w, m)
		if r.Topics[0].ErrorCode != kerr.LeaderNotAvailable.Code {
			t.Errorf("metadata = %+v", r)
		}
		if known && (len(r.Brokers) != 1 || r.Brokers[0].NodeID != 7 || r.Brokers[0].Host != "owner.example" || r.Brokers[0].Port != 9092 || r.ControllerID != 7) {
			t.Errorf("brokers = %+v", r.Brokers)
		}
		if !known && len(r.Brokers) != 0 {
			t.Errorf("brokers = %+v", r.Brokers)
		}
		find := kmsg.NewPtrFindCoordinatorRequest()
		find.Version, find.CoordinatorKeys = 4, []string{"g"}
		if c := ask[*kmsg.FindCoordinatorResponse](w, find).Coordinators[0]; known && (c.NodeID != 7 || c.ErrorCode != 0) || !known && c.ErrorCode != kerr.CoordinatorNotAvailable.Code {
			t.Errorf("coordinator = %+v", c)
		}
		codes := map[string]int16{
			"produce":   ask[*kmsg.ProduceResponse](w, produceTo(13, topic, -1, batchOf(t, record.None, "x"))).Topics[0].Partitions[0].ErrorCode,
			"fetch":     ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, 0)).Topics[0].Partitions[0].ErrorCode,
			"join":      ask[*kmsg.JoinGroupResponse](w, &kmsg.JoinGroupRequest{Version: 4, Group: "g"}).ErrorCode,
			"sync":      ask[*kmsg.SyncGroupResponse](w, &kmsg.SyncGroupRequest{Version: 4, Group: "g"}).ErrorCode,
			"heartbeat": ask[*kmsg.HeartbeatResponse](w, &kmsg.HeartbeatRequest{Version: 3, Group: "g"}).ErrorCode,
			"leave":     ask[*kmsg.LeaveGroupResponse](w, &kmsg.LeaveGroupRequest{Version: 2, Group: "g"}).ErrorCode,
			"offsets":   ask[*kmsg.OffsetFetchResponse](w, &kmsg.OffsetFetchRequest{Version: 5, Group: "g"}).ErrorCode,
			"init":      ask[*kmsg.InitProducerIDResponse](w, &kmsg.InitProducerIDRequest{Version: 4, ProducerID: -1, ProducerEpoch: -1}).ErrorCode,
			"create":    ask[*kmsg.CreateTopicsResponse](w, &kmsg.CreateTopicsRequest{Version: 4, Topics: []kmsg.CreateTopicsRequestTopic{{Topic: "a", NumPartitions: 1, ReplicationFactor: 1}}}).Topics[0].ErrorCode,
			"delete":    ask[*kmsg.DeleteTopicsResponse](w, &kmsg.DeleteTopicsRequest{Version: 3, TopicNames: []string{"a"}}).Topics[0].ErrorCode,
			"records":   ask[*kmsg.DeleteRecordsResponse](w, &kmsg.DeleteRecordsRequest{Version: 2, Topics: []kmsg.DeleteRecordsRequestTopic{{Topic: "a", Partitions: []kmsg.DeleteRecordsRequestTopicPartition{{}}}}}).Topics[0].Partitions[0].ErrorCode,
		}
		for what, want := range map[string]*kerr.Error{
			"produce": kerr.NotLeaderForPartition, "fetch": kerr.NotLeaderForPartition,
			"join": kerr.NotCoordinator, "sync": kerr.NotCoordinator, "heartbeat": kerr.NotCoordinator, "leave": kerr.NotCoordinator, "offsets": kerr.NotCoordinator,
			"init": kerr.CoordinatorLoadInProgress, "create": kerr.NotController, "delete": kerr.NotController,
			"records": kerr.NotLeaderForPartition,
		} {
			if codes[what] != want.Code {
				t.Errorf("%s on a standby: %v, want %v", what, kerr.ErrorForCode(codes[what]), want)
			}
		}
	}
}

// TestDecodingIsBounded: requests of more than a few KiB wait for others to be
// decoded, and small ones do not.
func TestDecodingIsBounded(t *testing.T) {
	d := open(t, setup{manual: true})
	metadata := func(names int) *kmsg.MetadataRequest {
		q := kmsg.NewPtrMetadataRequest()
		q.Version = 9
		for i := range names {
			name := fmt.Sprintf("no-such-topic-%d", i)
			q.Topics = append(q.Topics, kmsg.MetadataRequestTopic{Topic: &name})
		}
		return q
	}
	for range cap(d.decode.short) {
		d.decode.short <- struct{}{}
	}
	waiting, small := d.dial(t), d.dial(t)
	waiting.send(metadata(1000))
	eventually(t, func() bool { return d.held() == 1 })
	if r := ask[*kmsg.MetadataResponse](small, metadata(1)); len(r.Topics) != 1 {
		t.Errorf("%+v", r)
	}
	if d.held() != 1 {
		t.Error("the larger request was not held")
	}
	<-d.decode.short
	if r := receiveAs(waiting, waiting.id, &kmsg.MetadataResponse{Version: 9}); len(r.Topics) != 1000 {
		t.Errorf("%d topics", len(r.Topics))
	}
}
