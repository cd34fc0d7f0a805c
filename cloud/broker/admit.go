package broker

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/weirmq/weir/storage/record"
)

// The settings that decide whether an append is accepted.
const (
	compressionType = "compression.type"
	maxMessageBytes = "max.message.bytes"
	timestampType   = "message.timestamp.type"
	timestampAfter  = "message.timestamp.after.max.ms"
	timestampBefore = "message.timestamp.before.max.ms"
	logAppendTime   = "LogAppendTime"
)

// maxInflated bounds the bytes of an inflated batch, as the log does.
const maxInflated = 64 << 20

// admit checks a batch against the settings of its topic, and compresses it as they
// say: a.Batch may be another batch afterwards. All other checks are the log's.
//
// Keys and timestamps of a gateway's batch are not checked: the gateway has
// acknowledged these records, and a refusal would hold up all that come after them.
//
// Errors: ErrTooLarge; *RecordsError, which is ErrCorrupt or ErrInvalidTimestamp.
func admit(t Topic, a *Append, now time.Time) error {
	a.AppendTime = t.Configs[timestampType] == logAppendTime
	limit := int(number(t, maxMessageBytes, DefaultMaxMessageBytes))
	if len(a.Batch) > limit {
		return fmt.Errorf("%w: a batch of %d bytes, the topic takes %d", ErrTooLarge, len(a.Batch), limit)
	}
	if len(t.Configs) == 0 {
		return nil
	}
	if a.Source == nil {
		if err := judge(t, a, now.UnixMilli()); err != nil {
			return err
		}
	}
	if err := compress(t, a); err != nil {
		return err
	}
	if len(a.Batch) > limit {
		return fmt.Errorf("%w: a batch of %d bytes as %s, the topic takes %d", ErrTooLarge, len(a.Batch), t.Configs[compressionType], limit)
	}
	return nil
}

// number returns the value of a numeric setting of the topic, or unset.
func number(t Topic, name string, unset int64) int64 {
	if n, err := strconv.ParseInt(t.Configs[name], 10, 64); err == nil {
		return n
	}
	return unset
}

// judge checks each record, if the settings require that. now is in ms since 1970.
func judge(t Topic, a *Append, now int64) error {
	compacted := slices.Contains(Words(t.Configs["cleanup.policy"]), "compact")
	before, after := int64(math.MaxInt64), int64(math.MaxInt64)
	if !a.AppendTime {
		before, after = number(t, timestampBefore, before), number(t, timestampAfter, after)
	}
	if !compacted && before == math.MaxInt64 && after == math.MaxInt64 {
		return nil
	}
	var refused RecordsError
	index := int32(0)
	_ = a.Batch.Each(maxInflated, func(r *record.Record) error {
		switch {
		case compacted && r.Key == nil: // compaction could never remove it
			refused.add(index, ErrCorrupt, "the topic is compacted, and the record has no key")
		case r.Timestamp >= 0 && r.Timestamp < now-before:
			refused.add(index, ErrInvalidTimestamp, "timestamp %d is %d ms ago, %s is %d", r.Timestamp, now-r.Timestamp, timestampBefore, before)
		case r.Timestamp > now && r.Timestamp-now > after:
			refused.add(index, ErrInvalidTimestamp, "timestamp %d is %d ms from now, %s is %d", r.Timestamp, r.Timestamp-now, timestampAfter, after)
		}
		index++
		return nil
	}) // a batch that cannot be read is refused by the log
	if len(refused.Records) == 0 {
		return nil
	}
	return &refused
}

// RecordsError lists the records of a batch that their topic does not accept. Nothing
// of the batch is stored.
type RecordsError struct {
	Records []RefusedRecord // in order
	kind    error           // ErrInvalidTimestamp if that is the error of any of them, as in Kafka; else ErrCorrupt
}

// RefusedRecord is a record by its place in the batch.
type RefusedRecord struct {
	Index int32
	Text  string // what is wrong with it; "" after the first explained records
}

// explained is for how many records of a batch the error has a text: the texts can be
// longer than the records.
const explained = 100

func (e *RecordsError) add(index int32, kind error, format string, args ...any) {
	if e.kind == nil || kind == ErrInvalidTimestamp {
		e.kind = kind
	}
	r := RefusedRecord{Index: index}
	if len(e.Records) < explained {
		r.Text = fmt.Sprintf(format, args...)
	}
	e.Records = append(e.Records, r)
}

func (e *RecordsError) Error() string {
	first := e.Records[0]
	return fmt.Sprintf("%v: %d records of the batch are refused; record %d: %s", e.kind, len(e.Records), first.Index, first.Text)
}

func (e *RecordsError) Unwrap() error { return e.kind }

// codecs maps the values of compression.type, except producer.
var codecs = map[string]record.Codec{
	"uncompressed": record.None,
	"gzip":         record.Gzip,
	"snappy":       record.Snappy,
	"lz4":          record.LZ4,
	"zstd":         record.Zstd,
}

// compress recompresses the batch with the codec of the topic. Three kinds of batches
// stay as they are: those of transactions, those with LogAppendTime, and corrupt
// ones, whose damage a new CRC would hide.
func compress(t Topic, a *Append) error {
	codec, ok := codecs[t.Configs[compressionType]]
	b := a.Batch
	if !ok || len(b) < record.HeaderSize || b.Codec() == codec || b.Transactional() || b.Control() || b.LogAppendTime() {
		return nil
	}
	if b.Verify() != nil {
		return nil
	}
	out, err := record.Recode(b, codec, maxInflated)
	switch {
	case err == nil:
	case b.VerifyRecords(maxInflated) != nil:
		return nil
	default:
		return fmt.Errorf("compress batch: %w: %w", ErrTooLarge, err)
	}
	a.Batch = out
	return nil
}
