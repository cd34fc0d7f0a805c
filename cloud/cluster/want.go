package cluster

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// want returns for each shard the candidates in their order: the first is the node that
// should have it. It is rendezvous hashing with bounded load: with n nodes, each is the
// first candidate of at most ⌈shards/n⌉ shards, and no two differ by more than one. The
// same nodes give the same result on every node.
func want(shards uint32, nodes []string) [][]string {
	if len(nodes) == 0 {
		return make([][]string, shards)
	}
	least := int(shards) / len(nodes)
	more := int(shards) % len(nodes) // so many nodes have one more
	load := make(map[string]int, len(nodes))
	all := make([][]string, shards)
	for shard := range all {
		order := slices.Clone(nodes)
		scores := make(map[string]uint32, len(nodes))
		for _, name := range nodes {
			scores[name] = score(uint32(shard), name)
		}
		slices.SortFunc(order, func(a, b string) int {
			return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
		})
		for i, name := range order {
			if load[name] < least || load[name] == least && more > 0 {
				if load[name] == least {
					more--
				}
				load[name]++
				copy(order[1:i+1], order[:i])
				order[0] = name
				break
			}
		}
		all[shard] = order
	}
	return all
}

// score says how much a node wants a shard.
func score(shard uint32, name string) uint32 {
	h := fnv.New32a()
	h.Write(binary.BigEndian.AppendUint32(nil, shard))
	h.Write([]byte(name))
	x := h.Sum32() // FNV alone does not mix its last bytes well
	x ^= x >> 16
	x *= 0x7feb352d
	x ^= x >> 15
	x *= 0x846ca68b
	return x ^ x>>16
}
