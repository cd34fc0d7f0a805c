package sender

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
	"github.com/weirmq/weir/sync/wire"
)

type counters struct {
	set       *metrics.Set
	connected *metrics.Counter // 0 or 1
	ahead     *metrics.Gauge   // this machine's clock, in seconds; negative: behind
	dials     *metrics.Counter
	records   *metrics.Counter
	bytes     *metrics.Counter
	dead      *metrics.Counter
	gaps      *metrics.Counter
}

func newCounters(set *metrics.Set) counters {
	c := counters{
		set:       set,
		connected: set.GetOrCreateCounter(`weir_sync_connected`),
		ahead:     set.GetOrCreateGauge(`weir_sync_clock_ahead_seconds`, nil),
		dials:     set.GetOrCreateCounter(`weir_sync_dials_total`),
		records:   set.GetOrCreateCounter(`weir_sync_sent_records_total`),
		bytes:     set.GetOrCreateCounter(`weir_sync_sent_bytes_total`),
		dead:      set.GetOrCreateCounter(`weir_sync_buried_records_total`),
		gaps:      set.GetOrCreateCounter(`weir_sync_sent_gaps_total`),
	}
	for r := wire.ReasonHole; r <= wire.ReasonCorrupt; r++ {
		c.refusals(r) // exists from the start, so that the first refusal shows as a change
	}
	return c
}

func (c *counters) refusals(r wire.Reason) *metrics.Counter {
	return c.set.GetOrCreateCounter(fmt.Sprintf(`weir_sync_refusals_total{reason=%q}`, r))
}

func (c *counters) refused(r wire.Reason) { c.refusals(r).Inc() }
