// Package measure adds metrics to the resources that the doors of a node share.
package measure

import (
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/exposition"
)

// Pool makes a pool of memory whose use and waiting times are metrics in the set,
// under the pool's name. Doors make their pools with it.
func Pool(set *metrics.Set, o budget.PoolOptions) (*budget.Pool, error) {
	o.Waited = Waiting(set, o.Name)
	pool, err := budget.NewPool(o)
	if err != nil {
		return nil, err
	}
	set.GetOrCreateGauge(fmt.Sprintf("weir_budget_used_bytes{pool=%q}", o.Name), func() float64 { return float64(pool.Used()) })
	return pool, nil
}

// Waiting returns a function that records waiting times for the resource of that
// name.
func Waiting(set *metrics.Set, name string) func(time.Duration) {
	waiting := set.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("weir_budget_waiting_seconds{pool=%q}", name), exposition.Seconds())
	return func(d time.Duration) { waiting.Update(d.Seconds()) }
}
