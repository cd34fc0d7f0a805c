package measure

import (
	"bytes"
	"fmt"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/fleet"
)

// Gateway is a gateway of the cluster as the owner knows it.
type Gateway struct {
	fleet.Gateway
	Contact fleet.Contact // now; if it is away, its last one
	Settled uint64        // how many of its lost records the log has: it never shrinks
	Session *Session      // nil: it is away
}

// Session is the connection of a gateway.
type Session struct {
	Gateway string
	Since   time.Time
	Contact fleet.Contact
	Figures // if the gateway's version reports them
}

// Figures are what a gateway reports about itself while it is connected; nil is what it
// does not report.
type Figures struct {
	Started         time.Time    `json:"started,omitzero"`
	DeadLetters     *uint64      `json:"dead_letters,omitempty"`
	RefusedMessages *uint64      `json:"refused_messages,omitempty"` // of devices, for lack of room, since it started
	QuotaBytes      *uint64      `json:"quota_bytes,omitempty"`
	FreeBytes       *uint64      `json:"free_bytes,omitempty"` // of its disk
	Buffers         *uint64      `json:"buffers,omitempty"`
	Lanes           []LaneStatus `json:"lanes,omitempty"`
}

// LaneStatus is the backlog of one lane.
type LaneStatus struct {
	Lane     string    `json:"lane"`
	Buffered uint64    `json:"buffered_records"`
	Oldest   time.Time `json:"oldest,omitzero"` // timestamp of the oldest of them
}

// The states of a gateway.
const (
	StateConnected = "connected"
	StateAway      = "away"
	StateRevoked   = "revoked"
)

// State is one of the states of a gateway.
func (g Gateway) State() string {
	switch {
	case g.Revoked:
		return StateRevoked
	case g.Session != nil:
		return StateConnected
	default:
		return StateAway
	}
}

// Age returns how old the oldest record is that the gateway holds and the cloud does
// not, 0 if there is none.
func (g Gateway) Age(now time.Time) time.Duration {
	if g.Contact.Oldest == 0 {
		return 0
	}
	return since(g.Contact.Oldest, now)
}

// Gateways returns the members, by id, with their sessions. Sessions of others are left
// out.
func Gateways(members *fleet.Fleet, sessions []Session) []Gateway {
	connected := make(map[string]*Session, len(sessions))
	for i := range sessions {
		connected[sessions[i].Gateway] = &sessions[i]
	}
	all := []Gateway{}
	for _, m := range members.Gateways() {
		g := Gateway{Gateway: m, Session: connected[m.ID]}
		g.Contact, g.Settled = members.Contact(m)
		if g.Session != nil {
			lost := g.Contact.Lost
			g.Contact = g.Session.Contact
			g.Contact.Lost = lost
		}
		all = append(all, g)
	}
	return all
}

// writeGateways writes the gateways' metrics, each with its own series up to a limit,
// by id.
func writeGateways(out *bytes.Buffer, all []Gateway, most int, now time.Time) {
	states := make(map[string]int)
	var shown []Gateway
	omitted := 0
	for _, g := range all {
		states[g.State()]++
		switch {
		case g.Revoked: // no caller waits for it
		case len(shown) >= most:
			omitted++
		default:
			shown = append(shown, g)
		}
	}
	for _, state := range []string{StateAway, StateConnected, StateRevoked} {
		metrics.WriteGaugeUint64(out, fmt.Sprintf("weir_gateways{state=%q}", state), uint64(states[state]))
	}
	metrics.WriteGaugeUint64(out, "weir_gateways_omitted", uint64(omitted))
	for _, f := range families() {
		for _, g := range shown {
			if value, is := f.value(g, now); is {
				metrics.WriteGaugeFloat64(out, fmt.Sprintf("%s{gateway=%q}", f.name, g.ID), value)
			}
		}
	}
}

// family is a metric with a series for each gateway.
type family struct {
	name  string
	value func(g Gateway, now time.Time) (value float64, is bool)
}

// families are the metrics of gateways.
func families() []family {
	always := func(value func(Gateway, time.Time) float64) func(Gateway, time.Time) (float64, bool) {
		return func(g Gateway, now time.Time) (float64, bool) { return value(g, now), true }
	}
	return []family{
		{"weir_gateway_connected", always(func(g Gateway, _ time.Time) float64 {
			if g.Session != nil {
				return 1
			}
			return 0
		})},
		{"weir_gateway_last_contact_seconds", always(func(g Gateway, now time.Time) float64 { return since(g.Contact.At, now).Seconds() })},
		{"weir_gateway_buffered_records", always(func(g Gateway, _ time.Time) float64 { return float64(g.Contact.Records) })},
		{"weir_gateway_oldest_seconds", always(func(g Gateway, now time.Time) float64 { return g.Age(now).Seconds() })},
		{"weir_gateway_lost_records_total", always(func(g Gateway, _ time.Time) float64 { return float64(g.Settled) })},
		{"weir_gateway_certificate_expires_seconds", func(g Gateway, now time.Time) (float64, bool) {
			return g.Expires.Sub(now).Seconds(), !g.Expires.IsZero()
		}},
	}
}

// since returns how long ago a time in Unix milliseconds was.
func since(at int64, now time.Time) time.Duration { return max(0, now.Sub(time.UnixMilli(at))) }
