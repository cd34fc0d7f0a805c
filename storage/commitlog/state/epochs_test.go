package state

import "testing"

// There are never too many, and no answer is too low.
func TestEpochsAreBounded(t *testing.T) {
	var es Epochs
	for i := range int32(3 * maxEpochs) {
		es = es.Begin(i+1, int64(i)*10)
	}
	if len(es) != maxEpochs {
		t.Fatal(len(es))
	}
	for i := range int32(3 * maxEpochs) {
		found, end := es.End(i+1, 100_000)
		if found < 1 || found > i+1 || end < int64(i+1)*10 || !es.Hold(i+1, int64(i)*10) {
			t.Fatalf("epoch %d: %d until %d", i+1, found, end)
		}
	}
	if es.Hold(3*maxEpochs-1, int64(3*maxEpochs-1)*10) || es.Hold(3*maxEpochs, int64(3*maxEpochs-2)*10) {
		t.Error("a wrong epoch is taken")
	}
}
