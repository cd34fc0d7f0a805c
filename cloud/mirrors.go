package cloud

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/commitlog/state"
	"github.com/weirmq/weir/storage/journal"
)

// mirrors is what the owner of the catalogue knows of the mirrors on other nodes, from what
// they ask for.
type mirrors struct {
	mu      sync.Mutex          // guards what follows
	nodes   map[string]mirrorOf // by name
	changed chan struct{}       // closed when one of them knows more; nil: nobody waits
}

type mirrorOf struct {
	at    journal.Position // up to which it knows the catalogue
	asked time.Time
}

// mirrorGone is how long a node that does not ask counts as one that keeps a mirror.
const mirrorGone = 2*copyBeat + copyEvery

// asks notes a question.
func (m *mirrors) asks(q peer.CatalogueQuestion) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.nodes == nil {
		m.nodes = make(map[string]mirrorOf)
	}
	now := time.Now()
	for name, other := range m.nodes {
		if now.Sub(other.asked) > mirrorGone {
			delete(m.nodes, name)
		}
	}
	m.nodes[q.Node] = mirrorOf{q.After, now}
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// await returns when all mirrors know the catalogue up to a position, or when ctx ends. It
// is for broker.Options.
func (m *mirrors) await(ctx context.Context, at journal.Position) {
	for {
		changed, behind := m.behind(at)
		if !behind {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}

// behind reports whether a mirror does not know the catalogue up to a position. changed is
// closed when one of them knows more.
func (m *mirrors) behind(at journal.Position) (changed <-chan struct{}, behind bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	for _, other := range m.nodes {
		if other.at.Before(at) && time.Since(other.asked) <= mirrorGone {
			return m.changed, true
		}
	}
	return nil, false
}

// forget forgets the mirrors of nodes that are not waited for.
func (m *mirrors) forget(node func(name string) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name := range m.nodes {
		if node(name) {
			delete(m.nodes, name)
		}
	}
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// lacks reports whether a node has not said that it knows the catalogue up to a position.
func (m *mirrors) lacks(node string, at journal.Position) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	other, known := m.nodes[node]
	return !known || other.at.Before(at)
}

// late returns the names of nodes that were there in the last minute and have not applied
// what has just changed in the catalogue, which this node owns. It gives them some time.
func (n *Node) late(ctx context.Context) []string {
	if !n.several() || n.fleet() == nil {
		return nil
	}
	at, err := n.broker.CatalogueReached()
	if err != nil {
		return nil // another node owns it by now
	}
	n.mirrors.forget(n.nodeRevoked)
	n.broker.Tell(ctx)
	var all []string
	for _, k := range n.manager.Known() {
		if n.nodeRevoked(k.Name) {
			continue
		}
		if (k.Alive || time.Since(k.Heard) < severalAge) && n.mirrors.lacks(k.Name, at) {
			all = append(all, k.Name)
		}
	}
	return all
}

// createAt is for broker.Options: it creates a topic at the controller.
func (n *Node) createAt(ctx context.Context, controller broker.Node, name string, partitions int32, configs map[string]string) (broker.Topic, error) {
	if controller.Address(cluster.Peer) == "" {
		return broker.Topic{}, fmt.Errorf("%w, and node %q, which is, has no --peer", broker.ErrNotOwner, controller.Name)
	}
	t, err := n.peers.client.Create(ctx, controller.Name, controller.Address(cluster.Peer), name, partitions, configs)
	if err != nil && !errors.Is(err, broker.ErrInvalidTopic) {
		err = errors.Join(broker.ErrNotOwner, err)
	}
	return t, err
}

// createHere creates a topic for another node, unless it exists.
func (n *Node) createHere(ctx context.Context, name string, partitions int32, configs map[string]string) (state.Topic, error) {
	if !n.broker.IsController() {
		return state.Topic{}, broker.ErrNotOwner
	}
	t, err := n.broker.CreateTopic(ctx, name, partitions, configs)
	if errors.Is(err, broker.ErrTopicExists) {
		err = nil
	}
	return t, err
}
