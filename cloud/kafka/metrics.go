package kafka

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/storage/record"
)

// counters are the metrics of the door; README.md explains each. All are made at the
// start, so that a first event raises its counter from 0. No label comes from a
// client.
type counters struct {
	cut        *metrics.Counter // long polls answered early
	violations *metrics.Counter
	logins     map[string]*metrics.Counter // failed logins, by mechanism

	operations []*operation       // by api key; nil for operations that are not served
	errors     []*metrics.Counter // by code, beginning with -1

	producedBytes, producedRecords *metrics.Counter
	fetchedBytes                   *metrics.Counter
	throttled                      *metrics.FloatCounter
}

// operation has the metrics of one API.
type operation struct {
	requests *metrics.Counter
	seconds  *metrics.PrometheusHistogram

	planned sync.Once
	plan    *codePlan // set by planned, at the first response
}

// codes calls fn for each error code in a response of kmsg's, except NONE.
func (o *operation) codes(resp kmsg.Response, fn func(code int16)) {
	v := reflect.ValueOf(resp).Elem()
	o.planned.Do(func() { o.plan = planCodes(v.Type()) })
	o.plan.each(v, fn)
}

func newCounters(set *measure.Registry, apis []api) *counters {
	c := set.GetOrCreateCounter
	k := &counters{
		cut:             c("weir_kafka_polls_cut_total"),
		violations:      c("weir_kafka_protocol_errors_total"),
		logins:          make(map[string]*metrics.Counter),
		producedBytes:   c("weir_kafka_produced_bytes_total"),
		producedRecords: c("weir_kafka_produced_records_total"),
		fetchedBytes:    c("weir_kafka_fetched_bytes_total"),
		throttled:       set.GetOrCreateFloatCounter("weir_kafka_throttled_seconds_total"),
	}
	for _, m := range login.Mechanisms() {
		k.logins[m] = c(fmt.Sprintf("weir_kafka_logins_failed_total{mechanism=%q}", m))
	}
	for code := kerr.UnknownServerError.Code; ; code++ {
		name, ok := errorName(code)
		if !ok {
			break
		}
		k.errors = append(k.errors, c(fmt.Sprintf("weir_kafka_errors_total{error=%q}", name)))
	}
	for _, a := range apis {
		for len(k.operations) <= int(a.key) {
			k.operations = append(k.operations, nil)
		}
		k.operations[a.key] = &operation{
			requests: c(fmt.Sprintf("weir_kafka_requests_total{api=%q}", a.key.Name())),
			seconds:  set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("weir_kafka_request_seconds{api=%q}", a.key.Name()), requestBounds()),
		}
	}
	return k
}

// totals returns the door's own names for what is counted at all its listeners.
func totals() map[string]func(listener.Counts) uint64 {
	return map[string]func(listener.Counts) uint64{
		"weir_kafka_connections":                func(c listener.Counts) uint64 { return uint64(c.Open) },
		"weir_kafka_connections_total":          func(c listener.Counts) uint64 { return c.Accepted },
		"weir_kafka_connections_refused_total":  func(c listener.Counts) uint64 { return c.Refused },
		"weir_kafka_connections_gave_way_total": func(c listener.Counts) uint64 { return c.GaveWay },
	}
}

// requestBounds returns the upper bounds of the histograms of requests, in seconds.
// They are few, because each operation has a histogram.
func requestBounds() []float64 { return []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 10} }

// errorName returns Kafka's name of an error code, false if it has none. One name
// differs from kmsg's, because Kafka has changed it.
func errorName(code int16) (string, bool) {
	switch e := kerr.TypedErrorForCode(code); {
	case code == 0:
		return "", true
	case e.Code != code:
		return "", false
	case e == kerr.NotLeaderForPartition:
		return "NOT_LEADER_OR_FOLLOWER", true
	default:
		return e.Message, true
	}
}

// read counts a request that has arrived whole.
func (k *counters) read(r *request) {
	r.began = time.Now()
	k.operations[r.api.key].requests.Inc()
	t := r.conn.listener.Traffic
	t.Requests.Add(1)
	t.Received.Add(uint64(r.size) + 4) // with its length
}

// landed counts records that a client has written; b is the batch as it came.
func (k *counters) landed(b record.Batch) {
	k.producedBytes.Add(len(b))
	k.producedRecords.Add(int(b.Count()))
}

// answered counts a request whose answer can be sent; resp is nil if there is no
// answer.
func (k *counters) answered(r *request, resp kmsg.Response) {
	op := k.operations[r.api.key]
	op.seconds.Update((time.Since(r.began) - r.polled).Seconds())
	if r.wait > 0 {
		k.throttled.Add(float64(r.wait) / 1000)
	}
	at := r.conn.listener.Traffic
	failed := func(code int16) {
		k.failed(code)
		at.Errors.Add(1)
	}
	switch resp := resp.(type) {
	case nil:
	case *fetchResponse:
		resp.codes(failed)
	default:
		op.codes(resp, failed)
	}
}

// failed counts an error code in an answer.
func (k *counters) failed(code int16) {
	at := int(code - kerr.UnknownServerError.Code)
	if at < 0 || at >= len(k.errors) {
		at = 0
	}
	k.errors[at].Inc()
}

// violation counts a connection that was closed because of what the client sent.
func (k *counters) violation(at *listener.Traffic) {
	k.violations.Inc()
	at.Errors.Add(1)
}

// codePlan says where a response of kmsg's has error codes. They are counted there,
// and not where errors become codes, because operations change some codes and set
// others themselves. What counts is what is sent.
type codePlan struct {
	fields []int // fields that are error codes
	lists  []codeList
}

// codeList is a field that is a list of structures with error codes.
type codeList struct {
	field int
	of    *codePlan
}

func planCodes(t reflect.Type) *codePlan {
	p := &codePlan{}
	for i := range t.NumField() {
		switch f := t.Field(i); {
		case f.Type.Kind() == reflect.Int16 && strings.HasSuffix(f.Name, "ErrorCode"):
			p.fields = append(p.fields, i)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().Kind() == reflect.Struct:
			if of := planCodes(f.Type.Elem()); len(of.fields)+len(of.lists) > 0 {
				p.lists = append(p.lists, codeList{i, of})
			}
		}
	}
	return p
}

// each calls fn for each error code in a value of the plan's type.
func (p *codePlan) each(v reflect.Value, fn func(code int16)) {
	for _, i := range p.fields {
		if code := int16(v.Field(i).Int()); code != 0 {
			fn(code)
		}
	}
	for _, l := range p.lists {
		list := v.Field(l.field)
		for i := range list.Len() {
			l.of.each(list.Index(i), fn)
		}
	}
}

// violation is an error in what a client has sent. It closes the connection.
type violation struct{ error }

func (v violation) Unwrap() error { return v.error }

func violated(format string, args ...any) error { return violation{fmt.Errorf(format, args...)} }
