// Package measure is what a node counts and knows. Its doors register what they count,
// and its other parts are sources of what they know. The metrics and the admin port read
// the same Snapshot, so that a new door shows up in both.
package measure

import (
	"bytes"
	"cmp"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/listener"
)

// Registry has the metrics, doors and sources of a node. It may be used by many
// goroutines.
type Registry struct {
	*metrics.Set       // shows the doors, too
	Meter        Meter // of the topics; the node runs it
	Loads        Loads // of the shards; likewise

	mu      sync.Mutex // guards doors and sources
	doors   []Door     // by name
	sources Sources
}

// Door is a door as it registers. Name and Counts are required.
type Door struct {
	Name   string
	Counts func() []listener.Counts // of each listener

	// Totals has metrics with names of the door's own, and their values for the sum over
	// its listeners.
	Totals map[string]func(listener.Counts) uint64
}

// Listener is one listener of a door, with what was counted at it.
type Listener struct {
	Door string `json:"door"`
	listener.Counts
}

// New returns an empty Registry.
func New() *Registry {
	r := &Registry{Set: metrics.NewSet()}
	r.RegisterMetricsWriter(r.write)
	r.inflating()
	return r
}

// Door registers a door.
func (r *Registry) Door(d Door) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.doors = append(r.doors, d)
	slices.SortStableFunc(r.doors, func(a, b Door) int { return cmp.Compare(a.Name, b.Name) })
}

// Listeners returns what was counted, by door and in the order of its listeners.
func (r *Registry) Listeners() []Listener {
	all := []Listener{}
	for _, d := range r.registered() {
		for _, c := range d.Counts() {
			all = append(all, Listener{d.Name, c})
		}
	}
	return all
}

func (r *Registry) registered() []Door {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.doors)
}

// write writes the metrics that come from one snapshot.
func (r *Registry) write(w io.Writer) {
	s, _ := r.Snapshot() // what cannot be known is not shown
	var out bytes.Buffer
	s.write(&out, r.asks().GatewaySeries)
	for _, d := range r.registered() {
		total := sum(s.Listeners, d.Name)
		for _, name := range slices.Sorted(maps.Keys(d.Totals)) {
			metrics.WriteGaugeUint64(&out, name, d.Totals[name](total))
		}
	}
	_, _ = w.Write(out.Bytes()) // an error means that the client is gone
}

// writeListeners writes the metrics that every door has.
func writeListeners(out *bytes.Buffer, all []Listener) {
	for _, l := range all {
		for name, value := range common() {
			metrics.WriteGaugeUint64(out, fmt.Sprintf("%s{door=%q,listener=%q}", name, l.Door, l.Listener), value(l.Counts))
		}
	}
}

// common returns the metrics that every door has.
func common() map[string]func(listener.Counts) uint64 {
	return map[string]func(listener.Counts) uint64{
		"weir_door_connections":                func(c listener.Counts) uint64 { return uint64(c.Open) },
		"weir_door_connections_total":          func(c listener.Counts) uint64 { return c.Accepted },
		"weir_door_connections_refused_total":  func(c listener.Counts) uint64 { return c.Refused },
		"weir_door_connections_gave_way_total": func(c listener.Counts) uint64 { return c.GaveWay },
		"weir_door_received_bytes_total":       func(c listener.Counts) uint64 { return c.Received },
		"weir_door_sent_bytes_total":           func(c listener.Counts) uint64 { return c.Sent },
		"weir_door_requests_total":             func(c listener.Counts) uint64 { return c.Requests },
		"weir_door_errors_total":               func(c listener.Counts) uint64 { return c.Errors },
	}
}

// sum adds up the counts of a door's listeners.
func sum(all []Listener, door string) (total listener.Counts) {
	for _, c := range all {
		if c.Door != door {
			continue
		}
		total.Open += c.Open
		total.Accepted += c.Accepted
		total.Refused += c.Refused
		total.GaveWay += c.GaveWay
		total.Received += c.Received
		total.Sent += c.Sent
		total.Requests += c.Requests
		total.Errors += c.Errors
	}
	return total
}
