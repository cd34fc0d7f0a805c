//go:build weirtest

package queue

import "testing"

// TestMutations: TestRandomSchedules notices when one of the engine's rules is broken, and
// TestReaderSchedules does if it is about readers.
func TestMutations(t *testing.T) {
	for name, m := range map[string]Mutations{
		"NoLend": {NoLend: true}, "NoEpoch": {NoEpoch: true}, "EarlyEnd": {EarlyEnd: true},
		"SplitDeath": {SplitDeath: true}, "HighFloor": {HighFloor: true}, "AckFlying": {AckFlying: true},
		"NoFilter": {NoFilter: true}, "EarlySeen": {EarlySeen: true},
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(200) {
				if faults := schedule(t, seed, m); len(faults) > 0 {
					t.Logf("seed %d: %s", seed, faults[0])
					return
				}
			}
			t.Error("nobody has noticed")
		})
	}
}

func TestReaderMutations(t *testing.T) {
	for seed := range uint64(200) {
		if faults := readerSchedule(t, seed, Mutations{SplitDeath: true}); len(faults) > 0 {
			t.Logf("seed %d: %s", seed, faults[0])
			return
		}
	}
	t.Error("nobody has noticed")
}
