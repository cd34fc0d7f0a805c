package measure

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/segment/reader"
)

// TestShard: the owner shows its log, from figures of one moment; another node shows
// nothing, even if it was the owner before.
func TestShard(t *testing.T) {
	asked, owns := 0, true
	source := Sources{Shards: func() ([]Shard, error) {
		asked++
		if !owns {
			return nil, broker.ErrNotOwner
		}
		return []Shard{{Epoch: 9, Since: time.Now().Add(-time.Minute), Records: 11, Bytes: 12, Stats: commitlog.Stats{Segments: 1, Garbage: 2, Waiting: 3_000_000_000_000, Throttled: 4500 * time.Millisecond,
			Checkpoint: time.Now().Add(-time.Hour), Damaged: 5, Reads: reader.Stats{Hits: 6, Misses: 7, BytesRead: 8, Cached: 10}}}}, nil
	}}
	got := shown(t, source, "weir_shard_", "weir_segment_")
	if asked != 1 {
		t.Errorf("asked %d times for one scrape", asked)
	}
	at := slices.IndexFunc(got, func(line string) bool { return strings.HasPrefix(line, "weir_shard_checkpoint_age_seconds ") })
	if at < 0 {
		t.Fatalf("no age in %q", got)
	}
	if age, err := strconv.ParseFloat(strings.Fields(got[at])[1], 64); err != nil || age < 3600 || age > 3700 {
		t.Errorf("%s, %v", got[at], err)
	}
	got = slices.Delete(got, at, at+1)
	at = slices.IndexFunc(got, func(line string) bool { return strings.HasPrefix(line, "weir_shard_owned_seconds ") })
	if at < 0 {
		t.Fatalf("no time in %q", got)
	}
	if since, err := strconv.ParseFloat(strings.Fields(got[at])[1], 64); err != nil || since < 60 || since > 120 {
		t.Errorf("%s, %v", got[at], err)
	}
	got = slices.Sorted(slices.Values(slices.Delete(got, at, at+1)))
	want := []string{"weir_segment_cache_bytes 10", "weir_segment_cache_hits_total 6", "weir_segment_cache_misses_total 7", "weir_segment_read_bytes_total 8",
		"weir_shard_bytes_total 12", "weir_shard_damaged_pieces 5", "weir_shard_epoch 9", "weir_shard_garbage_segments 2", "weir_shard_records_total 11", "weir_shard_segments 1",
		"weir_shard_throttled_seconds_total 4.5", "weir_shard_unsegmented_bytes 3000000000000"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	owns = false
	if got := shown(t, source, "weir_shard_", "weir_segment_"); len(got) != 0 {
		t.Errorf("without a shard: %q", got)
	}
}

// TestSeveralShards: in a cluster of several shards the metrics name theirs.
func TestSeveralShards(t *testing.T) {
	source := Sources{Shards: func() ([]Shard, error) {
		return []Shard{{ID: 0, Several: true, Epoch: 4}, {ID: 12, Several: true, Epoch: 5}}, nil
	}}
	got := shown(t, source, "weir_shard_epoch")
	if want := []string{`weir_shard_epoch{shard="0"} 4`, `weir_shard_epoch{shard="12"} 5`}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	now := time.Now()
	total := Total([]Shard{{Epoch: 4, Stats: commitlog.Stats{Damaged: 1, Waiting: 2, Checkpoint: now}}, {Epoch: 5, Stats: commitlog.Stats{Damaged: 3, Waiting: 4, Checkpoint: now.Add(-time.Hour)}}})
	if total.Epoch != 4 || total.Damaged != 4 || total.Waiting != 6 || total.Age(now) != time.Hour {
		t.Errorf("total %+v", total)
	}
}
