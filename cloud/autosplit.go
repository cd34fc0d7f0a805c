package cloud

import (
	"context"
	"time"

	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/split"
)

// autoLooks is how many times within Options.AutoShards the owner of the catalogue looks
// whether shards are to be split.
const autoLooks = 20

// splitAsNodesCome splits shards when there are more nodes that can own data than shards
// that have data, until ctx ends. own is the shard of the catalogue.
func (n *Node) splitAsNodesCome(ctx context.Context, own *owned) {
	if n.o.AutoShards == 0 {
		return
	}
	tick := time.NewTicker(max(n.o.AutoShards/autoLooks, time.Millisecond))
	defer tick.Stop()
	cannot := budget.NewEpisode(budget.EpisodeOptions{
		Begin: "there are more nodes than shards with data, and shards cannot be split by themselves (--shards auto)",
		End:   "shards are split by themselves again", Quiet: 20 * n.o.AutoShards, Log: n.o.Log})
	defer cannot.End()
	// The former owner of the catalogue may have begun a split of which a move is left.
	for next, wait := time.Now().Add(n.o.AutoShards), n.o.AutoShards; ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		seen := n.seenForSplit(own)
		data, _ := split.Auto(seen, n.o.AutoShards)
		if data == 0 || time.Now().Before(next) {
			continue
		}
		wait = seen.Pause(wait, n.o.AutoShards)
		next = time.Now().Add(wait) // also for one that ends before its end
		if _, err := n.split(ctx, data, false); err != nil && ctx.Err() == nil {
			cannot.Note("wanted", data, "err", err)
		}
	}
}

// seenForSplit is what this node, which owns the catalogue, sees of its cluster.
func (n *Node) seenForSplit(own *owned) split.Seen {
	_, shards := own.Log.Map()
	s := split.Seen{Data: max(int(shards)-1, 1), Same: n.manager.Same()}
	s.Moving, s.Failed = n.slicesMove(own)
	served := make(map[uint32]bool)
	serves := func(all []cluster.ShardReport) {
		for _, one := range all {
			served[one.Shard] = served[one.Shard] || one.State == cluster.Owning
		}
	}
	if n.manager.Draining() {
		s.Draining = append(s.Draining, n.o.Node)
	} else if n.self.Roles.Has(cluster.RoleLog) {
		s.Logs++
	}
	serves(n.manager.Own())
	for _, k := range n.manager.Known() {
		switch {
		case !k.Alive:
			s.Silent = append(s.Silent, k.Name)
		case k.Draining:
			s.Draining = append(s.Draining, k.Name)
		case k.Roles.Has(cluster.RoleLog):
			s.Logs++
		}
	}
	for _, m := range n.manager.Members() {
		serves(m.Shards)
	}
	for id := range shards {
		if !served[id] {
			s.Unserved++
		}
	}
	return s
}

// slicesMove reports whether slices move between shards, as far as the owner of the catalogue
// knows, and why its last split has failed.
func (n *Node) slicesMove(own *owned) (moving bool, failed string) {
	n.splitter.mu.Lock()
	if n.splitter.owner == own {
		moving, failed = n.splitter.state.Running, n.splitter.state.Error
	}
	n.splitter.mu.Unlock()
	out, in := own.Log.Moves()
	return moving || len(out)+len(in) > 0 || len(n.mover.turn) > 0, failed
}

// autoShards says in words what --shards auto does now; "" if it is off here, or another node
// owns the catalogue.
func (n *Node) autoShards() string {
	own := n.shards.get(catalogueShard)
	if n.o.AutoShards == 0 || own == nil || own.Fleet == nil {
		return ""
	}
	_, why := split.Auto(n.seenForSplit(own), n.o.AutoShards)
	return why
}
