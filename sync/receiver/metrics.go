package receiver

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"
	"github.com/weirmq/weir/sync/wire"
)

type counters struct {
	set      *metrics.Set
	sessions *metrics.Counter // used as a gauge
	appends  *metrics.Counter
	bytes    *metrics.Counter
	gaps     *metrics.Counter
	protocol *metrics.Counter
}

func newCounters(set *metrics.Set) counters {
	c := counters{
		set:      set,
		sessions: set.GetOrCreateCounter(`weir_sync_sessions`),
		appends:  set.GetOrCreateCounter(`weir_sync_appends_total`),
		bytes:    set.GetOrCreateCounter(`weir_sync_append_bytes_total`),
		gaps:     set.GetOrCreateCounter(`weir_gap_records_total`),
		protocol: set.GetOrCreateCounter(`weir_sync_protocol_errors_total`),
	}
	for r := wire.ReasonHole; r <= wire.ReasonCorrupt; r++ {
		c.refusals(r) // exists from the start, so that the first refusal shows as a change
	}
	return c
}

func (c *counters) refusals(r wire.Reason) *metrics.Counter {
	return c.set.GetOrCreateCounter(fmt.Sprintf(`weir_sync_refused_total{reason=%q}`, r))
}

func (c *counters) refused(r wire.Reason) { c.refusals(r).Inc() }
