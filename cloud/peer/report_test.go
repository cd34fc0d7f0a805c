package peer

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/budget"
)

// TestReport: the server answers a report with its own; a node of a version that does
// not know the verb, or a report that cannot be read, is an error.
func TestReport(t *testing.T) {
	ca := newCA(t)
	p := startWith(t, ca, "a", budget.GateOptions{Max: 8, Strangers: 4}, func(o *Options) {
		o.Report = func(node string, report []byte) ([]byte, error) {
			if string(report) == "garbage" {
				return nil, errors.New("report cannot be read")
			}
			return append([]byte(node+" says "), report...), nil
		}
	})
	b := client(t, identity(t, ca, "b"))
	long := strings.Repeat("x", maxReport-20)
	for _, report := range []string{"hello", long} {
		if got, err := b.Report(t.Context(), "a", p.addr, []byte(report)); err != nil || string(got) != "b says "+report {
			t.Errorf("%d bytes: got %d bytes, %v", len(report), len(got), err)
		}
	}
	for _, report := range []string{"garbage", strings.Repeat("x", maxReport+1)} {
		if _, err := b.Report(t.Context(), "a", p.addr, []byte(report)); err == nil || errors.Is(err, ErrUnknownVerb) {
			t.Errorf("%d bytes: %v", len(report), err)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.heard) == 0 || p.heard[0] != "b" {
		t.Errorf("heard of %v", p.heard)
	}
	earlier := startWith(t, ca, "c", budget.GateOptions{Max: 8, Strangers: 4}, func(*Options) {})
	if _, err := b.Report(t.Context(), "c", earlier.addr, nil); !errors.Is(err, ErrUnknownVerb) {
		t.Errorf("an earlier version: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Report(ctx, "a", p.addr, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("without time: %v", err)
	}
}
