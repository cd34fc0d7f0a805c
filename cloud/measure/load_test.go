package measure

import (
	"testing"
	"time"
)

// TestLoads: the load of a shard is that of the last minute, or of the time since this
// node owns it; what it counted in an earlier ownership is not part of it.
func TestLoads(t *testing.T) {
	var l Loads
	now := time.Now()
	rates := func(what string, records, bytes float64) {
		t.Helper()
		if r, b := l.Rate(3); r != records || b != bytes {
			t.Errorf("%s: %v records/s, %v B/s; want %v and %v", what, r, b, records, bytes)
		}
	}
	rates("before anything is known", 0, 0)
	l.sample([]Shard{{ID: 3, Epoch: 7, Since: now.Add(-10 * time.Second), Records: 50, Bytes: 500}}, now)
	rates("at first", 0, 0)
	for i := range 20 {
		now = now.Add(meterStep)
		l.sample([]Shard{{ID: 3, Epoch: 7, Since: now, Records: 50 + 100*uint64(i), Bytes: 500 + 2000*uint64(i)}, {ID: 4}}, now)
	}
	rates("over a minute", 10, 200)
	l.sample(nil, now.Add(time.Second))
	rates("of a shard that is lost", 0, 0)
	l.sample([]Shard{{ID: 3, Epoch: 9, Since: now.Add(2 * time.Second), Records: 6, Bytes: 60}}, now.Add(4*time.Second))
	rates("of a shard that came back", 3, 30)
}
