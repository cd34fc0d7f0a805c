package broker

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/weirmq/weir/storage/record"
)

// The settings that an append is judged by.
const (
	compressionType = "compression.type"
	maxMessageBytes = "max.message.bytes"
	timestampType   = "message.timestamp.type"
	timestampAfter  = "message.timestamp.after.max.ms"
	timestampBefore = "message.timestamp.before.max.ms"
	logAppendTime   = "LogAppendTime"
)

// maxInflated bounds what a batch is unpacked to, in bytes: the log takes no more.
const maxInflated = 64 << 20

// admit holds a batch against the settings of its topic, and compresses it as
// they say: a.Batch may be another one afterwards. What the batch is worth
// otherwise is for the log to judge.
//
// Keys and timestamps of a gateway's batch are not looked at: it has acknowledged
// these records, and a refusal would hold up all that come after them.
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

// number is the value of a setting of the topic that is a number.
func number(t Topic, name string, unset int64) int64 {
	if n, err := strconv.ParseInt(t.Configs[name], 10, 64); err == nil {
		return n
	}
	return unset
}

// judge looks at each record, if the settings give a reason to. now is in ms since
// 1970.
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
		case compacted && r.Key == nil: // compaction could never let it go
			refused.add(index, ErrCorrupt, "the topic is compacted, and the record has no key")
		case r.Timestamp >= 0 && r.Timestamp < now-before:
			refused.add(index, ErrInvalidTimestamp, "timestamp %d is %d ms ago, %s is %d", r.Timestamp, now-r.Timestamp, timestampBefore, before)
		case r.Timestamp > now && r.Timestamp-now > after:
			refused.add(index, ErrInvalidTimestamp, "timestamp %d is %d ms from now, %s is %d", r.Timestamp, r.Timestamp-now, timestampAfter, after)
		}
		index++
		return nil
	}) // a batch that cannot be read the log refuses
	if len(refused.Records) == 0 {
		return nil
	}
	return &refused
}

// RecordsError says which records of a batch their topic does not take. Nothing of
// the batch is stored.
type RecordsError struct {
	Records []RefusedRecord // in their order
	kind    error           // ErrInvalidTimestamp if it is that of any of them, as in Kafka; else ErrCorrupt
}

// RefusedRecord is a record by its place in the batch.
type RefusedRecord struct {
	Index int32
	Text  string // what is wrong with it; "" beyond the first explained ones
}

// explained is how many records of a batch are told what is wrong with them: the
// texts can be longer than the records.
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

// codecs are the values of compression.type but for producer.
var codecs = map[string]record.Codec{
	"uncompressed": record.None,
	"gzip":         record.Gzip,
	"snappy":       record.Snappy,
	"lz4":          record.LZ4,
	"zstd":         record.Zstd,
}

// compress makes the batch one of the codec that the topic asks for. A batch that
// is more than its records, because it is part of a transaction or says that its
// time is that of an append, stays as it is, and so does one that is not sound:
// under a new CRC nobody could tell.
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
