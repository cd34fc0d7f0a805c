package amqp091

import (
	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/measure"
)

// counters are the metrics of the door; README.md explains each. No label comes from a
// client.
type counters struct {
	methods   *metrics.Counter
	published *metrics.Counter
	delivered *metrics.Counter
	errors    *metrics.Counter
	logins    *metrics.Counter // that failed
}

func newCounters(set *measure.Registry) *counters {
	c := set.GetOrCreateCounter
	return &counters{
		methods:   c("weir_amqp_methods_total"),
		published: c("weir_amqp_messages_published_total"),
		delivered: c("weir_amqp_messages_delivered_total"),
		errors:    c("weir_amqp_errors_total"),
		logins:    c("weir_amqp_logins_failed_total"),
	}
}
