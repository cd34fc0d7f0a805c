package broker

import "slices"

// Owners lists the nodes that serve the data of the cluster, each once. all is false if
// the owner of a shard is not known.
func (b *Broker) Owners() (owners []Leader, all bool) {
	t := b.table.Load()
	all = true
	for _, id := range b.Routed() {
		l, known := b.leaderOf(t.shards[id])
		all = all && known
		if known && !slices.ContainsFunc(owners, func(other Leader) bool { return other.Name == l.Name }) {
			owners = append(owners, l)
		}
	}
	return owners, all
}
