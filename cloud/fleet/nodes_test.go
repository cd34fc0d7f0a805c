package fleet

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
)

// TestRevokeNode: a revoked node is not admitted with any certificate; after a reset it is
// with those that were issued since.
func TestRevokeNode(t *testing.T) {
	now, changes := time.Date(2026, 1, 1, 0, 0, 0, 5e8, time.UTC), 0
	f, j := start(t, Options{Now: func() time.Time { return now }, NodesChanged: func() { changes++ }})
	for _, issued := range []time.Time{now.Add(-time.Hour), now, now.Add(time.Hour)} {
		if err := f.AdmitNode("a", issued); err != nil {
			t.Errorf("a node that was never revoked, with a certificate of %v: %v", issued, err)
		}
	}
	if err := f.ResetNode(t.Context(), "a"); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("reset: %v", err)
	}
	if err := errors.Join(f.RevokeNode(t.Context(), "b"), f.RevokeNode(t.Context(), "a")); err != nil {
		t.Fatal(err)
	}
	for _, issued := range []time.Time{now.Add(-time.Hour), now, now.Add(time.Hour)} {
		if err := f.AdmitNode("a", issued); !errors.Is(err, ErrNodeRevoked) {
			t.Errorf("a revoked node, with a certificate of %v: %v", issued, err)
		}
	}
	if got := f.RevokedNodes(); !slices.Equal(got, []string{"a", "b"}) || !f.NodeRevoked("a") || f.NodeRevoked("c") || changes != 2 {
		t.Errorf("revoked are %q, after %d changes", got, changes)
	}
	now = now.Add(time.Minute)
	if err := f.ResetNode(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	next := recovered(t, j, Options{})
	again := New(Options{})
	if err := again.Restore(f.Snapshot()); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]*Fleet{"same": f, "next owner": next, "restored": again} {
		old, fresh := f.AdmitNode("a", now.Add(-2*time.Minute)), f.AdmitNode("a", now)
		if !errors.Is(old, ErrNodeRevoked) || fresh != nil || !slices.Equal(f.RevokedNodes(), []string{"b"}) {
			t.Errorf("%s, after the reset: %v, %v, revoked are %q", name, old, fresh, f.RevokedNodes())
		}
	}
	j.FormatLevel = 1
	if err := f.RevokeNode(t.Context(), "c"); !errors.Is(err, machine.ErrLevel) {
		t.Errorf("at level 1: %v", err)
	}
}
