package check

import (
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// A log that is broken everywhere gives a report of bounded length.
func TestCheckIsBounded(t *testing.T) {
	a := &auditor{state: state.Empty()}
	a.state.Tolerate = a.problem
	for i := range uint64(2 * maxProblems) {
		if err := a.Apply(journal.Position{Epoch: 1, Slot: i + 1}, []journal.Entry{{Kind: 99}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.report.Problems) != maxProblems {
		t.Error(len(a.report.Problems))
	}
}
