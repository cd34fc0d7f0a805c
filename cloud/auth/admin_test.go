package auth

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/admin"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

// old returns a log of format level 1 to which nothing may be proposed.
func old(t *testing.T) *machinetest.Log {
	return &machinetest.Log{FormatLevel: 1, Before: func() { t.Error("an entry in a log of level 1") }}
}

// TestAdmins: a credential is good until it is removed, or another takes its place.
func TestAdmins(t *testing.T) {
	a, follower := start(t, Options{})
	ctx, now := t.Context(), time.Now()
	is := func(token string, name string, role admin.Role) {
		t.Helper()
		for _, one := range []*Auth{a, follower} {
			caller, err := one.Administrator(admin.HashOf(token))
			if name == "" && !errors.Is(err, admin.ErrUnknown) || name != "" && (err != nil || caller != (admin.Caller{Name: name, Role: role})) {
				t.Errorf("%s is %+v, %v; want %q", token, caller, err, name)
			}
		}
	}
	set := func(name string, role admin.Role, token string) error {
		return a.SetAdmin(ctx, name, role, admin.HashOf(token), now)
	}
	for _, err := range []error{set("ann", admin.Read, "1"), set("bob", admin.Operate, "2")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	is("1", "ann", admin.Read)
	is("2", "bob", admin.Operate)
	is("3", "", 0)
	if err := set("ann", admin.Administer, "1"); err != nil { // another role, the same token
		t.Fatal(err)
	}
	is("1", "ann", admin.Administer)
	if err := set("ann", admin.Administer, "3"); err != nil {
		t.Fatal(err)
	}
	is("1", "", 0)
	is("3", "ann", admin.Administer)
	if err := a.RemoveAdmin(ctx, "bob"); err != nil {
		t.Fatal(err)
	}
	is("2", "", 0)
	for token, want := range map[string]bool{"1": true, "2": true, "3": false, "4": false} {
		if got := follower.Ended(admin.HashOf(token)); got != want {
			t.Errorf("token %s has ended: %v", token, got)
		}
	}
	if all := follower.Admins(); len(all) != 1 || all[0].Name != "ann" || !all[0].Created.Equal(now.Truncate(time.Second)) {
		t.Errorf("%+v", all)
	}
	for what, c := range map[string]struct{ err, want error }{
		"no name":                {set("", admin.Read, "5"), ErrInvalid},
		"a long name":            {set(strings.Repeat("x", MaxName+1), admin.Read, "5"), ErrInvalid},
		"no role":                {set("eve", admin.Open, "5"), ErrInvalid},
		"no such role":           {set("eve", admin.Administer+1, "5"), ErrInvalid},
		"somebody else's token":  {set("eve", admin.Read, "3"), ErrInvalid},
		"a token that has ended": {set("eve", admin.Read, "2"), ErrInvalid},
		"nobody":                 {a.RemoveAdmin(ctx, "bob"), ErrUnknownAdmin},
	} {
		if !errors.Is(c.err, c.want) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
}

// TestAdminsAreBounded: mistakes of an administrator do not fill the memory.
func TestAdminsAreBounded(t *testing.T) {
	a, _ := start(t, Options{})
	now := time.Now()
	for i := range MaxAdmins {
		if err := a.SetAdmin(t.Context(), fmt.Sprint(i), admin.Read, admin.HashOf(fmt.Sprint(i)), now); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.SetAdmin(t.Context(), "more", admin.Read, admin.HashOf("more"), now); !errors.Is(err, ErrTooMany) {
		t.Error(err)
	}
	for i := range maxEnded + 7 {
		if err := a.SetAdmin(t.Context(), "0", admin.Read, admin.HashOf(fmt.Sprint("other", i)), now); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.admins.ended) != maxEnded || a.Ended(admin.HashOf("0")) || !a.Ended(admin.HashOf("other10")) {
		t.Errorf("%d that have ended are remembered", len(a.admins.ended))
	}
}

// TestAdminsNeedALevel: a log that older programs may read gets no entry that they
// do not know.
func TestAdminsNeedALevel(t *testing.T) {
	a := New(Options{})
	a.Serve(old(t))
	if err := a.SetAdmin(t.Context(), "ann", admin.Read, admin.HashOf("1"), time.Now()); !errors.Is(err, machine.ErrLevel) || !strings.Contains(err.Error(), "weirctl upgrade") {
		t.Error(err)
	}
}
