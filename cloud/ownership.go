package cloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/uplink"
)

// several reports whether the cluster has more than one shard.
func (u *ingest) several() bool { return u.broker.Several() }

// lead begins the ownership of a shard: sessions can attach to it here.
func (u *ingest) lead(id uint32, epoch int32) {
	at := shardLog{u, id}
	u.owning.Lock()
	u.owners[id] = uplink.NewOwner(uint64(epoch), uplink.Calls{Offer: at.Offer, Append: u.Append, Mark: u.Mark, Retire: at.Retire}, uplink.Mutations{})
	delete(u.following, id)
	if id == catalogueShard {
		clear(u.created)
	}
	u.owning.Unlock()
	u.door.Moved(id)
}

// lose ends the ownership of a shard.
func (u *ingest) lose(id uint32) {
	u.owning.Lock()
	o := u.owners[id]
	delete(u.owners, id)
	u.owning.Unlock()
	if o != nil {
		o.End()
	}
}

// follow makes the sessions of this node attach to the owner of a shard, if that is new.
func (u *ingest) follow(id uint32, owner cluster.Node) {
	name := owner.Name + "\n" + owner.Boot
	u.owning.Lock()
	moved := u.following[id] != name
	u.following[id] = name
	u.owning.Unlock()
	if moved && u.several() {
		u.door.Moved(id)
	}
}

// elsewhere returns the node that owns a shard and answers the calls of package peer. It
// reports false in a cluster of one shard, and if there is no such node but this one.
func (u *ingest) elsewhere(id uint32) (broker.Node, bool) {
	owner, known := u.broker.OwnerOf(id)
	return owner.Node, u.several() && known && owner.Name != u.broker.Self().Name && owner.Address(cluster.Peer) != ""
}

// owner returns the owner of a shard if it is this node. Errors: *uplink.NotOwnerError,
// uplink.ErrBusy.
func (u *ingest) owner(id uint32) (*uplink.Owner, error) {
	if err := u.broker.Serves(id); err != nil {
		return nil, u.answer(err)
	}
	u.owning.Lock()
	defer u.owning.Unlock()
	if o := u.owners[id]; o != nil {
		return o, nil
	}
	return nil, fmt.Errorf("%w: this node is about to serve shard %d", uplink.ErrBusy, id)
}

// number is for uplink.Options.
func (u *ingest) number(ctx context.Context, gateway string) (uplink.Number, error) {
	id := u.broker.RouteOf(weir.SliceOfGateway(gateway))
	if node, ok := u.elsewhere(id); ok {
		named := ""
		if u.broker.Remapped() { // else the node may be of a version that takes no name
			named = gateway
		}
		return u.peers.Number(ctx, node.Name, node.Address(cluster.Peer), id, named)
	}
	return u.numberHere(id, gateway)
}

// numberHere is uplink.Owner.Number of a shard that this node owns.
func (u *ingest) numberHere(id uint32, gateway string) (uplink.Number, error) {
	o, err := u.owner(id)
	if err != nil {
		return uplink.Number{}, err
	}
	if epoch := u.broker.SliceEpoch(weir.SliceOfGateway(gateway)); gateway != "" && epoch > 0 {
		return o.NumberAt(uint64(epoch)), nil
	}
	return o.Number(), nil
}

// attach is for uplink.Options.
func (u *ingest) attach(ctx context.Context, id uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	if node, ok := u.elsewhere(id); ok {
		return u.peers.Attach(ctx, node.Name, node.Address(cluster.Peer), id, gateway, n, buffers, end)
	}
	return u.attachHere(ctx, id, gateway, n, buffers, end)
}

// attachHere is uplink.Owner.Attach of a shard that this node owns.
func (u *ingest) attachHere(ctx context.Context, id uint32, gateway string, n uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	o, err := u.owner(id)
	if err != nil {
		return nil, uplink.Offered{}, err
	}
	return o.Attach(ctx, gateway, n, buffers, end)
}

// place is a partition of a topic.
type place struct {
	topic     weir.TopicID
	partition int32
}

// maxUnheard bounds unheard. Beyond it the node begins anew, so batches wait longer.
const maxUnheard = 10_000

// unknown returns an error if a batch must wait because this node may not have heard of its
// partition yet. err is that of broker.TopicByID. In a cluster of several shards a gateway
// may know a partition before the owner of its shard does. That it does not exist is
// certain only when what this node knows of the catalogue is younger than the batch.
func (u *ingest) unknown(t broker.Topic, a uplink.Append, err error) error {
	switch {
	case !u.several(), err == nil && a.Partition < t.Partitions:
		return nil
	case errors.Is(err, broker.ErrNotOwner):
		return fmt.Errorf("%w: this node does not know the topics of the cluster yet", uplink.ErrBusy)
	case err != nil && !errors.Is(err, broker.ErrUnknownTopic), u.broker.IsController():
		return nil
	}
	at := place{a.Topic, a.Partition}
	now := time.Now()
	u.owning.Lock()
	since, waits := u.unheard[at]
	if !waits {
		if len(u.unheard) >= maxUnheard {
			clear(u.unheard)
		}
		u.unheard[at] = now
	}
	u.owning.Unlock()
	if c := u.broker.Copy(); waits && c != nil && c.Asked.After(since) {
		return nil // it is gone, as the log will say
	}
	return fmt.Errorf("%w: this node has not heard of partition %d of topic %v yet", uplink.ErrBusy, a.Partition, a.Topic)
}
