package measure

import (
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/storage/record"
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

// inflating adds how long the inflating of batches has waited for its turn, as the pool
// inflate.
func (r *Registry) inflating() {
	r.NewGauge(`weir_budget_waiting_seconds_sum{pool="inflate"}`, func() float64 {
		_, total := record.InflateWaits()
		return total.Seconds()
	})
	for _, name := range []string{`bucket{pool="inflate",le="+Inf"}`, `count{pool="inflate"}`} {
		r.NewGauge("weir_budget_waiting_seconds_"+name, func() float64 {
			count, _ := record.InflateWaits()
			return float64(count)
		})
	}
}
