package measure

import (
	"bytes"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/storage/commitlog"
)

// Shard is what the owner of a shard knows of its log.
type Shard struct {
	Epoch int32
	commitlog.Stats
}

// writeShard writes the metrics of the log at rest.
func writeShard(out *bytes.Buffer, s Shard, now time.Time) {
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
		metrics.WriteGaugeUint64(out, name, uint64(max(value, 0)))
	}
	metrics.WriteGaugeFloat64(out, "weir_shard_throttled_seconds_total", s.Throttled.Seconds())
	metrics.WriteGaugeFloat64(out, "weir_shard_checkpoint_age_seconds", s.Age(now).Seconds())
}

// Age returns how long ago the upkeep completed a pass.
func (s Shard) Age(now time.Time) time.Duration { return now.Sub(s.Checkpoint) }
