package commitlog

import "testing"

func TestTransactionsByProducer(t *testing.T) {
	all := []aborted{{Aborted{1, 0, 9}, 5}, {Aborted{2, 5, 20}, 21}, {Aborted{1, 31, 50}, 40}, {Aborted{1, 70, 80}, 81}}
	ts := byProducer(all)
	for offset, want := range map[int64]bool{0: true, 9: true, 10: false, 30: false, 31: true, 50: true, 51: false, 70: true, 81: false} {
		if got := ts.aborted(1, offset); got != want {
			t.Errorf("offset %d: %v", offset, got)
		}
	}
}
