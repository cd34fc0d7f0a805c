package cloud

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/measure"
)

const (
	// maxHeard is how many other nodes are remembered.
	maxHeard = 64
	// goneAfter is the silence, in takeover times, after which a node counts as gone:
	// it asks the owner at least once in each of them.
	goneAfter = 10
)

// heardNodes are the other nodes that have asked this one whether it is alive.
type heardNodes struct {
	mu  sync.Mutex // guards all
	all map[string]heardNode
}

type heardNode struct{ first, last time.Time }

// note records that a node was heard. If it was silent for longer than gone, it has
// come back, and its time begins again.
func (h *heardNodes) note(name string, now time.Time, gone time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	one, known := h.all[name]
	if !known && len(h.all) >= maxHeard {
		maps.DeleteFunc(h.all, func(_ string, n heardNode) bool { return now.Sub(n.last) > gone })
		if len(h.all) >= maxHeard {
			return
		}
	}
	if !known || now.Sub(one.last) > gone {
		one.first = now
	}
	one.last = now
	if h.all == nil {
		h.all = make(map[string]heardNode)
	}
	h.all[name] = one
}

// members lists the nodes heard of recently, by name.
func (h *heardNodes) members(now time.Time, gone time.Duration) []console.Member {
	h.mu.Lock()
	defer h.mu.Unlock()
	var all []console.Member
	for name, one := range h.all {
		if now.Sub(one.last) <= gone {
			all = append(all, console.Member{Name: name, Role: console.RoleStandby, Since: one.first.UTC(), Heard: one.last.UTC()})
		}
	}
	slices.SortFunc(all, func(a, b console.Member) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// gone is the silence after which a node is no longer listed.
func (n *Node) gone() time.Duration { return max(goneAfter*n.takeover(), 30*time.Second) }

// state returns this node's state for the admin port.
func (n *Node) state() console.State {
	self := console.Member{Name: n.o.Node, Role: n.Role(), HTTP: n.self.Address(cluster.HTTP), Kafka: n.self.Address(cluster.Kafka), Sync: n.self.Address(cluster.Sync), Addresses: console.AddressesOf(n.self.Addresses)}
	if all := n.shards.all(); len(all) > 0 {
		self.Since = all[0].since.UTC()
	}
	return console.State{Nodes: append([]console.Member{self}, n.peers.nodes.members(time.Now(), n.gone())...), Disk: diskOf(n.o.Data)}
}

// sources are what this node knows, for the metrics and the admin port.
func (n *Node) sources() measure.Sources {
	return measure.Sources{Shards: n.measuredShards, Gateways: n.gateways, Coordination: n.records.Coordination, GatewaySeries: n.o.Limits.orDefault().GatewaySeries}
}

// measuredShards returns what this node knows of the shards that it owns. Errors:
// ErrNotOwner.
func (n *Node) measuredShards() ([]measure.Shard, error) {
	var all []measure.Shard
	for _, own := range n.shards.all() {
		all = append(all, measure.Shard{ID: own.ID, Several: n.several(), Epoch: own.Log.Epoch(), Since: own.since, Records: own.Load.Records.Load(), Bytes: own.Load.Bytes.Load(), Stats: own.Log.Stats()})
	}
	if all == nil {
		return nil, broker.ErrNotOwner
	}
	return all, nil
}

// diskOf returns the figures of a directory's file system; only the path if there are
// none.
func diskOf(path string) console.Disk {
	var fs syscall.Statfs_t
	if err := syscall.Statfs(path, &fs); err != nil {
		return console.Disk{Path: path}
	}
	return console.Disk{Path: path, Free: uint64(fs.Bavail) * uint64(fs.Bsize), Size: uint64(fs.Blocks) * uint64(fs.Bsize)}
}
