package console

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
)

// Limits of one answer with records.
const (
	defaultRecords = 100
	maxRecords     = 1000
	maxPayload     = 1 << 20  // bytes of keys, values and headers, after which no further record is added
	maxValue       = 16 << 20 // bytes of one value or key
	maxInflated    = 64 << 20 // bytes that a batch is unpacked to: the log takes no more
	fetchBytes     = 256 << 10
	maxFetches     = 32 // of one request, through data without a record to show
	maxReads       = 4  // requests that read records at once; others wait
)

// Records is the answer to GET /v1/topics/{name}/records.
type Records struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Start     int64    `json:"start"` // of the partition
	End       int64    `json:"end"`
	Next      int64    `json:"next"` // offset to continue at; End if nothing follows yet
	Records   []Record `json:"records"`
}

// Record is one record. A key, value or header that is null is not an empty one.
type Record struct {
	Offset  int64          `json:"offset"`
	Time    time.Time      `json:"time"`
	Key     []byte         `json:"key"` // base64 in JSON
	Value   []byte         `json:"value"`
	Size    int64          `json:"value_bytes"` // larger than len(Value) if that was cut
	Headers []RecordHeader `json:"headers,omitempty"`
}

// RecordHeader is a header of a record.
type RecordHeader struct {
	Name  string `json:"name"`
	Value []byte `json:"value"`
}

// wanted is the part of a partition that is requested.
type wanted struct {
	topic     broker.Topic
	partition int32
	offset    int64 // the first; or
	since     int64 // in ms since 1970, if offset is -1
	max       int   // records
	value     int64 // bytes of a value
}

// records answers with committed records of a partition, in order.
func (c *console) records(r *http.Request) (any, error) {
	t, err := c.Broker.Topic(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	w, err := wants(r, t)
	if err != nil {
		return nil, err
	}
	select { // reading and unpacking takes memory
	case c.reads <- struct{}{}:
		defer func() { <-c.reads }()
	case <-r.Context().Done():
		return nil, r.Context().Err()
	}
	return c.read(r.Context(), w)
}

func wants(r *http.Request, t broker.Topic) (wanted, error) {
	q := r.URL.Query()
	w := wanted{topic: t, offset: -1, max: defaultRecords, value: maxValue}
	number := func(name string, most int64, set func(int64)) error {
		text := q.Get(name)
		if text == "" {
			return nil
		}
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || n < 0 || n > most {
			return fmt.Errorf("%w: %s is %q: it must be a number from 0 to %d", errInput, name, text, most)
		}
		set(n)
		return nil
	}
	err := errors.Join(
		number("partition", int64(t.Partitions)-1, func(n int64) { w.partition = int32(n) }),
		number("offset", 1<<62, func(n int64) { w.offset = n }),
		number("max", maxRecords, func(n int64) { w.max = int(n) }),
		number("value_bytes", maxValue, func(n int64) { w.value = n }))
	if since := q.Get("since"); since != "" && err == nil {
		at, failed := time.Parse(time.RFC3339Nano, since)
		if failed != nil || w.offset >= 0 {
			return w, fmt.Errorf("%w: since must be a time like 2026-01-31T12:00:00Z, and cannot be combined with offset", errInput)
		}
		w.since = at.UnixMilli()
	}
	return w, err
}

// begin returns the offset to read from.
func (c *console) begin(ctx context.Context, w wanted) (int64, error) {
	at, err := c.Records.Range(ctx, w.topic.ID, w.partition)
	start, end := at.Start, at.End
	switch {
	case err != nil:
		return 0, err
	case w.offset > end:
		return 0, fmt.Errorf("%w: offset %d is after the end of partition %d of topic %s, which has offsets %d to %d", errInput, w.offset, w.partition, w.topic.Name, start, end)
	case w.offset >= 0:
		return max(w.offset, start), nil
	case w.since == 0:
		return start, nil
	}
	offset, _, err := c.Records.OffsetByTime(ctx, w.topic.ID, w.partition, w.since)
	if offset < 0 && err == nil {
		return end, nil // everything is older
	}
	return offset, err
}

func (c *console) read(ctx context.Context, w wanted) (Records, error) {
	next, err := c.begin(ctx, w)
	if err != nil {
		return Records{}, err
	}
	found := found{Records: Records{Topic: w.topic.Name, Partition: w.partition, Next: next, Records: []Record{}}, wanted: w}
	for range maxFetches {
		f, err := c.Records.FetchCommitted(ctx, w.topic.ID, w.partition, found.Next, fetchBytes)
		if err == nil || errors.Is(err, broker.ErrOffsetOutOfRange) {
			found.Start, found.End = f.Start, f.End
		}
		if errors.Is(err, broker.ErrOffsetOutOfRange) && found.Next < f.Start {
			found.Next = f.Start // retention deleted them meanwhile
			continue
		}
		if err != nil && len(found.Records.Records) > 0 {
			break // the error is for the request that begins there
		}
		if err != nil {
			return Records{}, err
		}
		if len(f.Batches) == 0 {
			break
		}
		for _, b := range f.Batches {
			if err := found.add(b, f.Aborted); errors.Is(err, errFull) {
				return found.Records, nil
			} else if err != nil {
				return Records{}, fmt.Errorf("decode the records at offset %d: %w", record.Batch(b).BaseOffset(), err)
			}
		}
	}
	return found.Records, nil
}

// found collects an answer.
type found struct {
	Records
	wanted wanted
	bytes  int64
}

// errFull stops the walk through a batch.
var errFull = errors.New("full")

// add appends the records of a batch, except those that applications do not see:
// markers of transactions, and records of aborted ones.
func (f *found) add(b record.Batch, aborted []broker.Aborted) error {
	gone := b.Transactional() && slices.ContainsFunc(aborted, func(a broker.Aborted) bool {
		return a.Producer == b.ProducerID() && a.First <= b.BaseOffset() && b.BaseOffset() <= a.Last
	})
	if !b.Control() && !gone {
		err := b.Each(maxInflated, func(r *record.Record) error {
			if r.Offset < f.Next {
				return nil
			}
			if len(f.Records.Records) >= f.wanted.max || f.bytes >= maxPayload {
				return errFull
			}
			f.append(r)
			f.Next = r.Offset + 1
			return nil
		})
		if err != nil {
			return err
		}
	}
	f.Next = max(f.Next, b.NextOffset())
	return nil
}

func (f *found) append(r *record.Record) {
	one := Record{Offset: r.Offset, Time: time.UnixMilli(r.Timestamp).UTC(), Size: int64(len(r.Value)),
		Key: cut(r.Key, f.wanted.value), Value: cut(r.Value, f.wanted.value)}
	f.bytes += int64(len(one.Key) + len(one.Value))
	for _, h := range r.Headers {
		if f.bytes >= maxPayload+maxValue { // a record may have 16,384 headers
			break
		}
		one.Headers = append(one.Headers, RecordHeader{h.Key, cut(h.Value, f.wanted.value)})
		f.bytes += int64(len(h.Key) + len(h.Value))
	}
	f.Records.Records = append(f.Records.Records, one)
}

// cut returns a copy of the first n bytes; nil stays nil.
func cut(b []byte, n int64) []byte { return bytes.Clone(b[:min(int64(len(b)), n)]) }
