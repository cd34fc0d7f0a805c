package journal

import (
	"reflect"
	"testing"

	"github.com/weirmq/weir/storage/storagetest"
)

// TestSchedulesReachEverything: random schedules come across all that an owner can meet.
// The seeds are fixed: some of it is so rare that others would not come across it.
func TestSchedulesReachEverything(t *testing.T) {
	if storagetest.Race {
		t.Skip("what seeds determine is the same without the race detector")
	}
	var sum tally
	for seed := range uint64(400) {
		sum.add(simulate(t, seed, mutations{}, caller{}).tally)
	}
	for v, i := reflect.ValueOf(sum), 0; i < v.NumField(); i++ {
		if v.Field(i).Int() == 0 {
			t.Errorf("no schedule reaches %s: %+v", v.Type().Field(i).Name, sum)
		}
	}
}

// tally counts what a run came across.
type tally struct {
	Opened, Takeovers, Fenced, Abandoned, Crashed, Written, Acked, Replays, Final int
	Checkpoints, Truncates, Removed, Kept, Restored, StartedOver                  int
	Followed, Yielded, HandedOver, Resumed                                        int
}

func (t *tally) add(o tally) {
	t.Opened += o.Opened
	t.Takeovers += o.Takeovers
	t.Fenced += o.Fenced
	t.Abandoned += o.Abandoned
	t.Crashed += o.Crashed
	t.Written += o.Written
	t.Acked += o.Acked
	t.Replays += o.Replays
	t.Final += o.Final
	t.Checkpoints += o.Checkpoints
	t.Truncates += o.Truncates
	t.Removed += o.Removed
	t.Kept += o.Kept
	t.Restored += o.Restored
	t.StartedOver += o.StartedOver
	t.Followed += o.Followed
	t.Yielded += o.Yielded
	t.HandedOver += o.HandedOver
	t.Resumed += o.Resumed
}
