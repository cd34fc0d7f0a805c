package cloud

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/wire"
)

// contactPeriod is how often the owner checks what is new about the gateways: the log
// gets at most one entry each time.
const contactPeriod = time.Minute

// firstContacts is when it does so for the first time: most gateways have reconnected
// by then.
const firstContacts = 10 * time.Second

// watchGateways writes the last contact of each gateway to the log, until ctx ends.
func (n *Node) watchGateways(ctx context.Context, members *fleet.Fleet) {
	if n.receiver == nil {
		return
	}
	timer := time.NewTimer(firstContacts)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(contactPeriod)
		}
		for _, g := range n.receiver.Gateways() {
			members.Heard(g.ID, contactOf(g))
		}
		if err := members.SaveContacts(ctx); err != nil && ctx.Err() == nil {
			n.o.Log.Warn("last contacts of gateways not written: another owner will not know them", "err", err)
		}
	}
}

// contactOf returns what the log stores of a session.
func contactOf(g receiver.Gateway) fleet.Contact {
	c := fleet.Contact{At: g.Heard.UnixMilli(), Address: g.Addr, Software: g.Software}
	if g.Depth != nil {
		c.Records, c.Bytes = g.Depth.Records, g.Depth.Bytes
		if g.Depth.Age > 0 {
			c.Oldest = g.Heard.Add(-milliseconds(g.Depth.Age)).Truncate(time.Second).UnixMilli()
		}
	}
	return c
}

// milliseconds converts a time that a gateway reports, which may be any number.
func milliseconds(n uint64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	return time.Duration(min(n, uint64(most/time.Millisecond))) * time.Millisecond
}

// left records the state of a gateway when its session ended.
func (n *Node) left(g receiver.Gateway) {
	if members := n.fleet(); members != nil {
		members.Heard(g.ID, contactOf(g))
	}
}

// lostRecords records what a gateway has reported in weir.gaps.
func (n *Node) lostRecords(gateway string, records uint64) {
	if members := n.fleet(); members != nil {
		members.Lost(gateway, records)
	}
}

// refused stores what was refused to a gateway for good.
func (n *Node) refused(gateway string, r receiver.Refusal) {
	members := n.fleet()
	if members == nil {
		return
	}
	topic := r.Name
	if topic == "" {
		if topic = r.Topic.String(); n.broker != nil {
			if t, err := n.broker.TopicByID(r.Topic); err == nil {
				topic = t.Name
			}
		}
	}
	members.Refused(gateway, fleet.Refusal{Topic: topic, Reason: r.Reason.String(), Text: r.Text, Records: r.Records})
}

// sessions are the gateways that are connected to this node.
func (n *Node) sessions() []console.Session {
	if n.receiver == nil {
		return nil
	}
	var all []console.Session
	for _, g := range n.receiver.Gateways() {
		s := console.Session{Gateway: g.ID, Since: g.Since, Contact: contactOf(g)}
		for key, to := range map[wire.FigureKey]**uint64{wire.FigureDead: &s.DeadLetters, wire.FigureRefused: &s.RefusedMessages,
			wire.FigureQuota: &s.QuotaBytes, wire.FigureFree: &s.FreeBytes, wire.FigureBuffers: &s.Buffers} {
			if v, told := g.Status.Figure(key); told {
				*to = &v
			}
		}
		if v, told := g.Status.Figure(wire.FigureStarted); told {
			s.Started = time.UnixMilli(int64(min(v, 1<<53))).UTC()
		}
		for lane := range weir.Lane(weir.Lanes) {
			records, told := g.Status.Figure(wire.FigureRecords(lane))
			if !told {
				continue
			}
			l := console.LaneStatus{Lane: lane.String(), Buffered: records}
			if at, is := g.Status.Figure(wire.FigureOldest(lane)); is {
				l.Oldest = time.UnixMilli(int64(min(at, 1<<53))).UTC()
			}
			s.Lanes = append(s.Lanes, l)
		}
		all = append(all, s)
	}
	return all
}

// family is a metric with a series for each gateway.
type family struct {
	name  string
	value func(gatewayState) (value float64, is bool)
}

// gatewayState is a member as the metrics show it.
type gatewayState struct {
	fleet.Gateway
	fleet.Contact
	connected bool
	settled   uint64 // of its lost records
	now       time.Time
}

// since returns how long ago a time was, in seconds.
func (g gatewayState) since(at int64) float64 {
	return max(0, g.now.Sub(time.UnixMilli(at)).Seconds())
}

// families are the metrics of gateways.
func families() []family {
	always := func(value func(gatewayState) float64) func(gatewayState) (float64, bool) {
		return func(g gatewayState) (float64, bool) { return value(g), true }
	}
	return []family{
		{"weir_gateway_connected", always(func(g gatewayState) float64 {
			if g.connected {
				return 1
			}
			return 0
		})},
		{"weir_gateway_last_contact_seconds", always(func(g gatewayState) float64 { return g.since(g.At) })},
		{"weir_gateway_buffered_records", always(func(g gatewayState) float64 { return float64(g.Records) })},
		{"weir_gateway_oldest_seconds", always(func(g gatewayState) float64 {
			if g.Oldest == 0 {
				return 0
			}
			return g.since(g.Oldest)
		})},
		{"weir_gateway_lost_records_total", always(func(g gatewayState) float64 { return float64(g.settled) })},
		{"weir_gateway_certificate_expires_seconds", func(g gatewayState) (float64, bool) {
			return g.Expires.Sub(g.now).Seconds(), !g.Expires.IsZero()
		}},
	}
}

// writeGateways writes the gateways' metrics, each with its own series up to a limit,
// by id. Only the owner has them.
func (n *Node) writeGateways(w io.Writer) {
	members := n.fleet()
	if members == nil || !n.broker.IsController() {
		return
	}
	sessions := make(map[string]fleet.Contact)
	for _, s := range n.sessions() {
		sessions[s.Gateway] = s.Contact
	}
	states := map[string]int{console.StateConnected: 0, console.StateAway: 0, console.StateRevoked: 0}
	var shown []gatewayState
	most, omitted := n.o.Limits.orDefault().GatewaySeries, 0
	now := time.Now()
	for _, g := range members.Gateways() {
		c, connected := sessions[g.ID]
		states[console.StateOf(g.Revoked, connected)]++
		switch {
		case g.Revoked:
			continue // no caller waits for it
		case len(shown) >= most:
			omitted++
			continue
		}
		s := gatewayState{Gateway: g, connected: connected, now: now}
		s.Contact, s.settled = members.Contact(g)
		if connected {
			c.Lost = s.Lost
			s.Contact = c
		}
		shown = append(shown, s)
	}
	var out bytes.Buffer
	for _, state := range slices.Sorted(maps.Keys(states)) {
		metrics.WriteGaugeUint64(&out, fmt.Sprintf("weir_gateways{state=%q}", state), uint64(states[state]))
	}
	metrics.WriteGaugeUint64(&out, "weir_gateways_omitted", uint64(omitted))
	for _, f := range families() {
		for _, g := range shown {
			if value, is := f.value(g); is {
				metrics.WriteGaugeFloat64(&out, fmt.Sprintf("%s{gateway=%q}", f.name, g.ID), value)
			}
		}
	}
	_, _ = w.Write(out.Bytes()) // an error means that the client is gone
}
