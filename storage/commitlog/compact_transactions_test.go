package commitlog

import "testing"

func TestTransactionsByProducer(t *testing.T) {
	all := []aborted{{Aborted: Aborted{1, 0, 9}}, {Aborted: Aborted{2, 5, 20}}, {Aborted: Aborted{1, 31, 50}}, {Aborted: Aborted{1, 70, 80}}}
	ts := byProducer(all)
	for offset, want := range map[int64]bool{0: true, 9: true, 10: false, 30: false, 31: true, 50: true, 51: false, 70: true, 81: false} {
		if got := ts.aborted(1, offset); got != want {
			t.Errorf("offset %d: %v", offset, got)
		}
	}
}
