package state

import (
	"bytes"
	"slices"
	"testing"

	"github.com/weirmq/weir/storage/coding"
)

// delay makes delayed messages: those of ids that are due in a second.
func (x *delayed) delay(second int64, first, last int64) {
	for id := first; id <= last; id++ {
		x.add(id, second*1000+999)
	}
}

// TestDelayedRuns: hours list long runs in pieces, and what is left after some are gone
// like what was never more.
func TestDelayedRuns(t *testing.T) {
	var some, never delayed
	some.delay(3600*7+5, 0, 200_000)
	some.delay(3600*7+6, 200_001, 200_010)
	some.delay(3600*7+5, 200_011, 200_011)
	some.delay(3600*9, 200_012, 200_012)
	if list := some.append(nil); len(list) > 60 {
		t.Errorf("a list of %d bytes", len(list))
	}
	for id := int64(10); id < 150_000; id++ {
		some.remove(id)
		some.remove(id)
	}
	some.remove(200_012)
	if h := some.hours[0]; h.listed > 2*h.n+mostGone || h.n != 50_022 {
		t.Errorf("%d are there, %d are listed", h.n, h.listed)
	}
	never.delay(3600*7+5, 0, 9)
	never.delay(3600*7+5, 150_000, 200_000)
	never.delay(3600*7+6, 200_001, 200_010)
	never.delay(3600*7+5, 200_011, 200_011)
	list := some.append(nil)
	if !bytes.Equal(list, never.append(nil)) || len(some.hours) != 1 {
		t.Fatal("what is left has other bytes than what never was more")
	}
	d := &decoder{coding.NewDecoder(list)}
	v := &Vhost{delayed: d.delayed(200_012)}
	if again := v.delayed.append(nil); !d.Done() || !bytes.Equal(again, list) {
		t.Fatal("other bytes were restored")
	}
	d = &decoder{coding.NewDecoder(list)}
	if d.delayed(200_011); !d.Bad() {
		t.Error("a message that was never published is delayed")
	}
	var twice delayed
	twice.delay(3600*7, 0, 9)
	twice.delay(3600*8, 9, 9)
	d = &decoder{coding.NewDecoder(twice.append(nil))}
	if d.delayed(10); !d.Bad() {
		t.Error("a message is due twice")
	}
	if ms, ok := v.DelayedUntil(); !ok || ms != (3600*7+5)*1000 || v.DelayedIn(ms-1, 10) != nil {
		t.Errorf("due at %d", ms)
	}
	if ids := v.DelayedIn((3600*7+5)*1000, 12); !slices.Equal(ids, []int64{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 150_000, 150_001}) {
		t.Errorf("%v", ids)
	}
	if n := len(v.DelayedIn(1<<40, 1<<20)); n != 50_022 || v.Delayed() != 50_022 {
		t.Errorf("%d are due", n)
	}
	v.delayed.delay(3600*7+4, 200_012, 200_012) // into an hour that was asked for
	if ms, _ := v.DelayedUntil(); ms != (3600*7+4)*1000 || !slices.Equal(v.DelayedIn(ms, 9), []int64{200_012}) {
		t.Errorf("due at %d", ms)
	}
}
