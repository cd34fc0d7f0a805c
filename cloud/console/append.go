package console

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/record"
)

// NewRecords is the body of POST /v1/topics/{name}/records. All records become durable
// together, in this order, or none does.
type NewRecords struct {
	Partition int32       `json:"partition"`
	Records   []NewRecord `json:"records"`
}

// NewRecord is one of them. A missing key or value is null.
type NewRecord struct {
	Key     []byte         `json:"key"` // base64 in JSON
	Value   []byte         `json:"value"`
	Headers []RecordHeader `json:"headers,omitempty"`
}

// Written is the answer: the offset of the first record.
type Written struct {
	Offset int64 `json:"offset"`
}

// appendRecords returns when the records are durable in the bucket.
func (c *console) appendRecords(r *http.Request) (any, error) {
	req, err := decode[NewRecords](r)
	if err != nil {
		return nil, err
	}
	t, err := c.Broker.Topic(r.PathValue("name"))
	if err != nil {
		return nil, err
	}
	switch {
	case req.Partition < 0 || req.Partition >= t.Partitions:
		return nil, fmt.Errorf("%w: partition %d does not exist: topic %s has partitions 0 to %d", errInput, req.Partition, t.Name, t.Partitions-1)
	case len(req.Records) == 0:
		return nil, fmt.Errorf("%w: records is empty", errInput)
	}
	admin.Note(r, "records", len(req.Records))
	now := time.Now().UnixMilli()
	b := record.NewBuilder(record.Zstd)
	for _, one := range req.Records {
		made := record.Record{Timestamp: now, Key: one.Key, Value: one.Value}
		for _, h := range one.Headers {
			made.Headers = append(made.Headers, record.Header{Key: h.Name, Value: h.Value})
		}
		if err := b.Append(&made); err != nil {
			return nil, fmt.Errorf("%w: %w", errInput, err)
		}
	}
	batch, err := b.Build()
	if err != nil {
		return nil, err
	}
	var written Written
	done := make(chan error, 1)
	c.Records.Append(r.Context(), broker.Append{Topic: t.ID, Partition: req.Partition, Batch: batch}, func(base int64, err error) {
		written.Offset = base
		done <- err
	})
	// The client may be gone before that; the answer is then dropped.
	if err := <-done; errors.Is(err, broker.ErrCorrupt) || errors.Is(err, broker.ErrTooLarge) || errors.Is(err, broker.ErrInvalidTimestamp) {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	} else if err != nil {
		return nil, err
	}
	return written, nil
}
