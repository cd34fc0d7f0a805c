package receiver

import (
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
	"github.com/weirmq/weir/sync/wire"
)

type counters struct {
	set      *metrics.Set
	appends  *metrics.Counter
	bytes    *metrics.Counter
	gaps     *metrics.Counter
	protocol *metrics.Counter
}

func newCounters(set *metrics.Set) counters {
	c := counters{
		set:      set,
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

// countRefused counts a batch that is refused.
func (r *Receiver) countRefused(reason wire.Reason) {
	r.count.refusals(reason).Inc()
	r.gateways.Errors.Add(1)
}

// countAppend counts a batch that has arrived.
func (r *Receiver) countAppend(batch []byte) {
	r.count.appends.Inc()
	r.count.bytes.Add(len(batch))
	r.gateways.Requests.Add(1)
}

// countViolation counts a connection that is closed because of what the peer sent.
func (r *Receiver) countViolation(at *listener.Traffic) {
	r.count.protocol.Inc()
	at.Errors.Add(1)
}

// Counts returns what was counted of gateways, and of those that want to join. Requests
// of gateways are record batches; bytes are those of streams.
func (r *Receiver) Counts() []listener.Counts {
	return []listener.Counts{r.gateways.Counts("", r.sessionCounts()), r.joins.Counts("join", r.guard.seats.Counts())}
}

func (r *Receiver) sessionCounts() budget.GateCounts {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.conns
}
