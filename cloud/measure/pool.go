// Package measure shows in a node's metrics how its doors use what they share.
package measure

import (
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/exposition"
)

// Pool returns a pool of memory whose use, and the waiting for it, are in the set under
// its name. A new door makes its pools so.
func Pool(set *metrics.Set, o budget.PoolOptions) (*budget.Pool, error) {
	o.Waited = Waiting(set, o.Name)
	pool, err := budget.NewPool(o)
	if err != nil {
		return nil, err
	}
	set.GetOrCreateGauge(fmt.Sprintf("weir_budget_used_bytes{pool=%q}", o.Name), func() float64 { return float64(pool.Used()) })
	return pool, nil
}

// Waiting returns a function that is told how long somebody waited for a part of what
// has that name.
func Waiting(set *metrics.Set, name string) func(time.Duration) {
	waiting := set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("weir_budget_waiting_seconds{pool=%q}", name), exposition.Seconds())
	return func(d time.Duration) { waiting.Update(d.Seconds()) }
}
