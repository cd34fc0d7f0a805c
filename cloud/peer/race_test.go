package peer

import (
	"testing"

	"github.com/weirmq/weir/cloud/budget"
)

// TestRace: the other node has been told when the answer comes.
func TestRace(t *testing.T) {
	ca := newCA(t)
	p := start(t, ca, "one", budget.GateOptions{Name: "peer", Max: 10, Strangers: 10})
	c := client(t, identity(t, ca, "two"))
	for want := 1; want <= 2; want++ {
		if err := c.Race(t.Context(), "one", p.addr); err != nil {
			t.Fatal(err)
		}
		p.mu.Lock()
		if p.races != want {
			t.Errorf("told of %d races, want %d", p.races, want)
		}
		p.mu.Unlock()
	}
}
