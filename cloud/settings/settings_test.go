package settings

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

// start returns Settings, and others that follow the same journal.
func start(t *testing.T) (s, follower *Settings, j *machinetest.Log) {
	t.Helper()
	s, follower = New(), New()
	j = machinetest.New(s, follower)
	j.Alike(t)
	s.Serve(j)
	return s, follower, j
}

// set gives settings, "" takes one away.
func set(t *testing.T, s *Settings, r Resource, kv ...string) error {
	t.Helper()
	return s.Alter(t.Context(), r, func(settings map[string]string) error {
		for i := 0; i < len(kv); i += 2 {
			if settings[kv[i]] = kv[i+1]; kv[i+1] == "" {
				delete(settings, kv[i])
			}
		}
		return nil
	})
}

func TestSettings(t *testing.T) {
	s, _, j := start(t)
	all, one, g := Resource{Kind: Node}, Resource{Node, "7"}, Resource{Group, "g"}
	for _, err := range []error{set(t, s, all, "a", "1", "b", "1"), set(t, s, one, "b", "2", "c", "2"), set(t, s, g, "x", "3"), set(t, s, g, "x", "3")} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(j.Entries) != 3 {
		t.Errorf("%d entries: what changes nothing needs none", len(j.Entries))
	}
	check := func(what string, got map[string]string, want string) {
		t.Helper()
		if fmt.Sprint(got) != want {
			t.Errorf("%s: %v, want %s", what, got, want)
		}
	}
	check("node 7", s.Node("7"), "map[a:1 b:2 c:2]")
	check("node 8", s.Node("8"), "map[a:1 b:1]")
	check("own", s.Of(one), "map[b:2 c:2]")
	check("group", s.Of(g), "map[x:3]")
	if names := s.Names(Node); !slices.Equal(names, []string{"", "7"}) {
		t.Errorf("%q", names)
	}
	// A copy is changed, and not if there is an error.
	before := s.Of(one)
	mine := errors.New("mine")
	if err := s.Alter(t.Context(), one, func(settings map[string]string) error { settings["b"] = "9"; return mine }); !errors.Is(err, mine) {
		t.Error(err)
	}
	if err := errors.Join(set(t, s, one, "b", "", "c", ""), set(t, s, all, "a", "", "b", ""), set(t, s, g, "x", "")); err != nil {
		t.Fatal(err)
	}
	check("before", before, "map[b:2 c:2]")
	check("nothing", s.Node("7"), "map[]")
	if s.bytes != 0 || s.Snapshot() != nil {
		t.Errorf("%d bytes, %s", s.bytes, s.Snapshot())
	}
}

func TestLimits(t *testing.T) {
	s, _, j := start(t)
	long := strings.Repeat("x", maxOne/2)
	for what, c := range map[string]struct {
		r    Resource
		kv   []string
		want error
	}{
		"kind": {Resource{"topic", "t"}, []string{"a", "1"}, ErrInvalid}, "no group": {Resource{Group, ""}, []string{"a", "1"}, ErrInvalid},
		"long group": {Resource{Group, strings.Repeat("g", maxName+1)}, []string{"a", "1"}, ErrInvalid},
		"long value": {Resource{Kind: Node}, []string{"a", long, "b", long}, ErrInvalid},
		"no text":    {Resource{Kind: Node}, []string{"a", "\xff"}, ErrInvalid},
	} {
		if err := set(t, s, c.r, c.kv...); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", what, err, c.want)
		}
	}
	for i := range MaxBytes / len(long) {
		if err := set(t, s, Resource{Group, fmt.Sprint(i)}, "a", long); err != nil {
			if !errors.Is(err, ErrTooMany) || i < MaxBytes/len(long)-2 {
				t.Fatal(i, err)
			}
			break
		}
	}
	if err := set(t, s, Resource{Group, "more"}, "a", long); !errors.Is(err, ErrTooMany) || s.bytes > MaxBytes {
		t.Error(err, s.bytes)
	}
	if err := set(t, s, Resource{Group, "0"}, "a", long[1:]); err != nil { // in the place of another
		t.Error(err)
	}
	j.FormatLevel = Level - 1
	if err := set(t, s, Resource{Group, "0"}, "a", "1"); !errors.Is(err, machine.ErrLevel) || !strings.Contains(err.Error(), "weirctl upgrade") {
		t.Error(err)
	}
}

func TestSnapshot(t *testing.T) {
	s, _, _ := start(t)
	err := errors.Join(set(t, s, Resource{Node, "7"}, "b", "2"), set(t, s, Resource{Group, "g"}, "x", "3"), set(t, s, Resource{Kind: Node}, "b", "1", "a", "1"))
	if err != nil {
		t.Fatal(err)
	}
	const golden = `{"version":1,"settings":[{"kind":"group","name":"g","settings":{"x":"3"}},{"kind":"node","name":"","settings":{"a":"1","b":"1"}},{"kind":"node","name":"7","settings":{"b":"2"}}]}`
	if got := string(s.Snapshot()); got != golden {
		t.Fatalf("\n got %s\nwant %s", got, golden)
	}
	next := New()
	if err := next.Restore([]byte(golden)); err != nil || string(next.Snapshot()) != golden || !maps.Equal(next.Node("7"), s.Node("7")) || next.bytes != s.bytes {
		t.Errorf("%v: %s", err, next.Snapshot())
	}
	for what, body := range map[string]string{
		"version": strings.Replace(golden, "1", "2", 1), "cut": golden[:len(golden)-1], "empty": `{"version":1,"settings":null}`,
		"order": `{"version":1,"settings":[{"kind":"node","name":"7","settings":{"b":"2"}},{"kind":"group","name":"g","settings":{"x":"3"}}]}`,
		"none":  `{"version":1,"settings":[{"kind":"node","name":"7","settings":{}}]}`, "kind": strings.Replace(golden, "group", "grope", 1),
	} {
		if err := next.Restore([]byte(body)); err == nil || string(next.Snapshot()) != golden {
			t.Errorf("%s is restored: %v", what, err)
		}
	}
	if err := next.Restore(nil); err != nil || next.Snapshot() != nil || len(next.Node("7")) != 0 {
		t.Errorf("%v: %s", err, next.Snapshot())
	}
}
