package fleet

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/sync/join"
)

// mayWrite checks what a gateway may write to, now and after a restart.
func mayWrite(t *testing.T, f *Fleet, j *machinetest.Log, what, gateway string, want ...string) {
	t.Helper()
	for _, one := range []*Fleet{f, recovered(t, j, Options{})} {
		var got []string
		for _, topic := range []string{"alarms", "pumps", "pumps.a", "pumps.b"} {
			if one.MayWrite(gateway, topic) {
				got = append(got, topic)
			}
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %s may write to %v, want %v", what, gateway, got, want)
		}
	}
}

// TestGrants: a gateway may write to what it is bound to, after a renewal, a reset
// and a restart too.
func TestGrants(t *testing.T) {
	f, j := start(t, Options{})
	ctx := t.Context()
	secret := token16(t, f, 9, time.Hour)
	_, csr := request(t, "gw")
	if _, err := f.Join(ctx, secret, "gw", csr); err != nil {
		t.Fatal(err)
	}
	may := func(what, gateway string, want ...string) {
		t.Helper()
		mayWrite(t, f, j, what, gateway, want...)
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	all := []string{"alarms", "pumps", "pumps.a", "pumps.b"}
	may("joined", "gw", all...)
	do(f.Deny(ctx, "gw", []string{"pumps.*"}))
	may("denied", "gw", "alarms", "pumps")
	do(f.Allow(ctx, "gw", []string{"pumps*"}))
	may("allowed some, denied some", "gw", "pumps")
	do(f.Allow(ctx, "gw", []string{"pumps.b", "alarms"}))
	may("allowed others", "gw", "alarms")
	do(f.Deny(ctx, "gw", []string{"x"}))
	may("denied others", "gw", "alarms", "pumps.b")
	if _, err := f.Renew(ctx, "gw", csr); err != nil {
		t.Fatal(err)
	}
	may("renewed", "gw", "alarms", "pumps.b")
	do(f.Reset(ctx, "gw"))
	_, csr = request(t, "gw")
	if _, err := f.Join(ctx, secret, "gw", csr); err != nil {
		t.Fatal(err)
	}
	may("joined anew", "gw", "alarms", "pumps.b")
	do(f.Allow(ctx, "gw", []string{"*"}))
	may("bounds lifted", "gw", all...)
	may("nobody here", "other", all...)
}

// TestTokenForTopics: who joins with such a token is bound from the start, and bound
// anew when it joins again.
func TestTokenForTopics(t *testing.T) {
	f, j := start(t, Options{})
	for i, topics := range [][]string{nil, {"pumps.*"}} {
		text, err := f.NewToken(t.Context(), 9, time.Hour, nil, topics...)
		if err != nil {
			t.Fatal(err)
		}
		token, err := join.ParseToken(text)
		if err != nil {
			t.Fatal(err)
		}
		for _, id := range []string{"gw", "other"}[:i+1] {
			if i > 0 && id == "gw" {
				if err := f.Reset(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			_, csr := request(t, id)
			if _, err := f.Join(t.Context(), token.Secret, id, csr); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, id := range []string{"gw", "other"} {
		mayWrite(t, f, j, "joined with a token for some topics", id, "pumps.a", "pumps.b")
	}
}

// TestPatterns: an invalid pattern limits no gateway.
func TestPatterns(t *testing.T) {
	f, j := start(t, Options{})
	ctx := t.Context()
	for what, err := range map[string]error{
		"no pattern": f.Allow(ctx, "gw", nil), "an empty one": f.Allow(ctx, "gw", []string{""}), "a class": f.Allow(ctx, "gw", []string{"[a-z]"}),
		"a slash": f.Deny(ctx, "gw", []string{"a/b"}), "a letter": f.Deny(ctx, "gw", []string{"ä"}), "a long one": f.Deny(ctx, "gw", []string{strings.Repeat("x", 250)}),
		"too many": f.Deny(ctx, "gw", make([]string, 101)), "of a token": func() error { _, err := f.NewToken(ctx, 1, time.Hour, nil, "a b"); return err }(),
	} {
		if !errors.Is(err, ErrPattern) || len(j.Entries) != 0 {
			t.Errorf("%s: %v, %v", what, err, j.Entries)
		}
	}
	if err := f.Allow(ctx, "nobody", []string{"a"}); !errors.Is(err, ErrUnknownGateway) {
		t.Error(err)
	}
}

// TestGrantsNeedALevel: in a log that older programs may read nothing is bound, since
// they would not know.
func TestGrantsNeedALevel(t *testing.T) {
	f, j := start(t, Options{})
	j.FormatLevel = 1
	_, tokenErr := f.NewToken(t.Context(), 1, time.Hour, nil, "a")
	for _, err := range []error{f.Allow(t.Context(), "gw", []string{"a"}), f.Deny(t.Context(), "gw", []string{"a"}), tokenErr} {
		if !errors.Is(err, machine.ErrLevel) || len(j.Entries) != 0 {
			t.Errorf("%v, %v", err, j.Entries)
		}
	}
	token16(t, f, 1, time.Hour)
}

// TestNewIDs: an id that cannot be part of a path is given to no new gateway; a gateway
// that has one keeps it, and can be revoked.
func TestNewIDs(t *testing.T) {
	f, _ := start(t, Options{})
	secret := token16(t, f, 9, time.Hour)
	for _, id := range []string{".", "..", ".a", "-a", "_a"} {
		_, csr := request(t, id)
		if _, err := f.Join(t.Context(), secret, id, csr); !errors.Is(err, join.ErrGatewayID) || !strings.Contains(err.Error(), "begin with a letter or digit") {
			t.Errorf("%s joins: %v", id, err)
		}
		if _, err := f.NewToken(t.Context(), 1, time.Hour, []string{id}); !errors.Is(err, join.ErrGatewayID) {
			t.Errorf("a token for %s: %v", id, err)
		}
		if err := f.Apply(kindJoined, fmt.Appendf(nil, `{"id":%q,"key":"AQI="}`, id)); err != nil { // joined long ago
			t.Fatal(err)
		}
		if err := f.Revoke(t.Context(), id); err != nil {
			t.Error(err)
		}
		if err := f.Reset(t.Context(), id); err != nil {
			t.Error(err)
		}
		if _, err := f.Join(t.Context(), secret, id, csr); err != nil {
			t.Errorf("%s joins again after a reset: %v", id, err)
		}
	}
}
