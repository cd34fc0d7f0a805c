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
// Errors: ErrTooLarge, ErrCorrupt, ErrInvalidTimestamp.
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
	var refusal error
	_ = a.Batch.Each(maxInflated, func(r *record.Record) error {
		switch {
		case compacted && r.Key == nil: // compaction could never let it go
			refusal = fmt.Errorf("%w: a record without a key in a compacted topic", ErrCorrupt)
		case r.Timestamp >= 0 && r.Timestamp < now-before:
			refusal = fmt.Errorf("%w: %d is %d ms ago, %s is %d", ErrInvalidTimestamp, r.Timestamp, now-r.Timestamp, timestampBefore, before)
		case r.Timestamp > now && r.Timestamp-now > after:
			refusal = fmt.Errorf("%w: %d is %d ms from now, %s is %d", ErrInvalidTimestamp, r.Timestamp, r.Timestamp-now, timestampAfter, after)
		}
		return refusal
	}) // a batch that cannot be read the log refuses
	return refusal
}

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
