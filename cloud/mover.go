package cloud

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/storage/pause"
	"github.com/weirmq/weir/storage/weir"
)

// Slices move from a shard that this node owns to a new one, which it leads, too, from then
// on; placement moves that on afterwards. commitlog says in which order the two logs are
// written, and why a crash at any moment loses nothing. What is added here: transactions
// settle first; while the slices are stopped, clients and gateways get errors after which
// they come again; the map of slices in the catalogue sends them to the new shard. An owner
// that finds a move which a former one has begun ends it: see resumeMoves.

const (
	// settleTime is how long transactions have to end before slices move, settlePause how
	// long others may begin again after that, and settleTries how often it is tried.
	settleTime  = 5 * time.Second
	settlePause = 2 * time.Second
	settleTries = 20
	// newShardTime is how long this node has to lead a new shard.
	newShardTime = time.Minute
	// movePause is how soon what another node has to do for a move is asked for again, and
	// moveTime how long one answer may take.
	movePause = 50 * time.Millisecond
	moveTime  = 5 * time.Second
	// moveAgain bounds the time between two tries: gateways' sessions wait for the end.
	moveAgain = 500 * time.Millisecond
)

// mover is what this node knows of moves of its shards.
type mover struct {
	ctx    context.Context // of moves whose slices are stopped; it goes on while shards are handed over, until Run returns
	turn   chan struct{}   // a token: held by the move that is under way
	moved  atomic.Uint64   // slices
	failed atomic.Uint64   // moves
}

var (
	errMoveUnderWay = errors.New("slices of another shard of the node are being moved: try again when that is over")
	errUnsettled    = errors.New("a transaction has not ended for a while, and slices do not move during one: end it, or try again")
	errNotInForce   = errors.New("this node has not heard of the new map yet")
)

// moveSlices moves slices of a shard that this node owns to the shard m.To, which is to be a
// new one. Before the slices are stopped it ends with ctx, or when the node drains; afterwards
// it goes on until they have moved, or do not, and a node that drains waits for that. Errors mean that they have not, unless this node has lost the shard
// meanwhile: then the next owner decides.
func (n *Node) moveSlices(ctx context.Context, m weir.Move) (err error) {
	select {
	case n.mover.turn <- struct{}{}:
		defer func() { <-n.mover.turn }()
	default:
		return errMoveUnderWay
	}
	from := n.shards.get(m.From)
	if from == nil || n.broker.Serves(m.From) != nil {
		return broker.ErrNotOwner
	}
	m.Slices = m.Slices.Without(vhostSlices(from))
	if m.Slices.Len() == 0 {
		return fmt.Errorf("shard %d has no slice that can move: work queues stay where they are", m.From)
	}
	began := time.Now()
	ctx, release := n.manager.Hold(ctx, m.From, m.To)
	defer release()
	log := n.o.Log.With("from", m.From, "to", m.To, "slices", m.Slices.Len())
	log.Info("slices begin to move to a new shard: records are separated, clients notice nothing yet")
	defer func() {
		if err != nil {
			if cause := context.Cause(ctx); errors.Is(cause, cluster.ErrDrains) && !errors.Is(err, cause) {
				err = errors.Join(cause, err)
			}
			n.mover.failed.Add(1)
			log.Warn("slices have not moved", "err", err)
		}
	}()
	to, end, err := n.newShard(ctx, m.To)
	if err != nil {
		return err
	}
	defer end()
	if err := from.Log.Separate(ctx, m.Slices); err != nil {
		return fmt.Errorf("separate records: %w", err)
	}
	separated := time.Since(began)
	if err := n.settle(ctx, from); err != nil {
		return errors.Join(err, from.Log.Separate(n.mover.ctx, weir.SliceSet{}))
	}
	defer from.Unsettle()
	stopped := time.Now()
	if err := n.stopAndMove(n.mover.ctx, from, to, m); err != nil {
		return err
	}
	n.mover.moved.Add(uint64(m.Slices.Len()))
	log.Info("slices have moved to a new shard", "separated_in", separated.Round(time.Millisecond), "stopped_for", time.Since(stopped).Round(time.Millisecond))
	return nil
}

// vhostSlices returns the slices of the vhosts in a shard. They do not move: work queues
// stay where they are. The default vhost counts also before it is there, since a node may make
// it at any time.
func vhostSlices(own *owned) (set weir.SliceSet) {
	set.Add(weir.SliceOfVhost(queue.DefaultVhost))
	for _, name := range own.Queues.Vhosts() {
		set.Add(weir.SliceOfVhost(name))
	}
	return set
}

// newShard makes this node lead a shard that the cluster does not have yet. release ends
// that, unless it has become part of the cluster.
func (n *Node) newShard(ctx context.Context, id uint32) (own *owned, release func(), err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, newShardTime, fmt.Errorf("this node does not lead the new shard %d after %v", id, newShardTime))
	defer cancel()
	for {
		release, err = n.manager.Create(id)
		if err == nil {
			break
		}
		if !errors.Is(err, cluster.ErrNotNext) || int(id) < n.shards.number() || pause.For(ctx, movePause) != nil {
			return nil, nil, err
		}
	}
	for {
		if own = n.shards.get(id); own != nil {
			// What an earlier attempt has left is resolved first: see resumeMoves.
			if _, in := own.Log.Moves(); len(in) == 0 && n.broker.Serves(id) == nil {
				return own, release, nil
			}
		}
		if pause.For(ctx, movePause) != nil {
			release()
			return nil, nil, context.Cause(ctx)
		}
	}
}

// settle waits until no transaction of a shard is ongoing. Now and then it lets others
// begin, if one lasts long.
func (n *Node) settle(ctx context.Context, own *owned) error {
	for range settleTries {
		limited, cancel := context.WithTimeout(ctx, settleTime)
		err := own.Settle(limited)
		cancel()
		if err == nil {
			return nil
		}
		own.Unsettle()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		n.o.Log.Info("slices wait for a transaction to end before they move", n.about(own.ID)...)
		if err := pause.For(ctx, settlePause); err != nil {
			return err
		}
	}
	return errUnsettled
}

// stopAndMove moves slices whose records are separated, from and to shards of this node. It
// ends with them, or with ctx, which is mover.ctx.
func (n *Node) stopAndMove(ctx context.Context, from, to *owned, m weir.Move) error {
	n.broker.CloseSlices(from.ID, m.Slices)
	err := from.CloseSlices(ctx, m.Slices)
	if made := vhostSlices(from); err == nil && m.Slices.Overlaps(&made) {
		err = errors.New("a vhost was made meanwhile, and work queues stay where they are: try again")
	}
	if err == nil {
		err = carry(ctx, from, to, m)
	}
	if err != nil {
		moved, unknown := from.Log.Void(ctx, m)
		if unknown != nil {
			return errors.Join(err, unknown) // the shard is lost; its next owner finds the move
		}
		if !moved {
			err = errors.Join(err, to.Log.Cancel(ctx, m))
			from.OpenSlices(m.Slices)
			n.broker.OpenSlices(from.ID, m.Slices)
			return err
		}
	}
	return n.finishMove(ctx, from, m)
}

// carry writes the two logs up to the entry that decides.
func carry(ctx context.Context, from, to *owned, m weir.Move) error {
	if err := from.Log.Stop(ctx, m); err != nil {
		return err
	}
	e, err := from.Log.Export(ctx, m)
	if err != nil {
		return err
	}
	if err := to.Log.Import(ctx, m, e); err != nil {
		return err
	}
	return from.Log.MoveOut(ctx, m)
}

// finishMove does what is left of a move that was decided: the new shard serves the slices,
// and the map says so. It tries again until that is done, and fails only with the ownership
// of the shard that had them.
func (n *Node) finishMove(ctx context.Context, from *owned, m weir.Move) error {
	for attempt, wait := 1, movePause; ; attempt, wait = attempt+1, min(2*wait, moveAgain) {
		err := n.finishOnce(ctx, from, m)
		if err == nil {
			return nil
		}
		if lost := from.Log.Err(); lost != nil {
			return errors.Join(err, lost)
		}
		if attempt%10 == 0 {
			n.o.Log.Warn("slices have moved to a new shard, but clients do not get there yet: trying again", "from", m.From, "to", m.To, "err", err)
		}
		if pause.For(ctx, wait) != nil {
			return errors.Join(err, ctx.Err())
		}
	}
}

func (n *Node) finishOnce(ctx context.Context, from *owned, m weir.Move) error {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	if _, err := n.askMove(ctx, peer.SlicesConfirm, m); err != nil {
		return err
	}
	if _, err := n.askMove(ctx, peer.SlicesMap, m); err != nil {
		return err
	}
	for slice := range m.Slices.All() {
		if n.broker.RouteOf(slice) == m.From {
			return errNotInForce
		}
	}
	n.broker.Moved(from.ID)
	return from.Log.Settle(ctx, m)
}

// askMove asks the node that a call is for: the owner of one of the two shards, or of the
// catalogue. It may be this one.
func (n *Node) askMove(ctx context.Context, call peer.SlicesCall, m weir.Move) (moved bool, err error) {
	id := uint32(catalogueShard)
	switch call {
	case peer.SlicesVoid, peer.SlicesMove:
		id = m.From
	case peer.SlicesConfirm:
		id = m.To
	}
	if n.shards.get(id) != nil {
		return n.answerMove(ctx, call, m)
	}
	owner, known := n.broker.OwnerOf(id)
	if !known || owner.Name == n.o.Node {
		return false, fmt.Errorf("shard %d: %w", id, broker.ErrNotOwner)
	}
	return n.peers.client.Slices(ctx, owner.Name, owner.Address(cluster.Peer), call, m)
}

// answerMove answers a call of another node, or of this one.
func (n *Node) answerMove(ctx context.Context, call peer.SlicesCall, m weir.Move) (moved bool, err error) {
	from, to := n.shards.get(m.From), n.shards.get(m.To)
	switch {
	case call == peer.SlicesReady:
		return false, n.growable()
	case call == peer.SlicesMap:
		return false, n.remap(ctx, m)
	case call == peer.SlicesMove:
		return false, n.moveSlices(ctx, m)
	case call == peer.SlicesVoid && from != nil:
		return from.Log.Void(ctx, m)
	case call == peer.SlicesConfirm && to != nil:
		err := to.Log.ConfirmMove(ctx, m)
		if err == nil {
			n.broker.OpenSlices(m.To, m.Slices)
		}
		return false, err
	}
	return false, broker.ErrNotOwner
}

// remap says in the catalogue that slices have moved, and returns when other nodes know it,
// or have had the time for that. Only its owner can do that.
func (n *Node) remap(ctx context.Context, m weir.Move) error {
	own := n.shards.get(catalogueShard)
	if own == nil {
		return broker.ErrNotOwner
	}
	n.remapping.Lock()
	defer n.remapping.Unlock()
	routes, shards := own.Log.Map()
	for slice := range m.Slices.All() {
		if at := routes[slice]; at != m.From && at != m.To {
			return fmt.Errorf("slice %d is in shard %d, and does not move from %d to %d", slice, at, m.From, m.To)
		}
		routes[slice] = m.To
	}
	if err := own.Log.SetMap(ctx, routes, max(shards, m.To+1)); err != nil {
		return err
	}
	n.setMap(own.Log.Map())
	n.broker.Tell(ctx)
	return nil
}

// setMap makes this node follow a map of slices. shards is 0 if it is that of the creation.
func (n *Node) setMap(m weir.Map, shards uint32) {
	if shards == 0 {
		return
	}
	n.shards.grow(int(shards))
	if n.broker.SetMap(m, n.shards.number()) {
		n.ingest.door.Remapped()
	}
}

// resumeMoves ends the moves that it finds in a shard which this node has just recovered,
// until ctx ends.
func (n *Node) resumeMoves(ctx context.Context, own *owned) {
	out, in := own.Log.Moves()
	for _, m := range in {
		n.untilDone(ctx, own, m, func() error { return n.resolve(ctx, own, m) })
	}
	for _, m := range out {
		n.untilDone(ctx, own, m, func() error { return n.resumeOut(ctx, own, m) })
	}
}

// untilDone tries again until do succeeds.
func (n *Node) untilDone(ctx context.Context, own *owned, m weir.Move, do func() error) {
	for attempt, wait := 1, movePause; ctx.Err() == nil && own.Log.Err() == nil; attempt, wait = attempt+1, min(2*wait, moveAgain) {
		err := do()
		if err == nil {
			return
		}
		if attempt%10 == 0 {
			n.o.Log.Warn("a move of slices that was under way when its owner ended is not over: trying again", "from", m.From, "to", m.To, "err", err)
		}
		_ = pause.For(ctx, wait)
	}
}

// resolve asks whether slices have moved to this shard.
func (n *Node) resolve(ctx context.Context, to *owned, m weir.Move) error {
	ctx, cancel := context.WithTimeout(ctx, moveTime)
	defer cancel()
	moved, err := n.askMove(ctx, peer.SlicesVoid, m)
	if err != nil {
		return err
	}
	if moved {
		err = to.Log.ConfirmMove(ctx, m)
	} else {
		err = to.Log.Cancel(ctx, m)
	}
	if err == nil {
		n.broker.OpenSlices(to.ID, m.Slices)
		n.o.Log.Info("a move of slices that was under way when its owner ended was found", "from", m.From, "to", m.To, "moved", moved)
	}
	return err
}

// resumeOut finishes a move away from this shard. If the cluster does not have the new shard
// yet, this node leads that. Without the role for it, it makes the new shard part of the
// cluster: another node leads it then, and asks this one whether the slices have moved.
func (n *Node) resumeOut(ctx context.Context, from *owned, m weir.Move) error {
	switch unknown := int(m.To) >= n.shards.number(); {
	case unknown && !n.o.Roles.Has(cluster.RoleLog):
		limited, cancel := context.WithTimeout(ctx, moveTime)
		_, err := n.askMove(limited, peer.SlicesMap, m)
		if cancel(); err != nil {
			return err
		}
	case unknown:
		held, release := n.manager.Hold(ctx, m.From, m.To)
		defer release()
		_, end, err := n.newShard(held, m.To)
		if err != nil {
			return err
		}
		defer end()
	}
	return n.finishMove(ctx, from, m)
}

// growable returns why the cluster cannot have more shards, as far as this node is
// concerned.
func (n *Node) growable() error {
	if n.o.Peer == Off {
		return fmt.Errorf("node %q has --peer off: the nodes of several shards need each other", n.o.Node)
	}
	return nil
}

// measureMoves adds the metrics of moves.
func (n *Node) measureMoves() {
	n.metrics.NewGauge("weir_slices_moved_total", func() float64 { return float64(n.mover.moved.Load()) })
	n.metrics.NewGauge("weir_slice_moves_failed_total", func() float64 { return float64(n.mover.failed.Load()) })
	n.metrics.NewGauge("weir_cluster_shards", func() float64 { return float64(cmp.Or(n.shards.number(), 1)) })
}
