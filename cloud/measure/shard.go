package measure

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/storage/commitlog"
)

// Shard is what the owner of a shard knows of its log.
type Shard struct {
	ID      uint32
	Several bool // the cluster has several shards, and the metrics name this one
	Epoch   int32
	Since   time.Time // when this node became the owner
	Records uint64    // that were appended since then
	Bytes   uint64    // of those, in record batches
	commitlog.Stats
}

// writeShard writes the metrics of the log at rest.
func writeShard(out *bytes.Buffer, s Shard, now time.Time) {
	label := ""
	if s.Several {
		label = fmt.Sprintf("{shard=%q}", strconv.FormatUint(uint64(s.ID), 10))
	}
	for name, value := range map[string]int64{
		"weir_shard_epoch":                int64(s.Epoch),
		"weir_shard_segments":             int64(s.Segments),
		"weir_shard_garbage_segments":     int64(s.Garbage),
		"weir_shard_unsegmented_bytes":    s.Waiting,
		"weir_shard_damaged_pieces":       int64(s.Damaged),
		"weir_segment_cache_hits_total":   s.Reads.Hits,
		"weir_segment_cache_misses_total": s.Reads.Misses,
		"weir_segment_cache_bytes":        s.Reads.Cached,
		"weir_segment_read_bytes_total":   s.Reads.BytesRead,
	} {
		metrics.WriteGaugeUint64(out, name+label, uint64(max(value, 0)))
	}
	metrics.WriteGaugeUint64(out, "weir_shard_records_total"+label, s.Records)
	metrics.WriteGaugeUint64(out, "weir_shard_bytes_total"+label, s.Bytes)
	metrics.WriteGaugeFloat64(out, "weir_shard_throttled_seconds_total"+label, s.Throttled.Seconds())
	metrics.WriteGaugeFloat64(out, "weir_shard_checkpoint_age_seconds"+label, s.Age(now).Seconds())
	metrics.WriteGaugeFloat64(out, "weir_shard_owned_seconds"+label, now.Sub(s.Since).Seconds())
}

// Total returns the figures of several shards together: sums, the first epoch, and the
// oldest checkpoint. There must be one at least.
func Total(all []Shard) Shard {
	total := all[0]
	for _, s := range all[1:] {
		total.Damaged += s.Damaged
		total.Waiting += s.Waiting
		if s.Checkpoint.Before(total.Checkpoint) {
			total.Checkpoint = s.Checkpoint
		}
	}
	return total
}

// Age returns how long ago the upkeep completed a pass.
func (s Shard) Age(now time.Time) time.Duration { return now.Sub(s.Checkpoint) }
