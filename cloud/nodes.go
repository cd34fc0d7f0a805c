package cloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/configs"
	"github.com/weirmq/weir/storage/weir"
)

const (
	// statusTime is how long another node may take to say what it has.
	statusTime = 2 * time.Second
	// namesakeTime is for how long it is said that another process uses this node's name.
	namesakeTime = time.Minute
)

// moves counts the shards that this node got, by reason. The map is not changed.
type moves map[cluster.Reason]*metrics.Counter

func (n *Node) newMoves() moves {
	m := make(moves)
	for _, why := range cluster.Reasons() {
		m[why] = n.metrics.NewCounter(fmt.Sprintf("weir_shard_moves_total{reason=%q}", why))
	}
	return m
}

// got notes that a shard is recovered, which began then.
func (n *Node) got(own *owned, began time.Time) {
	own.since = time.Now()
	own.recovery = own.since.Sub(began)
	n.recoveries.Update(own.recovery.Seconds())
	if count := n.moves[own.claim.Move.Reason]; count != nil {
		count.Inc()
	}
}

// writePeers writes which of the other nodes answer.
func (n *Node) writePeers(w io.Writer) {
	for _, k := range n.manager.Known() {
		up := uint64(0)
		if k.Alive && k.Err == nil {
			up = 1
		}
		metrics.WriteGaugeUint64(w, fmt.Sprintf("weir_peer_up{node=%q}", k.Name), up)
	}
	states := map[cluster.State]uint64{cluster.Recovering: 0, cluster.Owning: 0, cluster.Doubting: 0, cluster.Handing: 0, cluster.Failing: 0}
	for _, s := range n.manager.Own() {
		states[s.State]++
	}
	for state, count := range states {
		metrics.WriteGaugeUint64(w, fmt.Sprintf("weir_shards{state=%q}", state), count)
	}
}

// nodes asks all nodes of the cluster what they say of themselves. The list is by name.
func (n *Node) nodes(ctx context.Context) []console.ClusterNode {
	ctx, cancel := context.WithTimeout(ctx, statusTime)
	defer cancel()
	known := n.manager.Known()
	all := make([]console.ClusterNode, len(known)+1)
	var wg sync.WaitGroup
	for i, k := range known {
		wg.Go(func() { all[i] = n.statusOf(ctx, k) })
	}
	wg.Go(func() { all[len(known)] = console.ClusterNode{NodeStatus: n.status(ctx), State: console.NodeUp} })
	wg.Wait()
	all = n.addRevoked(all)
	slices.SortFunc(all, func(a, b console.ClusterNode) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// statusOf asks another node.
func (n *Node) statusOf(ctx context.Context, k cluster.Known) console.ClusterNode {
	found := console.ClusterNode{State: console.NodeUp, Heard: k.Heard.UTC(), NodeStatus: console.NodeStatus{Name: k.Name, Boot: k.Boot, Host: k.Host, Roles: k.Roles.Names(),
		Peer: k.Address(cluster.Peer), Addresses: console.AddressesOf(k.Addresses), Draining: k.Draining, Shards: []console.OwnedShard{}}}
	if !k.Alive {
		found.State = console.NodeSilent
		if k.Err != nil {
			found.Error = whySilent(k.Err)
		}
		return found
	}
	if found.Peer == "" {
		found.Error = "it has no --peer"
		return found
	}
	asked := time.Now()
	body, err := n.peers.client.Status(ctx, k.Name, found.Peer)
	var said console.NodeStatus
	if err == nil {
		err = json.Unmarshal(body, &said)
	}
	if err == nil && said.Name != k.Name {
		err = fmt.Errorf("node %q answers", said.Name)
	}
	switch {
	case errors.Is(err, peer.ErrUnknownVerb):
		found.Error = "it is of an earlier version"
	case err != nil:
		found.State, found.Error = console.NodeSilent, whySilent(err)
	default:
		took := time.Since(asked)
		found.NodeStatus, found.Ahead = said, said.Clock.Sub(asked.Add(took/2)).Round(time.Millisecond)
	}
	return found
}

// whySilent says why an answer did not come, without the address, which is shown beside it.
func whySilent(err error) string {
	var request *url.Error
	switch {
	case peer.Refused(err):
		return "nothing listens at its address"
	case errors.Is(err, context.DeadlineExceeded):
		return "it did not answer in time"
	case errors.As(err, &request):
		return request.Err.Error()
	}
	return err.Error()
}

// statusFor answers another node.
func (n *Node) statusFor(ctx context.Context) ([]byte, error) { return json.Marshal(n.status(ctx)) }

// status is what this node says of itself.
func (n *Node) status(ctx context.Context) console.NodeStatus {
	s := console.NodeStatus{Name: n.o.Node, Boot: n.self.Boot, Version: configs.Version(), Host: n.self.Host, Role: n.Role(), Roles: n.self.Roles.Names(), Started: n.started.UTC(),
		Draining: n.manager.Draining(), Peer: n.self.Address(cluster.Peer), Addresses: console.AddressesOf(n.self.Addresses),
		Catalogue: n.copyAge(), Auto: n.autoShards(), Shards: n.ownedShards(), Moves: make(map[string]uint64), Disk: diskOf(n.o.Data)}
	for why, count := range n.moves {
		if got := count.Get(); got > 0 {
			s.Moves[string(why)] = got
		}
	}
	if expires, err := n.peers.identity.Expires(); err == nil {
		s.Certificate = expires.UTC()
	} else {
		s.Problems = append(s.Problems, "its certificate for --peer cannot be renewed: "+err.Error())
	}
	for _, l := range n.metrics.Listeners() {
		if l.Door != "peer" {
			s.Connections += int(l.Open)
		}
	}
	n.countHere(&s)
	if host, at := n.manager.Namesake(); !at.IsZero() && time.Since(at) < namesakeTime {
		s.Problems = append(s.Problems, fmt.Sprintf("another process, on host %s, has its name: give each a --node-id of its own", host))
	}
	if n.fleet() != nil {
		if all, err := n.metrics.Gateways(); err == nil && ctx.Err() == nil {
			count := console.CountGateways(all)
			s.Gateways = &count
		}
	}
	s.Clock = time.Now().UTC()
	return s
}

// countHere adds up what this node serves.
func (n *Node) countHere(s *console.NodeStatus) {
	if n.receiver != nil {
		s.Sessions = len(n.receiver.Gateways())
	}
	topics, err := n.broker.Topics()
	for _, t := range topics {
		for p := range t.Partitions {
			start, end, err := n.broker.Bounds(t.ID, p)
			if err != nil {
				continue // another node serves it, or it was deleted meanwhile
			}
			s.Records += end - start
			if size, err := n.broker.Size(t.ID, p); err == nil {
				s.Bytes += size
			}
		}
	}
	if err != nil && len(n.shards.all()) > 0 {
		s.Problems = append(s.Problems, "it does not know the topics of the cluster now: "+err.Error())
	}
	if c, err := n.metrics.Coordination(); err == nil {
		for _, g := range console.ListGroups(c) {
			s.Groups++
			if g.Lag > 0 {
				s.Lagging = append(s.Lagging, g)
			}
		}
	}
	if shards, err := n.measuredShards(); err == nil {
		total := measure.Total(shards)
		s.Waiting, s.Upkeep = total.Waiting, total.Age(time.Now())
	}
}

// ownedShards are those that this node owns, is about to own, or could not lead.
func (n *Node) ownedShards() []console.OwnedShard {
	all := []console.OwnedShard{}
	for _, has := range n.manager.Own() {
		s := console.OwnedShard{Shard: has.Shard, Epoch: has.Epoch, State: string(has.State)}
		if own := n.shards.get(has.Shard); own != nil && uint64(own.Log.Epoch()) == has.Epoch {
			s.Since, s.Recovery, s.Damaged = own.since.UTC(), own.recovery, own.Log.Stats().Damaged
			s.Reason, s.From = string(own.claim.Move.Reason), own.claim.Move.From
			s.Rate, s.ByteRate = n.metrics.Loads.Rate(has.Shard)
		}
		all = append(all, s)
	}
	return all
}

// allShards makes the list of shards from what the nodes say.
func (n *Node) allShards(nodes []console.ClusterNode) []console.ShardStatus {
	all := make([]console.ShardStatus, n.shards.number())
	for id := range all {
		all[id].Shard = uint32(id)
	}
	for _, c := range n.manager.Claims() {
		if int(c.Shard) < len(all) {
			all[c.Shard].Owner, all[c.Shard].Epoch = c.Owner, c.Epoch
		}
	}
	for s := range weir.Slices {
		if id := n.broker.RouteOf(weir.Slice(s)); int(id) < len(all) {
			all[id].Slices++
		}
	}
	topics, err := n.broker.KnownTopics()
	if err != nil {
		topics = nil // they are not known: gather says so
	}
	for _, t := range topics {
		for p := range t.Partitions {
			if id := n.broker.RouteOf(weir.SliceOf(t.ID, p)); int(id) < len(all) {
				all[id].Partitions++
			}
		}
	}
	return console.Assemble(all, nodes)
}
