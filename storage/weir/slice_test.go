package weir

import (
	"hash/fnv"
	"testing"
)

// TestSlices: the slices never change.
func TestSlices(t *testing.T) {
	id := TopicID{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}
	for what, c := range map[string]struct{ got, want Slice }{
		"partition 0":      {SliceOf(id, 0), 309},
		"partition 1":      {SliceOf(id, 1), 310},
		"partition 1023":   {SliceOf(id, 1023), 308},
		"group":            {SliceOfGroup("g"), 697},
		"transactional id": {SliceOfTransaction("g"), 857},
		"gateway":          {SliceOfGateway("g"), 916},
		"vhost":            {SliceOfVhost("g"), 506},
		"vhost /":          {SliceOfVhost("/"), 162},
	} {
		if c.got != c.want {
			t.Errorf("%s is in slice %d, want %d", what, c.got, c.want)
		}
	}
	h := fnv.New32a()
	h.Write(id[:])
	if h.Sum32() != fnv1a(fnvStart, id[:]) {
		t.Error("this is not FNV-1a")
	}
}
