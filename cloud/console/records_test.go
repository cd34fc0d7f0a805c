package console

import (
	"fmt"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
)

// write appends a batch to partition 0 of a topic.
func (n *node) write(t *testing.T, topic string, records ...record.Record) {
	t.Helper()
	b := record.NewBuilder(record.Zstd)
	for i := range records {
		if err := b.Append(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		t.Fatal(err)
	}
	known, err := n.broker.Topic(topic)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	n.broker.Append(broker.Append{Topic: known.ID, Batch: batch}, func(_ int64, err error) { done <- err })
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// offsets are those of records.
func offsets(r Records) []int64 {
	var all []int64
	for _, one := range r.Records {
		all = append(all, one.Offset)
	}
	return all
}

// TestRecords: records come page by page, from an offset or a time, with all that
// they have.
func TestRecords(t *testing.T) {
	n := newNode(t)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t","partitions":2}`)
	const path = "/v1/topics/t/records"
	if none := ask[Records](t, n, 200, "GET", path, ""); none.Records == nil || len(none.Records) != 0 || none.Next != 0 || none.End != 0 {
		t.Errorf("of an empty topic: %+v", none)
	}
	at := time.UnixMilli(1_800_000_000_000).UTC()
	for i := range 3 {
		var batch []record.Record
		for j := range 4 {
			batch = append(batch, record.Record{Timestamp: at.Add(time.Duration(4*i+j) * time.Second).UnixMilli(), Value: fmt.Appendf(nil, "value %d", 4*i+j)})
		}
		n.write(t, "t", batch...)
	}
	n.write(t, "t", record.Record{Key: []byte{}, Value: nil, Headers: []record.Header{{Key: "h", Value: []byte{1}}, {Key: "null"}}})
	for query, want := range map[string][]int64{
		"":                                  {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
		"?max=3":                            {0, 1, 2},
		"?max=3&offset=3":                   {3, 4, 5},
		"?offset=6&max=1":                   {6},
		"?offset=13":                        nil,
		"?partition=1":                      nil,
		"?since=2027-01-15T08:00:10Z&max=2": {10, 11},
		"?since=2099-01-01T00:00:00Z":       nil,
	} {
		page := ask[Records](t, n, 200, "GET", path+query, "")
		if got := offsets(page); !slices.Equal(got, want) {
			t.Errorf("%s: %v, want %v", query, got, want)
		}
		if len(want) > 0 && page.Next != want[len(want)-1]+1 {
			t.Errorf("%s: next is %d", query, page.Next)
		}
	}
	all := ask[Records](t, n, 200, "GET", path, "").Records
	if r := all[5]; string(r.Value) != "value 5" || r.Key != nil || r.Size != 7 || !r.Time.Equal(at.Add(5*time.Second)) {
		t.Errorf("a record: %+v", r)
	}
	if r := all[12]; r.Value != nil || r.Key == nil || len(r.Headers) != 2 || r.Headers[0].Name != "h" || r.Headers[0].Value[0] != 1 || r.Headers[1].Value != nil {
		t.Errorf("a tombstone: %+v", r)
	}
	if r := ask[Records](t, n, 200, "GET", path+"?value_bytes=3&max=1", "").Records[0]; string(r.Value) != "val" || r.Size != 7 {
		t.Errorf("cut: %+v", r)
	}
	for query, want := range map[string]string{"?partition=2": "partition", "?offset=-1": "offset", "?offset=14": "after the end", "?max=1001": "max", "?offset=1&since=2099-01-01T00:00:00Z": "combined with offset", "?since=yesterday": "since"} {
		if e := ask[Error](t, n, 400, "GET", path+query, ""); !strings.Contains(e.Error, want) {
			t.Errorf("%s: %q", query, e.Error)
		}
	}
	ask[Error](t, n, 404, "GET", "/v1/topics/nosuch/records", "")
	ask[Error](t, n, 404, "GET", "/v1/topics/nosuch", "")
	if one := ask[Topic](t, n, 200, "GET", "/v1/topics/t", ""); one.Records != 13 || one.Bytes == 0 {
		t.Errorf("the topic: %+v", one)
	}
}

// TestRecordsBounds: one answer has bounds, whatever the records are, and the next one
// goes on behind it.
func TestRecordsBounds(t *testing.T) {
	n := newNode(t)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t","partitions":1}`)
	for range 5 {
		n.write(t, "t", record.Record{Value: make([]byte, maxPayload/2+1)})
	}
	next, pages := int64(0), 0
	for ; next < 5; pages++ {
		page := ask[Records](t, n, 200, "GET", fmt.Sprint("/v1/topics/t/records?offset=", next), "")
		if len(page.Records) == 0 || len(page.Records) > 2 || page.Next <= next {
			t.Fatalf("page %d: %d records, next %d", pages, len(page.Records), page.Next)
		}
		next = page.Next
	}
	if pages != 3 {
		t.Errorf("%d pages", pages)
	}
}

// TestRecordsRole: the content of records needs more than the right to read.
func TestRecordsRole(t *testing.T) {
	n := newNode(t)
	ask[Topic](t, n, 200, "POST", "/v1/topics", `{"name":"t"}`)
	reader := admin.NewToken()
	g := admin.New(admin.Options{Service: "weir-cloud", Anonymous: true, Lookup: func(admin.Hash) (admin.Caller, error) {
		return admin.Caller{Name: "ann", Role: admin.Read}, nil
	}})
	h := New(Options{Guard: g, Broker: n.broker, Metrics: n.metrics})
	for token, want := range map[string]int{"": 401, reader: 403} {
		r := httptest.NewRequestWithContext(t.Context(), "GET", "/v1/topics/t/records", nil)
		r.Host = "localhost"
		if token != "" {
			r.Header.Set("Authorization", "Bearer "+token)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("with %q: %d, want %d", token, w.Code, want)
		}
	}
}

// TestAborted: records of a transaction that was aborted, and its marker, are left out;
// the page goes on behind them.
func TestAborted(t *testing.T) {
	build := func(base int64, values ...string) record.Batch {
		b := record.NewBuilder(record.None)
		for _, v := range values {
			if err := b.Append(&record.Record{Value: []byte(v)}); err != nil {
				t.Fatal(err)
			}
		}
		batch, err := b.Build()
		if err != nil {
			t.Fatal(err)
		}
		batch.SetBaseOffset(base)
		return batch
	}
	transactional := func(base int64) record.Batch {
		b := build(base, "c")
		b[22] |= 1 << 4 // attributes, low byte
		for i := range 8 {
			b[43+i] = 0
		}
		b[50] = 7 // producer id
		return b
	}
	marker := record.NewMarker(7, 0, record.Marker{}, 0)
	marker.SetBaseOffset(3)
	aborted := []broker.Aborted{{Producer: 7, First: 2, Last: 3}}
	f := found{wanted: wanted{max: 10, value: 100}}
	for _, b := range []record.Batch{build(0, "a", "b"), transactional(2), marker, transactional(4)} {
		if err := f.add(b, aborted); err != nil {
			t.Fatal(err)
		}
	}
	if got := offsets(f.Records); f.Next != 5 || !slices.Equal(got, []int64{0, 1, 4}) {
		t.Errorf("next %d, offsets %v", f.Next, got)
	}
}

// TestAssigned: assignments of Kafka's consumers are read, and nothing else is taken
// for one.
func TestAssigned(t *testing.T) {
	good := []byte("\x00\x01\x00\x00\x00\x02" + "\x00\x01a\x00\x00\x00\x02\x00\x00\x00\x00\x00\x00\x00\x03" + "\x00\x02bc\x00\x00\x00\x01\x00\x00\x00\x07" + "\xff\xff\xff\xff")
	if got := fmt.Sprint(assigned(good)); got != "[a/0 a/3 bc/7]" {
		t.Errorf("got %s", got)
	}
	for n := range len(good) - 4 {
		if got := assigned(good[:n]); n > 2 && got != nil {
			t.Errorf("the first %d bytes: %v", n, got)
		}
	}
	if got := assigned([]byte("\x00\x00\xff\xff\xff\xff\x00\x01a\xff\xff\xff\xff")); got != nil {
		t.Errorf("endless: %v", got)
	}
}
