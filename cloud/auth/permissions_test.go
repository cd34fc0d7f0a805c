package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/machine"
)

// permit sets permissions.
func permit(t *testing.T, a *Auth, all ...VhostPermissions) {
	t.Helper()
	for _, p := range all {
		if err := a.SetVhostPermissions(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPermissions: what was set is there, in place of what was there before, until it
// is cleared; clearing permissions leaves topic permissions.
func TestPermissions(t *testing.T) {
	a, follower := start(t, Options{})
	ctx := t.Context()
	permit(t, a, VhostPermissions{"ann", "/", ".*", ".*", ".*"}, VhostPermissions{"ann", "b", "", "", ""},
		VhostPermissions{"bob", "/", ".*", "", ""}, VhostPermissions{"ann", "/", "^a", "", ".*"})
	for _, p := range []TopicPermissions{{"ann", "/", "x", ".*", ""}, {"ann", "/", "amq.topic", ".*", ""}, {"bob", "b", "x", "", ""}, {"ann", "/", "x", "", ".*"}} {
		if err := a.SetTopicPermissions(ctx, p); err != nil {
			t.Fatal(err)
		}
	}
	all := []VhostPermissions{{"ann", "/", "^a", "", ".*"}, {"ann", "b", "", "", ""}, {"bob", "/", ".*", "", ""}}
	topics := []TopicPermissions{{"ann", "/", "amq.topic", ".*", ""}, {"ann", "/", "x", "", ".*"}, {"bob", "b", "x", "", ""}}
	for _, one := range []*Auth{a, follower} {
		if got := one.VhostPermissions("", ""); !slices.Equal(got, all) {
			t.Errorf("%v", got)
		}
		if got := one.VhostPermissions("", "/"); !slices.Equal(got, []VhostPermissions{all[0], all[2]}) {
			t.Errorf("of a vhost: %v", got)
		}
		if got := one.TopicPermissions("", "", ""); !slices.Equal(got, topics) {
			t.Errorf("%v", got)
		}
		if got := one.TopicPermissions("", "", "x"); !slices.Equal(got, topics[1:]) {
			t.Errorf("of an exchange: %v", got)
		}
	}
	for _, err := range []error{
		a.ClearVhostPermissions(ctx, "ann", "/"), a.ClearTopicPermissions(ctx, "ann", "/", "x"), a.ClearTopicPermissions(ctx, "bob", "b", ""),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		a.ClearVhostPermissions(ctx, "ann", "/"), a.ClearTopicPermissions(ctx, "ann", "/", "x"), a.ClearTopicPermissions(ctx, "bob", "b", ""),
	} {
		if !errors.Is(err, ErrUnknownPermissions) {
			t.Errorf("cleared twice: %v", err)
		}
	}
	if got := follower.VhostPermissions("", ""); !slices.Equal(got, all[1:]) {
		t.Errorf("%v", got)
	}
	if got := follower.TopicPermissions("", "", ""); !slices.Equal(got, topics[:1]) {
		t.Errorf("%v", got)
	}
}

// TestPermissionsOfRemovedUser: a user who gets an earlier user's name does not get the
// permissions.
func TestPermissionsOfRemovedUser(t *testing.T) {
	a, follower := start(t, Options{})
	setPassword(t, a, "ann", "secret")
	permit(t, a, VhostPermissions{"ann", "/", ".*", ".*", ".*"}, VhostPermissions{"ann", "b", "", "", ""}, VhostPermissions{"bob", "/", "", "", ""})
	if err := errors.Join(a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "/", "x", "", ""}), a.RemoveUser(t.Context(), "ann")); err != nil {
		t.Fatal(err)
	}
	if got := follower.VhostPermissions("", ""); len(got) != 1 || got[0].User != "bob" || len(follower.TopicPermissions("", "", "")) != 0 {
		t.Errorf("%v", got)
	}
}

// TestClearVhost: nobody has permissions in a vhost that was deleted, and all keep those
// in others.
func TestClearVhost(t *testing.T) {
	a, follower := start(t, Options{})
	for _, vhost := range []string{"/", "b"} {
		permit(t, a, VhostPermissions{"ann", vhost, ".*", ".*", ".*"}, VhostPermissions{"bob", vhost, ".*", ".*", ".*"})
		if err := a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", vhost, "x", "", ""}); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		if err := a.ClearVhost(t.Context(), "b"); err != nil {
			t.Fatal(err)
		}
	}
	if len(follower.VhostPermissions("", "b"))+len(follower.TopicPermissions("", "b", "")) != 0 ||
		len(follower.VhostPermissions("", "/")) != 2 || len(follower.TopicPermissions("", "/", "")) != 1 {
		t.Errorf("%v, %v", follower.VhostPermissions("", ""), follower.TopicPermissions("", "", ""))
	}
	if err := a.ClearVhost(t.Context(), ""); !errors.Is(err, ErrInvalid) {
		t.Errorf("all vhosts: %v", err)
	}
}

// TestWrongPermissions: what cannot be in the log, or cannot be used, is refused with
// the reason.
func TestWrongPermissions(t *testing.T) {
	a, _ := start(t, Options{})
	ctx := t.Context()
	long := strings.Repeat("x", MaxExpression+1)
	for what, c := range map[string]struct {
		err  error
		says string
	}{
		"no user":           {a.SetVhostPermissions(ctx, VhostPermissions{"", "/", "", "", ""}), "name of the user is empty"},
		"no vhost":          {a.SetVhostPermissions(ctx, VhostPermissions{"ann", "", "", "", ""}), "name of the vhost is empty"},
		"no exchange":       {a.SetTopicPermissions(ctx, TopicPermissions{"ann", "/", "", "", ""}), "name of the exchange is empty"},
		"a line":            {a.SetVhostPermissions(ctx, VhostPermissions{"ann\n", "/", "", "", ""}), "control characters"},
		"too long":          {a.SetVhostPermissions(ctx, VhostPermissions{"ann", "/", "", long, ""}), "more than 1000 bytes"},
		"not an expression": {a.SetVhostPermissions(ctx, VhostPermissions{"ann", "/", "", "(", ""}), `"(" for write`},
		"look-ahead":        {a.SetVhostPermissions(ctx, VhostPermissions{"ann", "/", "", "", "^(?!amq).*"}), "without look-around"},
		"a back-reference":  {a.SetTopicPermissions(ctx, TopicPermissions{"ann", "/", "x", `(a)\1`, ""}), "without look-around and back-references"},
		"a large one":       {a.SetVhostPermissions(ctx, VhostPermissions{"ann", "/", "((ab){30}c){30}", "", ""}), "repeats too much"},
		"of a topic":        {a.SetTopicPermissions(ctx, TopicPermissions{"ann", "/", "x", "", "[a"}), `"[a" for read`},
		"clear for nobody":  {a.ClearVhostPermissions(ctx, "", "/"), "name of the user is empty"},
		"clear nowhere":     {a.ClearTopicPermissions(ctx, "ann", "", ""), "name of the vhost is empty"},
	} {
		if !errors.Is(c.err, ErrInvalid) || !strings.Contains(fmt.Sprint(c.err), c.says) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if len(a.VhostPermissions("", "")) != 0 || len(a.TopicPermissions("", "", "")) != 0 {
		t.Error("something of that is in the log")
	}
	older := New(Options{})
	older.Serve(old(t))
	for _, err := range []error{older.SetVhostPermissions(ctx, VhostPermissions{"ann", "/", "", "", ""}), older.SetTopicPermissions(ctx, TopicPermissions{"ann", "/", "x", "", ""})} {
		if !errors.Is(err, machine.ErrLevel) {
			t.Errorf("at level 1: %v", err)
		}
	}
}

// TestPermissionsAreBounded: mistakes of an administrator do not fill the memory.
func TestPermissionsAreBounded(t *testing.T) {
	a, follower := start(t, Options{})
	for i := range MaxExchanges {
		if err := a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "/", fmt.Sprint(i), "", ""}); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "/", "more", "", ""}); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	if err := a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "/", "0", ".*", ""}); err != nil {
		t.Errorf("one that is there: %v", err)
	}
	for i := range MaxPermissions - MaxExchanges {
		for _, one := range []*Auth{a, follower} {
			one.vhosts.put(VhostPermissions{"ann", fmt.Sprint(i), "", "", ""})
		}
	}
	for _, err := range []error{
		a.SetVhostPermissions(t.Context(), VhostPermissions{"ann", "more", "", "", ""}), a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "more", "x", "", ""}),
		a.SetTopicPermissions(t.Context(), TopicPermissions{"ann", "0", "x", "", ""}), a.SetVhostPermissions(t.Context(), VhostPermissions{"ann", "/", "", "", ""}),
	} {
		if !errors.Is(err, ErrTooMany) {
			t.Error(err)
		}
	}
	permit(t, a, VhostPermissions{"ann", "0", ".*", "", ""})
}
