package kafka

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/quota"
	"github.com/weirmq/weir/storage/record"
)

// shown is what /metrics shows of the door, the groups and the transactions, by name
// and labels, without what package measure shows of every door.
func (d *door) shown(t testing.TB) map[string]float64 {
	t.Helper()
	var out bytes.Buffer
	d.o.Metrics.WritePrometheus(&out)
	all := make(map[string]float64)
	for line := range strings.Lines(out.String()) {
		at := strings.LastIndexByte(line, ' ')
		value, err := strconv.ParseFloat(strings.TrimSpace(line[at+1:]), 64)
		if _, again := all[line[:at]]; err != nil || again {
			t.Fatalf("line %q: %v", line, err)
		}
		if !strings.HasPrefix(line, "weir_shard_") && !strings.HasPrefix(line, "weir_door_") {
			all[line[:at]] = value
		}
	}
	return all
}

// moved is by how much what counts has moved since before, but for times.
func (d *door) moved(t testing.TB, before map[string]float64) map[string]float64 {
	t.Helper()
	after := d.shown(t)
	for name, value := range before {
		if after[name] -= value; after[name] == 0 {
			delete(after, name)
		}
	}
	maps.DeleteFunc(after, func(name string, by float64) bool {
		return by == 0 || strings.HasPrefix(name, "weir_kafka_request_seconds") && !strings.Contains(name, "_count")
	})
	return after
}

// done is what is counted of an API whose requests were answered n times.
func done(n float64, apis ...kmsg.Key) map[string]float64 {
	all := make(map[string]float64)
	for _, key := range apis {
		all[fmt.Sprintf("weir_kafka_requests_total{api=%q}", key.Name())] += n
		all[fmt.Sprintf("weir_kafka_request_seconds_count{api=%q}", key.Name())] += n
	}
	return all
}

// with adds to what is counted.
func with(all map[string]float64, name string, by float64) map[string]float64 {
	all["weir_"+name] = by
	return all
}

// Each metric moves for its reason, and no other one does.
func TestCounting(t *testing.T) {
	two := batchOf(t, record.None, "x", "yz")
	unknown := broker.Topic{Name: "nowhere", ID: [16]byte{1}}
	hole := func(version int16, acks int16) *kmsg.ProduceRequest {
		return produceTo(version, unknown, acks, two, two)
	}
	frame := func(p ...byte) []byte { return append([]byte{0, 0, 0, byte(len(p))}, p...) }
	garbage := func(p ...byte) func(*door, *wire, broker.Topic) {
		return func(_ *door, w *wire, _ broker.Topic) { w.write(p); w.closed() }
	}
	violation := map[string]float64{"weir_kafka_protocol_errors_total": 1}
	asked := func(n float64, key kmsg.Key) map[string]float64 { // and not answered
		return map[string]float64{fmt.Sprintf("weir_kafka_requests_total{api=%q}", key.Name()): n}
	}
	for what, test := range map[string]struct {
		do   func(d *door, w *wire, topic broker.Topic)
		want map[string]float64
	}{
		"nothing": {func(*door, *wire, broker.Topic) {}, map[string]float64{}},
		"produce": {func(_ *door, w *wire, topic broker.Topic) {
			_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, two, two))
		}, with(with(done(1, kmsg.Produce), "kafka_produced_records_total", 4), "kafka_produced_bytes_total", float64(2*len(two)))},
		"produce without acks": {func(d *door, w *wire, topic broker.Topic) {
			w.send(produceTo(9, topic, 0, two))
			eventually(t, func() bool { _, end, _ := d.broker.Bounds(topic.ID, 0); return end == 2 })
			_ = ask[*kmsg.ApiVersionsResponse](w, &kmsg.ApiVersionsRequest{}) // behind it
		}, with(with(done(1, kmsg.Produce, kmsg.ApiVersions), "kafka_produced_records_total", 2), "kafka_produced_bytes_total", float64(len(two)))},
		"produce nowhere": {func(_ *door, w *wire, _ broker.Topic) {
			_ = ask[*kmsg.ProduceResponse](w, hole(9, -1))
		}, with(done(1, kmsg.Produce), `kafka_errors_total{error="UNKNOWN_TOPIC_OR_PARTITION"}`, 2)},
		"produce nowhere without acks": {func(_ *door, w *wire, _ broker.Topic) {
			w.send(hole(9, 0))
			w.closed()
		}, asked(1, kmsg.Produce)}, // no answer, and no violation
		"produce for an epoch that is over": {func(_ *door, w *wire, topic broker.Topic) {
			for _, epoch := range []int16{5, 4} {
				_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, sequenced(t, 1, epoch, 0)))
			}
		}, with(with(with(done(2, kmsg.Produce), "kafka_produced_records_total", 1), "kafka_produced_bytes_total", float64(len(sequenced(t, 1, 5, 0)))),
			`kafka_errors_total{error="INVALID_PRODUCER_EPOCH"}`, 1)},
		"fetch": {func(d *door, w *wire, topic broker.Topic) {
			if _, err := d.append(topic, two); err != nil {
				t.Error(err)
			}
			_ = ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, 0, 0))
		}, with(done(1, kmsg.Fetch), "kafka_fetched_bytes_total", float64(len(two)))},
		"fetch beyond the end": {func(_ *door, w *wire, topic broker.Topic) {
			_ = ask[*kmsg.FetchResponse](w, fetchFrom(12, topic, 9, 0))
		}, with(done(1, kmsg.Fetch), `kafka_errors_total{error="OFFSET_OUT_OF_RANGE"}`, 1)},
		"fetch of a session": {func(_ *door, w *wire, topic broker.Topic) {
			q := fetchFrom(12, topic, 0)
			q.SessionID = 7
			_ = ask[*kmsg.FetchResponse](w, q)
		}, with(done(1, kmsg.Fetch), `kafka_errors_total{error="FETCH_SESSION_ID_NOT_FOUND"}`, 1)},
		"unknown topic": {func(_ *door, w *wire, _ broker.Topic) {
			_ = ask[*kmsg.ListOffsetsResponse](w, &kmsg.ListOffsetsRequest{Version: 5, Topics: []kmsg.ListOffsetsRequestTopic{
				{Topic: "nowhere", Partitions: []kmsg.ListOffsetsRequestTopicPartition{{Partition: 0, CurrentLeaderEpoch: -1}, {Partition: 1, CurrentLeaderEpoch: -1}}}}})
		}, with(done(1, kmsg.ListOffsets), `kafka_errors_total{error="UNKNOWN_TOPIC_OR_PARTITION"}`, 2)},
		"not the owner": {func(d *door, w *wire, topic broker.Topic) {
			d.broker.Follow(0, broker.Node{ID: 9, Name: "other"}, "c")
			_ = ask[*kmsg.ProduceResponse](w, produceTo(9, topic, -1, two))
			d.broker.Lead(d.own)
		}, with(done(1, kmsg.Produce), `kafka_errors_total{error="NOT_LEADER_OR_FOLLOWER"}`, 1)},
		"too new": {func(_ *door, w *wire, _ broker.Topic) {
			w.write([]byte{0, 0, 0, 14, 0, 18, 0, 99, 0, 0, 0, 42, 0, 1, 'x', 0, 1, 2})
			_ = receiveAs(w, 42, &kmsg.ApiVersionsResponse{})
		}, with(done(1, kmsg.ApiVersions), `kafka_errors_total{error="UNSUPPORTED_VERSION"}`, 1)},

		"huge frame":     {garbage(0x7f, 0xff, 0xff, 0xff), violation},
		"unknown key":    {garbage(frame(0x7f, 0, 0, 0, 0, 0, 0, 1, 0xff, 0xff)...), violation},
		"version":        {garbage(frame(0, 3, 0, 99, 0, 0, 0, 1, 0xff, 0xff)...), violation},
		"long heartbeat": {garbage(0, 16, 0, 0, 0, 12, 0, 0, 0, 0, 0, 0), violation},
		"short header":   {garbage(frame(0, 3, 0, 1, 0, 0, 0, 1, 0, 9)...), violation},
		"short body":     {garbage(frame(0, 3, 0, 1, 0, 0, 0, 1, 0xff, 0xff)...), with(asked(1, kmsg.Metadata), "kafka_protocol_errors_total", 1)},
		"short produce":  {garbage(frame(0, 0, 0, 3, 0, 0, 0, 1, 0xff, 0xff)...), with(asked(1, kmsg.Produce), "kafka_protocol_errors_total", 1)},
		"old produce":    {garbage(frame(0, 0, 0, 2, 0, 0, 0, 1, 0xff, 0xff)...), with(asked(1, kmsg.Produce), "kafka_protocol_errors_total", 1)},
		"never ends":     {garbage(0, 0, 1, 0, 0, 3, 0, 1, 0, 0, 0, 1), map[string]float64{}},
		"gone":           {func(_ *door, w *wire, _ broker.Topic) { w.write([]byte{0, 0, 1, 0, 0, 3}) }, map[string]float64{}},
	} {
		t.Run(what, func(t *testing.T) {
			d := open(t, setup{options: Options{FrameTime: 100 * time.Millisecond}, manual: true})
			topic := d.newTopic(t, "a", 2, nil)
			before := d.shown(t)
			w := d.dial(t)
			eventually(t, func() bool { return d.shown(t)["weir_kafka_connections"] == 1 })
			test.do(d, w, topic)
			_ = w.nc.Close()
			eventually(t, func() bool { return d.shown(t)["weir_kafka_connections"] == 0 })
			want := with(maps.Clone(test.want), "kafka_connections_total", 1)
			if got := d.moved(t, before); !maps.Equal(got, want) {
				t.Errorf("moved %v, want %v", got, want)
			}
		})
	}
}

// append is that of the broker, and waits.
func (d *door) append(topic broker.Topic, b record.Batch) (base int64, err error) {
	landed := make(chan struct{})
	d.broker.Append(broker.Append{Topic: topic.ID, Batch: slices.Clone(b)}, func(at int64, e error) {
		base, err = at, e
		close(landed)
	})
	<-landed
	return base, err
}

// TestCountingAtListener: the door registers, and counts what passes through each
// listener: bytes, requests, and errors.
func TestCountingAtListener(t *testing.T) {
	d := open(t, setup{manual: true})
	w := d.dial(t)
	_ = ask[*kmsg.MetadataResponse](w, metadataFor(false, "nowhere"))
	w.write([]byte{0x7f, 0xff, 0xff, 0xff})
	w.closed()
	eventually(t, func() bool { return d.o.Metrics.Listeners()[0].Open == 0 })
	all := d.o.Metrics.Listeners()
	if len(all) != 1 || all[0].Door != "kafka" || all[0].Accepted != 1 || all[0].Requests != 1 || all[0].Errors != 2 {
		t.Fatalf("%+v", all)
	}
	request := metadataFor(false, "nowhere")
	if least := uint64(4 + len(request.AppendTo(nil))); all[0].Received < least || all[0].Received > least+64 || all[0].Sent < 20 {
		t.Errorf("%d bytes received, %d sent; the request has %d and a header", all[0].Received, all[0].Sent, least)
	}
	before := all[0]
	topic := d.newTopic(t, "a", 1, nil)
	batch := batchOf(t, record.None, strings.Repeat("x", 1000))
	_ = ask[*kmsg.ProduceResponse](d.dial(t), produceTo(9, topic, -1, batch))
	_ = ask[*kmsg.FetchResponse](d.dial(t), fetchFrom(12, topic, 0))
	eventually(t, func() bool { // what was sent is counted after it was sent
		now := d.o.Metrics.Listeners()[0]
		return now.Received-before.Received >= uint64(len(batch)) && now.Sent-before.Sent >= uint64(len(batch))
	})
	if now := d.o.Metrics.Listeners()[0]; now.Errors != before.Errors {
		t.Errorf("%d errors, %d before", now.Errors, before.Errors)
	}
}

func TestCountingRefused(t *testing.T) {
	d := open(t, setup{options: Options{MaxConns: 1}})
	first := d.dial(t)
	_ = ask[*kmsg.ApiVersionsResponse](first, &kmsg.ApiVersionsRequest{Version: 2})
	before := d.shown(t)
	d.dial(t).closed()
	if got, want := d.moved(t, before), with(map[string]float64{}, "kafka_connections_refused_total", 1); !maps.Equal(got, want) {
		t.Errorf("moved %v, want %v", got, want)
	}
}

// A failed login is counted under its mechanism. A client that does not log in where
// it must, or presents an invalid certificate, violates the protocol.
func TestCountingLogins(t *testing.T) {
	both := []kmsg.Key{kmsg.SASLHandshake, kmsg.SASLAuthenticate}
	server, nameless := pair(t, x509.Certificate{})
	server.ClientAuth = tls.RequireAndVerifyClientCert
	for what, test := range map[string]struct {
		tls  *tls.Config
		do   func(d *door, w *wire)
		want map[string]float64
	}{
		"success": {nil, func(_ *door, w *wire) { w.login("ann", "ann's secret") }, done(1, both...)},
		"wrong password": {nil, func(_ *door, w *wire) { w.login("ann", "other"); w.closed() },
			with(with(done(1, both...), `kafka_logins_failed_total{mechanism="PLAIN"}`, 1), `kafka_errors_total{error="SASL_AUTHENTICATION_FAILED"}`, 1)},
		"mechanism that is not offered": {nil, func(_ *door, w *wire) {
			_ = ask[*kmsg.SASLHandshakeResponse](w, &kmsg.SASLHandshakeRequest{Version: 1, Mechanism: ScramSHA256})
			w.closed()
		}, with(done(1, kmsg.SASLHandshake), `kafka_errors_total{error="UNSUPPORTED_SASL_MECHANISM"}`, 1)},
		"old handshake": {nil, func(_ *door, w *wire) { w.send(&kmsg.SASLHandshakeRequest{Mechanism: Plain}); w.closed() },
			map[string]float64{`weir_kafka_requests_total{api="SASLHandshake"}`: 1, "weir_kafka_protocol_errors_total": 1}},
		"no login": {nil, func(_ *door, w *wire) { w.send(&kmsg.MetadataRequest{Version: 1}); w.closed() },
			map[string]float64{"weir_kafka_protocol_errors_total": 1}},
		"not the owner": {nil, func(d *door, w *wire) {
			d.lost.Store(true)
			w.send(&kmsg.SASLHandshakeRequest{Version: 1, Mechanism: Plain})
			w.closed()
		}, map[string]float64{`weir_kafka_requests_total{api="SASLHandshake"}`: 1}},
		"no TLS": {server, func(_ *door, w *wire) {
			w.write([]byte("GET / HTTP/1.1\r\n\r\n"))
			_ = w.nc.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, w.br)
		},
			map[string]float64{"weir_kafka_protocol_errors_total": 1}},
		"no certificate": {server, func(d *door, _ *wire) { d.turnedAway(t, &tls.Config{RootCAs: nameless.RootCAs}) },
			map[string]float64{"weir_kafka_protocol_errors_total": 1, "weir_kafka_connections_total": 2}},
		"certificate of nobody": {server, func(d *door, _ *wire) { d.turnedAway(t, nameless) },
			map[string]float64{"weir_kafka_protocol_errors_total": 1, "weir_kafka_connections_total": 2}},
	} {
		t.Run(what, func(t *testing.T) {
			d := secured(t, Options{Listeners: []Listener{{TLS: test.tls}}}, Plain)
			before := d.shown(t)
			w := d.dial(t)
			test.do(d, w)
			_ = w.nc.Close()
			want := maps.Clone(test.want)
			want["weir_kafka_connections_total"] = max(want["weir_kafka_connections_total"], 1)
			eventually(t, func() bool {
				now := d.shown(t)
				return now["weir_kafka_connections_total"] == want["weir_kafka_connections_total"] && now["weir_kafka_connections"] == 0
			})
			if got := d.moved(t, before); !maps.Equal(got, want) {
				t.Errorf("moved %v, want %v", got, want)
			}
		})
	}
}

// What a client is told to wait is what counts.
func TestCountingThrottle(t *testing.T) {
	d := secured(t, Options{}, Plain)
	topic := d.newTopic(t, "a", 1, nil)
	if err := d.own.Quotas.Set(t.Context(), quota.Entity{User: "ann"}, func(to *quota.Limits) { *to = quota.Limits{Produce: 1_000, Consume: 500} }, false); err != nil {
		t.Fatal(err)
	}
	told := int32(0)
	for user, waits := range map[string]bool{"root": false, "ann": true} {
		big := batchOf(t, record.None, string(make([]byte, 4_000)))
		produced := ask[*kmsg.ProduceResponse](d.as(t, user), produceTo(9, topic, -1, big)).ThrottleMillis
		fetched := ask[*kmsg.FetchResponse](d.as(t, user), fetchFrom(12, topic, 0)).ThrottleMillis
		if told += produced + fetched; (produced > 0) != waits || (fetched > 0) != waits {
			t.Errorf("%s waits %d and %d ms", user, produced, fetched)
		}
	}
	if got := d.shown(t)["weir_kafka_throttled_seconds_total"]; int32(got*1000+0.5) != told {
		t.Errorf("%v s, the clients were told %d ms", got, told)
	}
}

// How long a Fetch waits for records is for its client to say, and is not part of
// how long the door takes.
func TestLongPollIsNotTime(t *testing.T) {
	d := open(t, setup{})
	q := fetchFrom(12, d.newTopic(t, "a", 2, nil), 0, 0)
	q.MaxWaitMillis = 200
	w := d.dial(t)
	began := time.Now()
	_ = ask[*kmsg.FetchResponse](w, q)
	most := time.Since(began) - 200*time.Millisecond
	if got := d.shown(t)[`weir_kafka_request_seconds_sum{api="Fetch"}`]; got <= 0 || got > most.Seconds() {
		t.Errorf("%v s, want at most %v", got, most)
	}
}

// fill sets every error code that there is in v, in lists of two, and counts them.
func fill(v reflect.Value, code int64) int {
	n := 0
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return fill(v.Elem(), code)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			n += fill(v.Index(i), code)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			switch {
			case !f.IsExported():
			case strings.HasSuffix(f.Name, "ErrorCode"):
				v.Field(i).SetInt(code)
				n++
			default:
				n += fill(v.Field(i), code)
			}
		}
	}
	return n
}

// No error code of any answer is overlooked, whatever it is.
func TestErrorCodes(t *testing.T) {
	d := open(t, setup{})
	before := d.shown(t)
	total := 0.0
	for i, a := range d.apis {
		resp := a.key.Response()
		v := reflect.ValueOf(resp).Elem()
		n := 0
		for i := range v.NumField() { // resp itself is no pointer that may be replaced
			if f := v.Type().Field(i); strings.HasSuffix(f.Name, "ErrorCode") {
				v.Field(i).SetInt(int64([]int16{6, 30_000, -7}[n%3]))
				n++
			} else if f.IsExported() {
				n += fill(v.Field(i), int64([]int16{6, 30_000, -7}[i%3]))
			}
		}
		found := 0
		d.count.operations[a.key].codes(resp, func(code int16) { d.count.failed(code); found++ })
		if found != n {
			t.Errorf("%s: %d of %d codes are found", d.apis[i].key.Name(), found, n)
		}
		total += float64(n)
	}
	sum := 0.0
	for name, by := range d.moved(t, before) {
		if sum += by; name != `weir_kafka_errors_total{error="NOT_LEADER_OR_FOLLOWER"}` && name != `weir_kafka_errors_total{error="UNKNOWN_SERVER_ERROR"}` {
			t.Errorf("%s has moved", name)
		}
	}
	if sum != total {
		t.Errorf("%v of %v codes are counted", sum, total)
	}
}

// README.md and /metrics name the same metrics.
func TestReadmeHasTheMetrics(t *testing.T) {
	d := open(t, setup{})
	topic := d.newTopic(t, "a", 1, nil)
	d.committed(t, "g", topic)
	m := &sharer{wire: d.dial(t), topic: topic, member: "m"}
	ask[*kmsg.ShareGroupHeartbeatResponse](m.wire, shares("s", "m", "a"))
	q := m.fetchRequest()
	q.GroupID = kmsg.StringPtr("s")
	m.fetch(q)
	_ = ask[*kmsg.ApiVersionsResponse](d.dial(t), &kmsg.ApiVersionsRequest{Version: 2})
	for d.strangers.Peer("").TryTake(shortRequest) != nil { // until the pool is short
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	if _, err := d.strangers.Peer("").Take(ctx, shortRequest); err == nil {
		t.Error("the pool is not short")
	}
	shown := make(map[string]bool)
	for name := range d.shown(t) {
		name, _, _ = strings.Cut(name, "{")
		for _, part := range []string{"_bucket", "_sum", "_count"} {
			if whole, ok := strings.CutSuffix(name, part); ok && strings.HasSuffix(whole, "_seconds") {
				name = whole
			}
		}
		shown[name] = true
	}
	body, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(body), "\n## Metrics\n")
	section, _, _ = strings.Cut(section, "\n## ")
	named := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(weir_[a-z_]+)").FindAllStringSubmatch(section, -1) {
		named[row[1]] = true
	}
	if !maps.Equal(shown, named) {
		t.Errorf("README.md has %v, /metrics has %v", slices.Sorted(maps.Keys(named)), slices.Sorted(maps.Keys(shown)))
	}
}
