package fleet

import (
	"crypto/x509"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/sync/join"
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

// TestJoinNode: a token lets the node that it is for in, once, and nobody else. The
// certificates that the node had before are refused from then on.
func TestJoinNode(t *testing.T) {
	now := time.Now().UTC().Truncate(time.Second).Add(time.Hour + time.Second/2) // no certificate is older than the CA
	f, j := start(t, Options{Now: func() time.Time { return now }})
	secretOf := func(name string) [16]byte {
		t.Helper()
		text, err := f.NewNodeToken(t.Context(), name, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		token, err := join.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		return token.Secret
	}
	request := func(name string) []byte {
		t.Helper()
		key, err := join.NewKey()
		if err != nil {
			t.Fatal(err)
		}
		csr, err := join.NewNodeCSR(key, name)
		if err != nil {
			t.Fatal(err)
		}
		return csr
	}
	issued := func(a join.Admission, err error) time.Time {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(a.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		return join.IssuedAt(cert)
	}
	secret := secretOf("a door")
	if _, err := f.RenewNode("a door", request("a door")); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("a node that has not joined renews its certificate: %v", err)
	}
	var fresh time.Time
	for _, step := range []struct {
		what   string
		secret [16]byte
		name   string
		csr    []byte
		want   error
	}{
		{"unknown token", [16]byte{1}, "a door", request("a door"), join.ErrTokenUnknown},
		{"another node's token", secret, "b", request("b"), join.ErrTokenBound},
		{"a gateway's token", token16(t, f, 1, time.Hour), "a door", request("a door"), join.ErrTokenBound},
		{"request of another node", secret, "a door", request("b"), join.ErrRequest},
		{"right", secret, "a door", request("a door"), nil},
		{"once more", secret, "a door", request("a door"), join.ErrTokenSpent},
	} {
		a, err := f.JoinNode(t.Context(), step.secret, step.name, step.csr)
		if !errors.Is(err, step.want) {
			t.Errorf("%s: got %v, want %v", step.what, err, step.want)
		}
		if err == nil {
			fresh = issued(a, nil)
		}
	}
	gateway := secretOf("gw")
	if _, err := f.Join(t.Context(), gateway, "gw", nil); !errors.Is(err, join.ErrTokenBound) {
		t.Errorf("a gateway with the token of a node: %v", err)
	}
	for what, f := range map[string]*Fleet{"the owner": f, "the next one": recovered(t, j, Options{CA: f.o.CA})} {
		old, joined := f.AdmitNode("a door", now.Truncate(time.Second)), f.AdmitNode("a door", fresh)
		if !errors.Is(old, ErrNodeRevoked) || joined != nil || !f.NodeJoined("a door") || f.NodeJoined("b") {
			t.Errorf("%s, after the join: %v, %v", what, old, joined)
		}
	}
	if err := f.AdmitNode("a door", issued(f.RenewNode("a door", request("a door")))); err != nil {
		t.Errorf("renewed in the second of the join: %v", err)
	}
	now = now.Add(time.Hour / 2)
	renewed := issued(f.RenewNode("a door", request("a door")))
	stolen := secretOf("a door")
	if err := f.RevokeNode(t.Context(), "a door"); err != nil {
		t.Fatal(err)
	}
	_, joins := f.JoinNode(t.Context(), stolen, "a door", request("a door"))
	_, renews := f.RenewNode("a door", request("a door"))
	if !errors.Is(joins, join.ErrTokenUnknown) || !errors.Is(renews, join.ErrRevoked) || !f.NodeJoined("a door") {
		t.Errorf("a revoked node joins: %v, renews: %v", joins, renews)
	}
	next := secretOf("a door")
	if _, err := f.JoinNode(t.Context(), next, "a door", request("a door")); !errors.Is(err, join.ErrRevoked) {
		t.Errorf("a revoked node joins with a token made since: %v", err)
	}
	if err := f.ResetNode(t.Context(), "a door"); err != nil {
		t.Fatal(err)
	}
	if err := f.AdmitNode("a door", renewed); !errors.Is(err, ErrNodeRevoked) || f.NodeJoined("a door") {
		t.Errorf("after a reset, with a certificate of the second of the revocation: %v", err)
	}
	if _, err := f.JoinNode(t.Context(), stolen, "a door", request("a door")); !errors.Is(err, join.ErrTokenUnknown) {
		t.Errorf("after a reset, with a token from before: %v", err)
	}
	joined := issued(f.JoinNode(t.Context(), next, "a door", request("a door")))
	if err := f.AdmitNode("a door", joined); err != nil {
		t.Errorf("after a reset: %v", err)
	}
	if err := errors.Join(f.RevokeNode(t.Context(), "a door"), f.ResetNode(t.Context(), "a door")); err != nil {
		t.Fatal(err)
	}
	if err := f.AdmitNode("a door", joined); !errors.Is(err, ErrNodeRevoked) {
		t.Errorf("revoked in the second in which it has joined, after a reset: %v", err)
	}
	late := secretOf("a door")
	now = now.Add(2 * time.Hour)
	if _, err := f.JoinNode(t.Context(), late, "a door", request("a door")); !errors.Is(err, join.ErrTokenExpired) {
		t.Errorf("with a token that has expired: %v", err)
	}
	j.FormatLevel = 1
	if _, err := f.NewNodeToken(t.Context(), "b", time.Hour); !errors.Is(err, machine.ErrLevel) {
		t.Errorf("at level 1: %v", err)
	}
}
