package measure

import (
	"bytes"
	"reflect"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/listener"
)

// TestDoors: what doors count is shown by door and listener, and under names of the
// door's own.
func TestDoors(t *testing.T) {
	r := New()
	reads := 0
	plain := listener.Counts{Listener: "plain", GateCounts: budget.GateCounts{Open: 1, Accepted: 2, Refused: 3, GaveWay: 4}, Received: 5, Sent: 6, Requests: 7, Errors: 8}
	tls := listener.Counts{Listener: "tls", GateCounts: budget.GateCounts{Open: 10, Accepted: 20, Refused: 30, GaveWay: 40}, Received: 50, Sent: 60, Requests: 70, Errors: 80}
	r.Door(Door{Name: "b", Counts: func() []listener.Counts { reads++; return []listener.Counts{plain, tls} }, Totals: map[string]func(listener.Counts) uint64{
		"weir_b_connections":                func(c listener.Counts) uint64 { return uint64(c.Open) },
		"weir_b_connections_total":          func(c listener.Counts) uint64 { return c.Accepted },
		"weir_b_connections_refused_total":  func(c listener.Counts) uint64 { return c.Refused },
		"weir_b_connections_gave_way_total": func(c listener.Counts) uint64 { return c.GaveWay },
		"weir_b_bytes_total":                func(c listener.Counts) uint64 { return c.Received + c.Sent },
		"weir_b_requests_total":             func(c listener.Counts) uint64 { return c.Requests + c.Errors },
	}})
	r.Door(Door{Name: "a", Counts: func() []listener.Counts { return []listener.Counts{{}} }})
	var out bytes.Buffer
	r.WritePrometheus(&out)
	if reads != 1 {
		t.Errorf("the door was asked %d times for one scrape", reads)
	}
	for _, want := range []string{
		`weir_door_connections{door="b",listener="plain"} 1`, `weir_door_connections{door="b",listener="tls"} 10`,
		`weir_door_connections_total{door="b",listener="plain"} 2`, `weir_door_connections_refused_total{door="b",listener="plain"} 3`,
		`weir_door_connections_gave_way_total{door="b",listener="plain"} 4`, `weir_door_received_bytes_total{door="b",listener="plain"} 5`,
		`weir_door_sent_bytes_total{door="b",listener="plain"} 6`, `weir_door_requests_total{door="b",listener="plain"} 7`, `weir_door_errors_total{door="b",listener="plain"} 8`,
		`weir_door_requests_total{door="a",listener=""} 0`,
		"weir_b_connections 11", "weir_b_connections_total 22", "weir_b_connections_refused_total 33", "weir_b_connections_gave_way_total 44", "weir_b_bytes_total 121", "weir_b_requests_total 165",
	} {
		if !strings.Contains(out.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, &out)
		}
	}
	if got, want := r.Listeners(), []Listener{{"a", listener.Counts{}}, {"b", plain}, {"b", tls}}; !reflect.DeepEqual(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
