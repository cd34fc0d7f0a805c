package edge

import (
	"strconv"
	"strings"

	"github.com/weirmq/weir/edge/mqtt"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
)

// Record headers for what MQTT says about a message besides topic (by default the
// record's key), payload (its value) and time. User properties become headers under
// their own names, in order, except those that begin with headerPrefix.
const (
	headerPrefix      = "weir."
	headerGateway     = "weir.gateway"    // added when the record is sent, if it has headerClient
	headerClient      = "weir.client"     // always the first header; absent if the route says source: off
	headerTopic       = "weir.mqtt-topic" // only if the topic is not the key
	headerQoS         = "weir.qos"
	headerRetain      = "weir.retain"
	headerContentType = "content-type"
	headerReplyTo     = "weir.reply-to"
	headerCorrelation = "weir.correlation-id"
	headerTTL         = "weir.ttl-ms"
	headerFormat      = "weir.payload-format" // utf-8
	headerSource      = "weir.source"         // buffer/lane/sequence, with --source-header
)

// arena is the memory for the keys and headers of a batch's records. Each batch
// reuses it.
type arena struct {
	bytes   []byte
	headers []record.Header
}

// The largest arena that is kept for the next batch.
const (
	arenaBytes   = 1 << 20
	arenaHeaders = 16 << 10
)

// reset makes the memory available to the next batch.
func (a *arena) reset() {
	if cap(a.bytes) > arenaBytes {
		a.bytes = nil
	}
	if cap(a.headers) > arenaHeaders {
		a.headers = nil
	}
	clear(a.headers)
	a.bytes, a.headers = a.bytes[:0], a.headers[:0]
}

// copy returns the bytes of s, which is never nil.
func (a *arena) copy(s string) []byte {
	if s == "" {
		return []byte{} // not nil, which would be null in a record
	}
	at := len(a.bytes)
	a.bytes = append(a.bytes, s...)
	return a.bytes[at:len(a.bytes):len(a.bytes)]
}

// encode turns an MQTT message into a record as its route says. The record is valid
// until a is reset. encode returns how many user properties it left out because their
// names are reserved for Weir.
func encode(m *mqtt.Message, to Target, a *arena) (r wal.Record, reserved int) {
	first := len(a.headers)
	defer func() { r.Headers = a.headers[first:len(a.headers):len(a.headers)] }()
	r = wal.Record{Topic: to.Topic, Record: record.Record{
		Timestamp: m.Accepted.UnixMilli(),
		Key:       a.copy(to.Key),
		Value:     m.Payload,
	}}
	if len(m.Payload) == 0 {
		r.Value = []byte{}
		if to.Tombstone && m.Retain && to.Key != "" {
			r.Value = nil
		}
	}
	add := func(key, value string) {
		a.headers = append(a.headers, record.Header{Key: key, Value: a.copy(value)})
	}
	if to.Source {
		add(headerClient, m.ClientID)
	}
	if to.Key != m.Topic {
		add(headerTopic, m.Topic)
	}
	if m.QoS != 1 {
		add(headerQoS, strconv.Itoa(int(m.QoS)))
	}
	if m.Retain {
		add(headerRetain, "1")
	}
	if m.Version != 5 {
		return r, 0
	}
	p := &m.Properties
	if p.ContentType != "" {
		add(headerContentType, p.ContentType)
	}
	if p.ResponseTopic != "" {
		add(headerReplyTo, p.ResponseTopic)
	}
	if len(p.CorrelationData) > 0 {
		a.headers = append(a.headers, record.Header{Key: headerCorrelation, Value: p.CorrelationData})
	}
	if p.HasExpiry {
		add(headerTTL, strconv.FormatInt(int64(p.Expiry)*1000, 10))
	}
	if p.HasPayloadFormat && p.PayloadFormat == 1 {
		add(headerFormat, "utf-8")
	}
	for _, u := range p.User {
		if strings.HasPrefix(u.Key, headerPrefix) {
			reserved++
			continue
		}
		add(u.Key, u.Value)
	}
	return r, reserved
}

// source returns the value of headerSource.
func source(id weir.BufferID, lane weir.Lane, seq uint64) []byte {
	b := make([]byte, 0, 2*len(id)+24)
	b = append(b, id.String()...)
	b = append(b, '/')
	b = append(b, lane.String()...)
	b = append(b, '/')
	return strconv.AppendUint(b, seq, 10)
}
