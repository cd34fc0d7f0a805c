package edge

import (
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/exposition"
	"github.com/weirmq/weir/edge/wal"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/sender"
)

// States of the link between a gateway and its cloud.
const (
	SyncOff        = "off"        // no --cloud: records stay on the gateway
	SyncUnjoined   = "unjoined"   // the gateway has no identity and cannot get one by itself
	SyncJoining    = "joining"    // it has a token and tries to join
	SyncConnecting = "connecting" // no link at the moment
	SyncConnected  = "connected"
	SyncRefused    = "refused" // the cloud does not accept its records
)

// SyncStates lists the states for metrics.
func SyncStates() []string {
	return []string{SyncOff, SyncUnjoined, SyncJoining, SyncConnecting, SyncConnected, SyncRefused}
}

// refusedReasons are the words for why the cloud refuses a gateway.
func refusedReasons() []string {
	return []string{"foreign", "rejected", "revoked", "expired", "identity", "token", "taken"}
}

// syncStatus is the state of the link to the cloud, and the reason for it.
type syncStatus struct {
	State  string
	Reason string // a word; "" if there is no problem
	Err    error
	Do     string // what a person can do
}

// Health is the body of /healthz and /readyz. A gateway without a link is healthy and
// ready: it accepts and stores messages. Alert on its backlog, which is reported here
// and in the metrics.
type Health struct {
	Gateway         string  `json:"gateway"`
	Accepting       bool    `json:"accepting"`             // at least one lane accepts messages
	Connected       bool    `json:"connected"`             // to the cloud
	Sync            string  `json:"sync"`                  // one of SyncStates
	SyncReason      string  `json:"sync_reason,omitempty"` // a word, if a person has to act or the link is missing
	ToDo            string  `json:"to_do,omitempty"`       // for that person
	Cloud           string  `json:"cloud,omitempty"`
	LinkError       string  `json:"link_error,omitempty"`
	ClockAhead      float64 `json:"clock_ahead_seconds,omitempty"` // relative to the cloud's clock, if they differ by minutes
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
	w.Header().Set("Content-Type", exposition.ContentType)
	_ = exposition.Write(w, e.metrics.WritePrometheus, metrics.WriteProcessMetrics, metrics.WriteFDMetrics) // fails only if the client has gone
}

func writeHealth(w http.ResponseWriter, code int, h Health) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(h) // fails only if the client has gone
}

func (e *Edge) health() Health {
	h := Health{Gateway: e.o.Gateway}
	s := e.log.Stats()
	h.Accepting = !e.log.Full(weir.Alarm)
	h.BufferedRecords, h.BufferedBytes, h.OldestSeconds = s.Records, s.Bytes, age(s.OldestTime)
	status := e.syncStatus()
	h.Sync, h.SyncReason, h.ToDo = status.State, status.Reason, status.Do
	if status.Err != nil {
		h.LinkError = status.Err.Error()
	}
	if snd := e.sender.Load(); snd != nil {
		state := snd.State()
		h.Connected, h.Cloud, h.ClockAhead = state.Connected, state.Addr, state.ClockAhead.Seconds()
	}
	return h
}

// syncStatus returns the status of the joiner until there is a sender, then the sender's.
func (e *Edge) syncStatus() syncStatus {
	snd := e.sender.Load()
	if snd == nil {
		if s := e.joining.Load(); s != nil {
			return *s
		}
		return syncStatus{State: SyncConnecting} // not started yet
	}
	switch state := snd.State(); {
	case state.Connected:
		return syncStatus{State: SyncConnected}
	case state.Refused != nil:
		word, do := sender.Refusal(state.Refused)
		return syncStatus{State: SyncRefused, Reason: word, Err: state.Refused, Do: do}
	default:
		return syncStatus{State: SyncConnecting, Reason: "link", Err: state.Err}
	}
}

func age(oldest time.Time) float64 {
	if oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(oldest).Seconds())
}

// measure registers the metrics that are computed on demand.
func (e *Edge) measure() {
	stat := func(pick func(wal.Stats) float64) func() float64 {
		return func() float64 { return pick(e.log.Stats()) }
	}
	e.metrics.NewGauge("weir_edge_oldest_unacked_seconds", stat(func(s wal.Stats) float64 { return age(s.OldestTime) }))
	e.metrics.NewGauge("weir_edge_buffer_bytes", stat(func(s wal.Stats) float64 { return float64(s.Bytes) }))
	e.metrics.NewGauge("weir_edge_buffer_records", stat(func(s wal.Stats) float64 { return float64(s.Records) }))
	e.metrics.NewGauge("weir_edge_disk_free_bytes", stat(func(s wal.Stats) float64 { return float64(s.Free) }))
	e.metrics.NewGauge("weir_edge_dead_records", stat(func(s wal.Stats) float64 { return float64(s.DeadRecords) }))
	letters := func(pick func(wal.LetterStats) float64) func() float64 {
		return func() float64 {
			s, err := e.log.Letters().Stats()
			if err != nil {
				return -1
			}
			return pick(s)
		}
	}
	e.metrics.NewGauge("weir_edge_refused_letters", letters(func(s wal.LetterStats) float64 { return float64(s.Letters) }))
	e.metrics.NewGauge("weir_edge_refused_letters_evicted_total", letters(func(s wal.LetterStats) float64 { return float64(s.Evicted) }))
	is := func(ok func(syncStatus) bool) func() float64 {
		return func() float64 {
			if ok(e.syncStatus()) {
				return 1
			}
			return 0
		}
	}
	e.metrics.NewGauge("weir_edge_connected", is(func(s syncStatus) bool { return s.State == SyncConnected }))
	for _, state := range SyncStates() {
		e.metrics.NewGauge(fmt.Sprintf(`weir_edge_sync_state{state=%q}`, state), is(func(s syncStatus) bool { return s.State == state }))
	}
	for _, reason := range refusedReasons() {
		e.metrics.NewGauge(fmt.Sprintf(`weir_edge_sync_refused{reason=%q}`, reason), is(func(s syncStatus) bool { return s.Reason == reason }))
	}
}
