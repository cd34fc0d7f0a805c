package access

import (
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/auth"
	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/login"
	"github.com/weirmq/weir/cloud/machine/machinetest"
	"github.com/weirmq/weir/cloud/quota"
)

// limited returns an Access with limits for user ann, and the clock that they use.
func limited(t *testing.T, l quota.Limits) (*Access, *time.Time) {
	t.Helper()
	now := time.Unix(1_000_000, 0)
	q := quota.New(quota.Options{Now: func() time.Time { return now }})
	q.Serve(machinetest.New(q))
	if err := q.Set(t.Context(), quota.Entity{User: "ann"}, func(to *quota.Limits) { *to = l }, false); err != nil {
		t.Fatal(err)
	}
	return New(Options{Broker: broker.New(broker.Options{}), Quotas: func() *quota.Quotas { return q }}), &now
}

// TestCountTime: the work on a request and on the answers before it count for its user,
// and the time of a write is work up to its Effort.
func TestCountTime(t *testing.T) {
	a, now := limited(t, quota.Limits{Request: 1})
	ann, bob := login.Of("User:ann"), login.Of("User:bob")
	var m Meter
	_, watch := a.Watch(t.Context())
	*now = now.Add(time.Millisecond)
	if wait := a.CountTime(ann, "c", &m, watch); wait != 0 {
		t.Errorf("waits %v after 1 ms of work", wait)
	}
	m.Answer(watch)
	*now = now.Add(time.Second)
	m.Worked()
	if err := m.Write(1000, func() error { *now = now.Add(time.Hour); return nil }); err != nil {
		t.Fatal(err)
	}
	if got, want := time.Duration(m.writing.Load()), time.Second+Effort(1000); got != want {
		t.Errorf("%v of work on the answer, want %v", got, want)
	}
	_, watch = a.Watch(t.Context())
	if wait := a.CountTime(bob, "c", &Meter{}, watch); wait != 0 {
		t.Errorf("another user waits %v", wait)
	}
	if wait := a.CountTime(ann, "c", &m, watch); wait == 0 || m.writing.Load() != 0 {
		t.Errorf("waits %v after a second of work on answers; %v are left", wait, m.writing.Load())
	}
}

// TestCountBytes: bytes count for the user of the session.
func TestCountBytes(t *testing.T) {
	a, _ := limited(t, quota.Limits{Produce: 1})
	ann := login.Of("User:ann")
	if wait := a.CountBytes(ann, "c", quota.Consume, 1<<20) + a.CountBytes(login.Of("User:bob"), "c", quota.Produce, 1<<20) + a.CountBytes(ann, "c", quota.Produce, 0); wait != 0 {
		t.Errorf("waits %v without a limit", wait)
	}
	if a.CountBytes(ann, "c", quota.Produce, 1<<20) == 0 {
		t.Error("does not wait after a MiB, with a limit of a byte a second")
	}
}

// TestNothingCounts: without limits on time nothing is measured.
func TestNothingCounts(t *testing.T) {
	a, _ := limited(t, quota.Limits{Produce: 1})
	without := New(Options{Broker: broker.New(broker.Options{}), Users: func() *auth.Auth { return nil }})
	for name, a := range map[string]*Access{"no limit on time": a, "no quotas": without} {
		var m Meter
		ctx, watch := a.Watch(t.Context())
		m.Answer(watch)
		m.Worked()
		ran := false
		err := m.Write(1, func() error { ran = true; return nil })
		if watch != nil || ctx != t.Context() || !ran || err != nil || a.CountTime(login.Of("User:ann"), "", &m, watch) != 0 {
			t.Errorf("%s: something is measured", name)
		}
	}
}
