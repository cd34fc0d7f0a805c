package bridge

import (
	"errors"
	"fmt"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/properties"
	"github.com/weirmq/weir/cloud/queue"
)

// counters are the metrics of the bridge; README.md explains each.
type counters struct {
	read      *metrics.Counter
	published *metrics.Counter
	full      *metrics.Counter // of records that a queue with reject-publish refused
	refused   *metrics.Counter // of others
	missed    *metrics.Counter
	lost      map[properties.Loss]*metrics.Counter // not changed
}

func newCounters(set *metrics.Set) *counters {
	c := set.GetOrCreateCounter
	n := &counters{
		read:      c("weir_bridge_records_read_total"),
		published: c("weir_bridge_records_published_total"),
		full:      c(`weir_bridge_records_refused_total{reason="full"}`),
		refused:   c(`weir_bridge_records_refused_total{reason="invalid"}`),
		missed:    c("weir_bridge_records_missed_total"),
		lost:      make(map[properties.Loss]*metrics.Counter),
	}
	for _, l := range properties.Losses() {
		n.lost[l] = c(fmt.Sprintf("weir_bridge_values_lost_total{loss=%q}", l))
	}
	return n
}

// outcomes counts what became of records. It returns the number of the first that was
// refused for what it is, -1 if none was.
func (c *counters) outcomes(all []error) (refused int) {
	refused = -1
	for i, err := range all {
		switch {
		case err == nil:
			c.published.Inc()
		case errors.Is(err, queue.ErrUnroutable): // by a header, or the binding is gone
		case errors.Is(err, queue.ErrOverflow):
			c.full.Inc()
		default:
			c.refused.Inc()
			if refused < 0 {
				refused = i
			}
		}
	}
	return refused
}
