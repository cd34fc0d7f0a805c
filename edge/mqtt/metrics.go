package mqtt

import (
	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/exposition"
)

// counters are the server's counters.
type counters struct {
	accepted, refused, gaveWay *metrics.Counter
	takeovers                  *metrics.Counter
	malformed, unauthenticated *metrics.Counter
	packetsIn, bytesIn         *metrics.Counter
	received, stored           *metrics.Counter
	refusedMessages            *metrics.Counter
	letters, notAllowed        *metrics.Counter
	sent, tooBig, expired      *metrics.Counter
	dropped0, dropped          *metrics.Counter
	unreadable                 *metrics.Counter
	notRetained, notSubscribed *metrics.Counter
	expiredSessions, evicted   *metrics.Counter
	owedLost                   *metrics.Counter
	storeSeconds               *metrics.PrometheusHistogram
}

func newCounters(set *metrics.Set) *counters {
	c := set.GetOrCreateCounter
	return &counters{
		accepted:        c("weir_mqtt_connections_total"),
		refused:         c("weir_mqtt_connections_refused_total"),
		gaveWay:         c("weir_mqtt_connections_gave_way_total"),
		takeovers:       c("weir_mqtt_takeovers_total"),
		malformed:       c("weir_mqtt_protocol_errors_total"),
		unauthenticated: c("weir_mqtt_unauthenticated_total"),
		packetsIn:       c("weir_mqtt_packets_received_total"),
		bytesIn:         c("weir_mqtt_bytes_received_total"),
		received:        c("weir_mqtt_messages_received_total"),
		stored:          c("weir_mqtt_messages_stored_total"),
		refusedMessages: c("weir_mqtt_messages_refused_total"),
		letters:         c("weir_mqtt_refused_letters_total"),
		notAllowed:      c("weir_mqtt_messages_not_allowed_total"),
		sent:            c("weir_mqtt_messages_sent_total"),
		tooBig:          c(`weir_mqtt_messages_dropped_total{reason="too_large"}`),
		expired:         c(`weir_mqtt_messages_dropped_total{reason="expired"}`),
		dropped0:        c(`weir_mqtt_messages_dropped_total{reason="slow_qos0"}`),
		dropped:         c(`weir_mqtt_messages_dropped_total{reason="queue_full"}`),
		unreadable:      c(`weir_mqtt_messages_dropped_total{reason="not_allowed"}`),
		notRetained:     c("weir_mqtt_messages_not_retained_total"),
		notSubscribed:   c("weir_mqtt_subscriptions_refused_total"),
		expiredSessions: c(`weir_mqtt_sessions_ended_total{reason="expired"}`),
		evicted:         c(`weir_mqtt_sessions_ended_total{reason="no_room"}`),
		owedLost:        c("weir_mqtt_owed_lost_total"),
		storeSeconds:    set.GetOrCreatePrometheusHistogramExt("weir_mqtt_store_seconds", exposition.Seconds()),
	}
}

// attach adds the gauges, which read their values from the server.
func (c *counters) attach(s *Server, set *metrics.Set) {
	set.GetOrCreateGauge("weir_mqtt_connections", func() float64 { return float64(s.Stats().Connections) })
	set.GetOrCreateGauge("weir_mqtt_sessions", func() float64 { return float64(s.Stats().Sessions) })
	set.GetOrCreateGauge("weir_mqtt_subscriptions", func() float64 { return float64(s.Stats().Subscriptions) })
	set.GetOrCreateGauge("weir_mqtt_retained_messages", func() float64 { return float64(s.Stats().Retained) })
	set.GetOrCreateGauge("weir_mqtt_state_bytes", func() float64 { return float64(s.memory.used.Load()) })
	set.GetOrCreateGauge("weir_mqtt_owed_bytes", func() float64 {
		if s.o.Owed == nil {
			return 0
		}
		return float64(s.o.Owed.used())
	})
	set.GetOrCreateGauge("weir_mqtt_queue_messages", func() float64 { return float64(s.Stats().Queued) })
}

// Stats is a snapshot of what the server holds and has done.
type Stats struct {
	Connections   int
	Clients       int // connected
	MostClients   int // most that were connected at one time
	Sessions      int // connected and kept ones
	Subscriptions int
	Retained      int
	Queued        int // waiting for the committer

	Taken    uint64 // packets that the committer has taken so far
	Received uint64 // PUBLISH packets
	Stored   uint64 // durable messages, including wills
	Refused  uint64 // messages that were not stored
	Sent     uint64 // PUBLISH packets to subscribers
	Dropped  uint64 // deliveries given up: queue full, slow at QoS 0, too large, expired
}

// Stats may be called at any time.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	connections, clients, most := len(s.conns), len(s.newest), s.mostClients
	s.mu.Unlock()
	c, d := s.count, s.dispatcher
	queued, taken := s.queue.depth()
	return Stats{
		Connections:   connections,
		Clients:       clients,
		MostClients:   most,
		Sessions:      int(d.nSessions.Load()),
		Subscriptions: int(d.nSubs.Load()),
		Retained:      int(d.nRetained.Load()),
		Queued:        queued,
		Taken:         taken,
		Received:      c.received.Get(),
		Stored:        c.stored.Get(),
		Refused:       c.refusedMessages.Get(),
		Sent:          c.sent.Get(),
		Dropped:       c.dropped.Get() + c.dropped0.Get() + c.tooBig.Get() + c.expired.Get(),
	}
}
