package quota

import (
	"reflect"
	"strings"
	"testing"
	"time"
)

// TestFollow: a copy has the limits of the original, and goes on counting what clients
// use when they change.
func TestFollow(t *testing.T) {
	now := time.Unix(1_000, 0)
	q := start(t, Options{})
	before := q.Changes()
	limit(t, q, "ann", "", Limits{Produce: 100, Request: 50})
	if q.Changes() == before {
		t.Error("a change does not count")
	}
	c := New(Options{Now: func() time.Time { return now }})
	if err := c.Follow(q.Copy()); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Entries(), q.Entries()) || c.Stopwatch() == nil {
		t.Errorf("%v, want %v", c.Entries(), q.Entries())
	}
	if wait := c.Take(Produce, "ann", "x", 300); wait != 2*time.Second {
		t.Errorf("the limit makes her wait for %v", wait)
	}
	limit(t, q, "bob", "", Limits{Consume: 5})
	if err := c.Follow(q.Copy()); err != nil {
		t.Fatal(err)
	}
	if wait := c.Take(Produce, "ann", "x", 100); wait != 3*time.Second {
		t.Errorf("after a change of another's limits she waits for %v", wait)
	}
}

// TestFollowAnotherVersion: members that are not known are left out; what makes no
// sense changes nothing.
func TestFollowAnotherVersion(t *testing.T) {
	q := start(t, Options{})
	limit(t, q, "ann", "", Limits{Produce: 100})
	body := string(q.Copy())
	c := New(Options{})
	if err := c.Follow([]byte(strings.Replace(body, `{"limits":[{`, `{"later":1,"limits":[{"soon":2,`, 1))); err != nil || len(c.Entries()) != 1 {
		t.Errorf("%v, %v", c.Entries(), err)
	}
	for _, bad := range []string{"", "x", `{"limits":[{"user":"","produce":1}]}`, `{"limits":[{"user":"a","produce":-1}]}`} {
		if err := c.Follow([]byte(bad)); err == nil || len(c.Entries()) != 1 {
			t.Errorf("%q: %v, %v", bad, err, c.Entries())
		}
	}
}
