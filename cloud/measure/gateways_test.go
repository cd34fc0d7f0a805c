package measure

import (
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/fleet"
)

// TestGateways: the owner shows each gateway as it is now, or was at its last contact,
// up to a limit, and asks for them once; a gateway that is revoked has no series.
func TestGateways(t *testing.T) {
	now := time.Now()
	member := func(id string) fleet.Gateway { return fleet.Gateway{ID: id, Expires: now.Add(time.Hour + time.Minute)} }
	revoked := member("b")
	revoked.Revoked = true
	all := []Gateway{
		{Gateway: member("a"), Contact: fleet.Contact{At: now.UnixMilli(), Records: 12, Lost: 5}, Settled: 4, Session: &Session{Gateway: "a"}},
		{Gateway: revoked, Session: &Session{Gateway: "b"}},
		{Gateway: fleet.Gateway{ID: "c"}, Contact: fleet.Contact{At: now.Add(time.Hour).UnixMilli()}},
		{Gateway: member("d")}, {Gateway: member("e")},
	}
	asked := 0
	source := Sources{GatewaySeries: 2, Gateways: func() ([]Gateway, error) { asked++; return all, nil }}
	got := shown(t, source, "weir_gateway")
	want := []string{`weir_gateways{state="away"} 3`, `weir_gateways{state="connected"} 1`, `weir_gateways{state="revoked"} 1`, "weir_gateways_omitted 2",
		`weir_gateway_connected{gateway="a"} 1`, `weir_gateway_connected{gateway="c"} 0`,
		`weir_gateway_last_contact_seconds{gateway="c"} 0`, `weir_gateway_buffered_records{gateway="a"} 12`,
		`weir_gateway_oldest_seconds{gateway="a"} 0`, `weir_gateway_lost_records_total{gateway="a"} 4`}
	for _, line := range want {
		if !slices.Contains(got, line) {
			t.Errorf("no %s in %q", line, got)
		}
	}
	if len(got) != 4+2*5+1 || asked != 1 { // the certificate of c is not known
		t.Errorf("%d lines: %q; asked %d times", len(got), got, asked)
	}
	if got := shown(t, Sources{Gateways: func() ([]Gateway, error) { return []Gateway{}, nil }}, "weir_gateway"); len(got) != 4 {
		t.Errorf("an owner without gateways: %q", got)
	}
	if got := shown(t, Sources{Gateways: func() ([]Gateway, error) { return nil, broker.ErrNotOwner }}, "weir_gateway"); len(got) != 0 {
		t.Errorf("not the owner: %q", got)
	}
	old := Gateway{Contact: fleet.Contact{Oldest: now.Add(-time.Minute).UnixMilli()}}
	if age := old.Age(now).Round(time.Second); age != time.Minute {
		t.Errorf("the oldest record is %v old", age)
	}
}
