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

// TestFirstMap: one shard has everything; of more, shard 0 has nothing, and the others
// have as many slices each, but for one.
func TestFirstMap(t *testing.T) {
	if FirstMap(1) != (Map{}) {
		t.Error("with one shard a slice is not in shard 0")
	}
	for _, shards := range []int{2, 3, 5, 9, MaxShards} {
		m := FirstMap(shards)
		slices := make([]int, shards)
		for _, shard := range m {
			slices[shard]++
		}
		least := Slices / (shards - 1)
		if slices[0] != 0 {
			t.Errorf("of %d shards, shard 0 has %d slices", shards, slices[0])
		}
		for shard, n := range slices[1:] {
			if n != least && n != least+1 {
				t.Errorf("of %d shards, shard %d has %d slices", shards, shard+1, n)
			}
		}
	}
	if m := FirstMap(5); m[0] != 1 || m[1] != 2 || m[4] != 1 || m[1023] != 4 {
		t.Errorf("the map of a cluster at rest has changed: %d %d %d %d", m[0], m[1], m[4], m[1023])
	}
}
