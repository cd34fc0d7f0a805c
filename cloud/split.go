package cloud

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/console"
	"github.com/weirmq/weir/cloud/machine"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/split"
	"github.com/weirmq/weir/storage/weir"
)

// splitLevel is the format level of the entries that moves of slices need.
const splitLevel = 2

// splitter is what the owner of the catalogue does to give the cluster more shards: one move
// after the other. If the ownership ends in between, the move under way ends by itself, and
// the others are not made: whoever wants them asks again.
type splitter struct {
	mu    sync.Mutex
	owner *owned         // guarded by mu; of the ownership in which state was; nil: none
	state *console.Split // guarded by mu, also what it points to; each split has its own
}

// split is for console.Options. Errors: broker.ErrNotOwner, split.ErrShards,
// machine.ErrLevel.
func (n *Node) split(ctx context.Context, data int, dry bool) (console.Split, error) {
	own := n.shards.get(catalogueShard)
	if own == nil || n.broker.Serving() != nil {
		return console.Split{}, broker.ErrNotOwner
	}
	m, shards := own.Log.Map()
	var keep weir.SliceSet
	if own.Queues != nil {
		keep = vhostSlices(own)
	}
	steps, err := split.Plan(m, int(shards), data, keep)
	if err == nil {
		err = n.allGrowable(ctx, own)
	}
	if err != nil {
		return console.Split{}, err
	}
	state := console.Split{Shards: max(int(shards)-1, 1), Data: data}
	for _, s := range steps {
		state.Moves = append(state.Moves, console.Move{From: s.From, To: s.To, Slices: s.Slices.Len()})
	}
	if dry {
		return state, nil
	}
	state.Running = true
	s := &n.splitter
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner == own && s.state.Running {
		return console.Split{}, fmt.Errorf("%w: shards are being split already: weirctl shards split shows how far that is", split.ErrShards)
	}
	s.owner, s.state = own, &state
	n.o.Log.Info("shards are split", "shards", state.Shards, "into", data, "moves", len(steps))
	n.races.wg.Go(func() { n.playSplit(own, steps, &state) })
	return cloneSplit(state), nil
}

// splitState is for console.Options. Errors: broker.ErrNotOwner.
func (n *Node) splitState() (console.Split, error) {
	own := n.shards.get(catalogueShard)
	if own == nil {
		return console.Split{}, broker.ErrNotOwner
	}
	s := &n.splitter
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owner != own {
		_, shards := own.Log.Map()
		data := max(int(shards)-1, 1)
		return console.Split{Shards: data, Data: data}, nil
	}
	return cloneSplit(*s.state), nil
}

func cloneSplit(s console.Split) console.Split {
	s.Moves = slices.Clone(s.Moves)
	return s
}

// playSplit makes the moves of a split, until one fails, or this node loses the catalogue.
// It notes in state how far that is. If this node has got the catalogue again meanwhile,
// there may be another split, with a state of its own.
func (n *Node) playSplit(own *owned, steps []split.Step, state *console.Split) {
	ctx, cancel := context.WithCancel(n.races.ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	go func() {
		select {
		case <-own.Log.Done():
			cancel()
		case <-stop:
		}
	}()
	var failed error
	for i, step := range steps {
		m := weir.Move{From: step.From, To: step.To, Slices: step.Slices}
		rand.Read(m.ID[:]) // never fails
		if _, failed = n.askMove(ctx, peer.SlicesMove, m); failed != nil {
			break
		}
		n.splitter.mu.Lock()
		state.Moves[i].Done = true
		n.splitter.mu.Unlock()
	}
	n.splitter.mu.Lock()
	state.Running = false
	if failed != nil {
		state.Error = failed.Error()
	}
	n.splitter.mu.Unlock()
	if failed != nil {
		n.o.Log.Warn("shards are not all split: ask again when the reason is gone", "err", failed)
		return
	}
	n.o.Log.Info("shards are split: placement moves them to other nodes if these have fewer", "moves", len(steps))
}

// allGrowable returns why the cluster cannot have more shards: because of the format level,
// or of a node.
func (n *Node) allGrowable(ctx context.Context, own *owned) error {
	if own.Log.Level() < splitLevel {
		return fmt.Errorf("more shards: %w", machine.ErrLevel)
	}
	if err := n.growable(); err != nil {
		return fmt.Errorf("%w: %w", split.ErrShards, err)
	}
	for _, other := range n.manager.Members() {
		address := other.Address(cluster.Peer)
		if address == "" {
			return fmt.Errorf("%w: node %q has no --peer", split.ErrShards, other.Name)
		}
		ctx, cancel := context.WithTimeout(ctx, moveTime)
		_, err := n.peers.client.Slices(ctx, other.Name, address, peer.SlicesReady, weir.Move{})
		cancel()
		switch {
		case errors.Is(err, peer.ErrUnknownVerb):
			return fmt.Errorf("%w: node %q is of a version that cannot follow slices to other shards", split.ErrShards, other.Name)
		case err != nil:
			return fmt.Errorf("%w: %w", split.ErrShards, err)
		}
	}
	return nil
}
