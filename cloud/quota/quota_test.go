package quota

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/machine/machinetest"
)

func start(t *testing.T, o Options) *Quotas {
	t.Helper()
	q, follower := New(o), New(o)
	log := machinetest.New(q, follower)
	log.Alike(t)
	q.Serve(log)
	return q
}

func set(t *testing.T, q *Quotas, user, client string, produce int64) {
	t.Helper()
	limit(t, q, user, client, Limits{Produce: produce})
}

func limit(t *testing.T, q *Quotas, user, client string, to Limits) {
	t.Helper()
	if err := q.Set(t.Context(), Entity{user, client}, func(l *Limits) { *l = to }, false); err != nil {
		t.Fatal(err)
	}
}

// The most particular limit counts, in Kafka's order, and each direction has its
// own.
func TestPrecedence(t *testing.T) {
	order := []Entity{{"", Default}, {"", "c"}, {Default, ""}, {Default, Default}, {Default, "c"}, {"u", ""}, {"u", Default}, {"u", "c"}}
	shared := []Entity{{"", "c"}, {"", "c"}, {"u", ""}, {"u", "c"}, {"u", "c"}, {"u", ""}, {"u", "c"}, {"u", "c"}}
	q := start(t, Options{})
	for i, e := range order {
		set(t, q, e.User, e.Client, int64(i+1))
		if who, rate := q.limit(Produce, "u", "c"); rate != float64(i+1) || who != shared[i] {
			t.Errorf("with %+v: %v for %+v", e, rate, who)
		}
	}
	if _, rate := q.limit(Consume, "u", "c"); rate != 0 {
		t.Errorf("a limit on writing limits reading to %v", rate)
	}
	if _, rate := q.limit(work, "u", "c"); rate != 0 {
		t.Errorf("a limit on writing limits time to %v", rate)
	}
	if _, rate := q.limit(Produce, "v", "d"); rate != 4 {
		t.Errorf("somebody else has %v", rate)
	}
}

func TestTake(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	q := start(t, Options{Now: func() time.Time { return now }})
	if d := q.Take(Produce, "u", "c", 1<<30); d != 0 {
		t.Errorf("without limits: %v", d)
	}
	set(t, q, "u", "", 1000)
	for _, step := range []struct {
		after  time.Duration
		client string
		bytes  int
		want   time.Duration
	}{
		{0, "a", 1000, 0},                           // a second's worth at once
		{0, "b", 500, 500 * time.Millisecond},       // all clients of the user share it
		{500 * time.Millisecond, "a", 0, 0},         // nothing is owed any more
		{10 * time.Second, "a", 1000, 0},            // and no more than a second's worth was saved
		{0, "a", 1_000_000, maxThrottle},            // told at once is so much
		{maxThrottle, "a", 0, maxThrottle},          // and the rest is not forgotten
		{1000*time.Second - maxThrottle, "a", 0, 0}, // until it is worked off
		{-time.Hour, "a", 1, 1 * time.Millisecond},  // a clock that goes back gives nothing
		{0, "a", 999, time.Second},                  // and takes nothing
		{time.Hour + time.Second + 1e6, "a", 1, 0},  // it went on
	} {
		now = now.Add(step.after)
		if got := q.Take(Produce, "u", step.client, step.bytes); got != step.want {
			t.Errorf("%+v: %v", step, got)
		}
	}
	if d := q.Take(Produce, "v", "a", 1<<30); d != 0 {
		t.Errorf("another user: %v", d)
	}
}

// Of time, 100 is a second in each second.
func TestTakeTime(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	q := start(t, Options{Now: func() time.Time { return now }})
	if d := q.TakeTime("u", "c", time.Hour); d != 0 {
		t.Errorf("without limits: %v", d)
	}
	limit(t, q, "u", "", Limits{Produce: 1, Request: 12.5})
	for _, step := range []struct {
		after  time.Duration
		client string
		worked time.Duration
		want   time.Duration
	}{
		{0, "a", 125 * time.Millisecond, 0},              // a second's worth at once
		{0, "b", 25 * time.Millisecond, time.Second / 5}, // all clients of the user share it
		{time.Second / 5, "a", 0, 0},                     // nothing is owed any more
		{time.Minute, "a", 250 * time.Millisecond, time.Second},
		{time.Second, "a", time.Hour, maxThrottle},
	} {
		now = now.Add(step.after)
		if got := q.TakeTime("u", step.client, step.worked).Round(time.Microsecond); got != step.want {
			t.Errorf("%+v: %v", step, got)
		}
	}
	if d := q.TakeTime("v", "a", time.Hour); d != 0 {
		t.Errorf("another user: %v", d)
	}
	if d := q.Take(Produce, "u", "a", 1); d != 0 {
		t.Errorf("bytes are limited by time: %v", d)
	}
}

// Who names a new client id each time fills no memory.
func TestManyClients(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	q := start(t, Options{Now: func() time.Time { return now }})
	set(t, q, "", Default, 1)
	for i := range 3 * manyBuckets {
		now = now.Add(10 * time.Millisecond)
		q.Take(Produce, "u", fmt.Sprint(i), 1)
	}
	if len(q.buckets) > manyBuckets {
		t.Errorf("%d buckets", len(q.buckets))
	}
}

func TestSet(t *testing.T) {
	q := start(t, Options{})
	set(t, q, "u", "", 5)
	if err := q.Set(t.Context(), Entity{User: "u"}, func(l *Limits) { l.Consume = 7 }, true); err != nil || q.Entries()[0].Consume != 0 {
		t.Errorf("only asked: %v, %+v", err, q.Entries())
	}
	if err := q.Set(t.Context(), Entity{User: "u"}, func(l *Limits) { l.Consume = 7 }, false); err != nil || q.Entries()[0] != (Entry{Entity{User: "u"}, Limits{Produce: 5, Consume: 7}}) {
		t.Errorf("%v, %+v", err, q.Entries())
	}
	for _, e := range []Entry{
		{Entity{}, Limits{Produce: 1}}, {Entity{User: "u"}, Limits{Produce: -1}}, {Entity{User: "u"}, Limits{Consume: -1}},
		{Entity{User: "u"}, Limits{Request: -1}}, {Entity{User: "u"}, Limits{Request: math.NaN()}}, {Entity{User: "u"}, Limits{Request: math.Inf(1)}},
		{Entity{User: "\xff"}, Limits{Produce: 1}}, {Entity{Client: strings.Repeat("x", MaxName+1)}, Limits{Produce: 1}},
	} {
		if err := q.Set(t.Context(), e.Entity, func(l *Limits) { *l = e.Limits }, false); !errors.Is(err, ErrInvalid) {
			t.Errorf("%+v: %v", e, err)
		}
	}
	if err := q.Set(t.Context(), Entity{User: "u"}, func(l *Limits) { *l = Limits{} }, false); err != nil || len(q.Entries()) != 0 {
		t.Errorf("%v, %+v", err, q.Entries())
	}
}

// What was restored is what applied everything.
func TestSnapshot(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 3))
	q, fork := New(Options{}), New(Options{})
	names := []string{"", Default, "<&>", "b", "c"}
	for range 2000 {
		e := Entry{Entity{names[1+random.IntN(4)], names[random.IntN(5)]}, Limits{random.Int64N(3), random.Int64N(3), float64(random.IntN(3)) / 3}}
		body, err := json.Marshal(e)
		if err := errors.Join(err, q.Apply(kindLimits, body), fork.Apply(kindLimits, body)); err != nil {
			t.Fatal(err)
		}
		if body = q.Snapshot(); !bytes.Equal(body, fork.Snapshot()) {
			t.Fatalf("the same entries make another state:\n%s\n%s", body, fork.Snapshot())
		}
		if random.IntN(20) > 0 {
			continue
		}
		if random.IntN(2) == 0 {
			fork = New(Options{})
		}
		if err := fork.Restore(body); err != nil || !bytes.Equal(fork.Snapshot(), body) {
			t.Fatalf("restore: %v", err)
		}
		if q.timed.Load() != fork.timed.Load() {
			t.Fatalf("%d limits on time, restored %d", q.timed.Load(), fork.timed.Load())
		}
	}
}

const golden = `{"version":1,"limits":[{"client":"c","produce":1},{"user":"\u003cdefault\u003e","consume":2},{"user":"ann","client":"\u003cdefault\u003e","produce":3,"consume":4},{"user":"bob","request":12.5}]}`

// The bytes at rest do not change by accident.
func TestGoldenSnapshot(t *testing.T) {
	q := New(Options{})
	for _, body := range []string{`{"user":"ann","client":"<default>","produce":3,"consume":4}`, `{"user":"<default>","consume":2}`, `{"client":"c","produce":1}`, `{"user":"bob","request":12.50}`,
		`{"user":"gone","produce":1}`, `{"user":"gone"}`} {
		if err := q.Apply(150, []byte(body)); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(q.Snapshot()); got != golden {
		t.Errorf("\n got %s\nwant %s", got, golden)
	}
	if err := q.Restore(nil); err != nil || len(q.Entries()) != 0 {
		t.Errorf("%v: %s", err, q.Snapshot())
	}
	if q.Stopwatch() != nil {
		t.Error("a limit on time that is gone is measured for")
	}
	if err := q.Restore([]byte(golden)); err != nil {
		t.Error(err)
	}
	for n := 1; n < len(golden); n++ {
		if err := q.Restore([]byte(golden)[:n]); !errors.Is(err, machine.ErrShape) {
			t.Errorf("cut at %d: %v", n, err)
		}
	}
	for name, c := range map[string][2]string{"version": {`"version":1`, `"version":2`}, "order": {`"ann"`, `"\u0021"`}, "negative": {`:3`, `:-3`}, "negative time": {`:12.5`, `:-12.5`}, "infinite time": {`:12.5`, `:1e999`}, "spelled otherwise": {`:12.5`, `:12.50`},
		"nobody": {`"client":"c",`, ``}, "unknown": {`"produce":1`, `"produce":1,"x":1`}, "space": {`,`, `, `}} {
		if err := q.Restore([]byte(strings.Replace(golden, c[0], c[1], 1))); !errors.Is(err, machine.ErrShape) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if string(q.Snapshot()) != golden {
		t.Error("a refused snapshot changed the state")
	}
}

// Whatever is restored is canonical.
func FuzzRestore(f *testing.F) {
	f.Add([]byte(golden))
	f.Fuzz(func(t *testing.T, body []byte) {
		q := New(Options{})
		if err := q.Restore(body); err == nil && len(body) > 0 && !bytes.Equal(q.Snapshot(), body) {
			t.Fatalf("%s is restored and becomes %s", body, q.Snapshot())
		}
	})
}
