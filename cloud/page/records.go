package page

import (
	"cmp"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/payload"
)

// Limits of a page of records.
const (
	pageRecords = 20
	pageValue   = 64 << 10 // bytes of one value
)

// recordsView is a page of records of one partition.
type recordsView struct {
	console.Records
	Partitions []int32
	Shown      []shownRecord
	Previous   int64 // offset of the page before; -1 if there is none
	More       bool  // there are records after this page
	Last       int64 // offset of the last page
	At         string
}

// shownRecord is a record as text.
type shownRecord struct {
	Offset  int64
	Time    time.Time
	Key     shownBytes
	Value   shownBytes
	Headers []shownHeader
}

type shownHeader struct {
	Name  string
	Value shownBytes
}

// shownBytes is what bytes say.
type shownBytes struct {
	Kind payload.Kind
	Text string
	Size int64
	Cut  bool // the rest was left out
}

func shown(b []byte, size int64, contentType string) shownBytes {
	kind, text := payload.Decode(b, contentType)
	return shownBytes{kind, text, size, size > int64(len(b))}
}

// timeLayout is how a form sends a time.
const timeLayout = "2006-01-02T15:04"

func (p *pages) records(r *http.Request) (any, error) {
	q := r.URL.Query()
	name := q.Get("topic")
	var t console.Topic
	if err := p.get(r, "/v1/topics/"+url.PathEscape(name), &t); err != nil {
		return nil, err
	}
	partition, err := strconv.ParseInt(cmp.Or(q.Get("partition"), "0"), 10, 32)
	if err != nil || partition < 0 || partition >= int64(len(t.Partitions)) {
		return nil, refusal{http.StatusNotFound, "topic " + name + " has no partition " + q.Get("partition")}
	}
	bounds := t.Partitions[partition]
	v := recordsView{At: q.Get("at"), Last: max(bounds.Start, bounds.End-pageRecords), Previous: -1}
	for i := range t.Partitions {
		v.Partitions = append(v.Partitions, int32(i))
	}
	query := []any{"partition", partition, "max", pageRecords, "value_bytes", pageValue}
	switch offset := q.Get("offset"); {
	case v.At != "" && offset == "":
		at, err := time.Parse(timeLayout, v.At)
		if err != nil {
			return nil, refusal{http.StatusBadRequest, "at must be a time such as 2026-01-31T12:00"}
		}
		query = append(query, "since", at.Format(time.RFC3339))
	case offset != "":
		n, err := strconv.ParseInt(offset, 10, 64)
		if err != nil {
			return nil, refusal{http.StatusBadRequest, "offset must be a number"}
		}
		query = append(query, "offset", min(max(n, bounds.Start), bounds.End))
	default:
		query = append(query, "offset", v.Last)
	}
	if err := p.get(r, link("/v1/topics/"+url.PathEscape(name)+"/records", query...), &v.Records); err != nil {
		return nil, err
	}
	v.show()
	return v, nil
}

// show converts the records to text, and finds the pages before and after this one.
func (v *recordsView) show() {
	begin := v.Next
	for _, one := range v.Records.Records {
		contentType := ""
		s := shownRecord{Offset: one.Offset, Time: one.Time, Key: shown(one.Key, int64(len(one.Key)), "")}
		for _, h := range one.Headers {
			if strings.EqualFold(h.Name, "content-type") {
				contentType = string(h.Value)
			}
			s.Headers = append(s.Headers, shownHeader{h.Name, shown(h.Value, int64(len(h.Value)), "")})
		}
		s.Value = shown(one.Value, one.Size, contentType)
		v.Shown = append(v.Shown, s)
	}
	if len(v.Shown) > 0 {
		begin = v.Shown[0].Offset
	}
	if begin > v.Start {
		v.Previous = max(v.Start, begin-pageRecords)
	}
	v.More = v.Next < v.End
}
