package upkeep

import (
	"testing"

	"github.com/weirmq/weir/storage/commitlog/state"
)

func TestTransactionsByProducer(t *testing.T) {
	all := []state.Abort{{Aborted: state.Aborted{Producer: 1, First: 0, Last: 9}}, {Aborted: state.Aborted{Producer: 2, First: 5, Last: 20}}, {Aborted: state.Aborted{Producer: 1, First: 31, Last: 50}}, {Aborted: state.Aborted{Producer: 1, First: 70, Last: 80}}}
	ts := byProducer(all)
	for offset, want := range map[int64]bool{0: true, 9: true, 10: false, 30: false, 31: true, 50: true, 51: false, 70: true, 81: false} {
		if got := ts.aborted(1, offset); got != want {
			t.Errorf("offset %d: %v", offset, got)
		}
	}
}
