package measure

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/exposition"
)

// Pool makes a pool of memory whose use and waiting times are metrics, under the pool's
// name. Doors make their pools with it.
func (r *Registry) Pool(o budget.PoolOptions) (*budget.Pool, error) {
	o.Waited = r.Waiting(o.Name)
	pool, err := budget.NewPool(o)
	if err != nil {
		return nil, err
	}
	r.GetOrCreateGauge(fmt.Sprintf("weir_budget_used_bytes{pool=%q}", o.Name), func() float64 { return float64(pool.Used()) })
	return pool, nil
}

// Waiting returns a function that records waiting times for the resource of that
// name.
func (r *Registry) Waiting(name string) func(time.Duration) {
	waiting := r.GetOrCreatePrometheusHistogramExt(fmt.Sprintf("weir_budget_waiting_seconds{pool=%q}", name), exposition.Seconds())
	return func(d time.Duration) { waiting.Update(d.Seconds()) }
}
