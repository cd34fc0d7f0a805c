package edge

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/edge/wal"
)

// Health is the body of /healthz and /readyz. A gateway without a link is
// healthy and ready: it accepts and keeps. What it owes the cloud is told here
// and in the metrics, and is what to alert on.
type Health struct {
	Gateway         string  `json:"gateway"`
	Accepting       bool    `json:"accepting"` // messages, at any lane
	Connected       bool    `json:"connected"` // to the cloud
	Cloud           string  `json:"cloud,omitempty"`
	LinkError       string  `json:"link_error,omitempty"`
	BufferedRecords uint64  `json:"buffered_records"`
	BufferedBytes   int64   `json:"buffered_bytes"`
	OldestSeconds   float64 `json:"oldest_unacked_seconds"`
}

func (e *Edge) healthz(w http.ResponseWriter, _ *http.Request) {
	writeHealth(w, http.StatusOK, e.health())
}

func (e *Edge) readyz(w http.ResponseWriter, _ *http.Request) {
	h, code := e.health(), http.StatusOK
	if !h.Accepting {
		code = http.StatusServiceUnavailable
	}
	writeHealth(w, code, h)
}

func (e *Edge) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4")
	e.metrics.WritePrometheus(w)
	metrics.WriteProcessMetrics(w)
}

func writeHealth(w http.ResponseWriter, code int, h Health) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(h) // the asker is gone, if this fails
}

func (e *Edge) health() Health {
	h := Health{Gateway: e.o.Gateway}
	s := e.log.Stats()
	h.Accepting = !e.log.Full(wal.Alarm)
	h.BufferedRecords, h.BufferedBytes, h.OldestSeconds = s.Records, s.Bytes, age(s.OldestTime)
	if snd := e.sender.Load(); snd != nil {
		state := snd.State()
		h.Connected, h.Cloud = state.Connected, state.Addr
		if state.Err != nil {
			h.LinkError = state.Err.Error()
		}
	}
	return h
}

func age(oldest time.Time) float64 {
	if oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(oldest).Seconds())
}

// measure registers what is measured on demand.
func (e *Edge) measure() {
	stat := func(pick func(wal.Stats) float64) func() float64 {
		return func() float64 { return pick(e.log.Stats()) }
	}
	e.metrics.NewGauge("weir_edge_oldest_unacked_seconds", stat(func(s wal.Stats) float64 { return age(s.OldestTime) }))
	e.metrics.NewGauge("weir_edge_buffer_bytes", stat(func(s wal.Stats) float64 { return float64(s.Bytes) }))
	e.metrics.NewGauge("weir_edge_buffer_records", stat(func(s wal.Stats) float64 { return float64(s.Records) }))
	e.metrics.NewGauge("weir_edge_disk_free_bytes", stat(func(s wal.Stats) float64 { return float64(s.Free) }))
	e.metrics.NewGauge("weir_edge_dead_records", stat(func(s wal.Stats) float64 { return float64(s.DeadRecords) }))
	e.metrics.NewGauge("weir_edge_connected", func() float64 {
		if s := e.sender.Load(); s != nil && s.State().Connected {
			return 1
		}
		return 0
	})
}
