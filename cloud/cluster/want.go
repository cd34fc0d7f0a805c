package cluster

import (
	"cmp"
	"encoding/binary"
	"hash/fnv"
	"slices"
)

// candidate is a node that can have shards.
type candidate struct {
	name  string
	roles Roles
}

// want returns for each shard the candidates in their order: the first is the node that
// should have it. Only nodes with the roles that its owner needs are among them. It is
// rendezvous hashing with bounded load: with n nodes that can own data, each is the first
// candidate of at most ⌈shards/n⌉ shards, and no two differ by more than one. A node that
// can own nothing but the catalogue has that, and then it does not count. The same nodes
// give the same result on every node.
func want(shards uint32, nodes []candidate) [][]string {
	all := make([][]string, shards)
	load := make(map[string]int, len(nodes)) // of those that can own data
	for _, n := range nodes {
		if n.roles.Has(needed(shards-1, shards)) {
			load[n.name] = 0
		}
	}
	count := int(shards)
	for shard := range all {
		order := ordered(uint32(shard), shards, nodes)
		all[shard] = order
		if shard == 0 {
			i := slices.IndexFunc(order, func(name string) bool { _, spread := load[name]; return !spread })
			if i >= 0 {
				prefer(order, i)
			}
			if i >= 0 || len(order) == 0 {
				count--
				continue
			}
		}
		if len(load) == 0 {
			continue
		}
		least, more := count/len(load), count%len(load) // so many nodes have one more
		for _, has := range load {
			if has > least {
				more--
			}
		}
		for i, name := range order {
			if load[name] < least || load[name] == least && more > 0 {
				load[name]++
				prefer(order, i)
				break
			}
		}
	}
	return all
}

// ordered returns the candidates for a shard, those that want it most first.
func ordered(shard, shards uint32, nodes []candidate) []string {
	var order []string
	scores := make(map[string]uint32, len(nodes))
	for _, n := range nodes {
		if n.roles.Has(needed(shard, shards)) {
			order = append(order, n.name)
			scores[n.name] = score(shard, n.name)
		}
	}
	slices.SortFunc(order, func(a, b string) int {
		return cmp.Or(cmp.Compare(scores[b], scores[a]), cmp.Compare(a, b))
	})
	return order
}

// prefer moves a candidate to the front.
func prefer(order []string, i int) {
	name := order[i]
	copy(order[1:i+1], order[:i])
	order[0] = name
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
