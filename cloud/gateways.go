package cloud

import (
	"context"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/fleet"
	"github.com/weirmq/weir/cloud/measure"
	"github.com/weirmq/weir/cloud/peer"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/join"
	"github.com/weirmq/weir/sync/receiver"
	"github.com/weirmq/weir/sync/uplink"
	"github.com/weirmq/weir/sync/wire"
)

// contactPeriod is how often the owner checks what is new about the gateways: the log
// gets at most one entry each time.
const contactPeriod = time.Minute

// firstContacts is when it does so for the first time: most gateways have reconnected
// by then.
const firstContacts = 10 * time.Second

// watchGateways writes the last contact of each gateway to the log, until ctx ends.
func (n *Node) watchGateways(ctx context.Context, members *fleet.Fleet) {
	if n.receiver == nil {
		return
	}
	timer := time.NewTimer(firstContacts)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			timer.Reset(contactPeriod)
		}
		for _, g := range n.receiver.Gateways() {
			members.Heard(g.ID, contactOf(g))
		}
		for _, s := range n.sessionsElsewhere(ctx) {
			members.Heard(s.Gateway, s.Contact)
		}
		if err := members.SaveContacts(ctx); err != nil && ctx.Err() == nil {
			n.o.Log.Warn("last contacts of gateways not written: another owner will not know them", "err", err)
		}
	}
}

// contactOf returns what the log stores of a session.
func contactOf(g receiver.Gateway) fleet.Contact {
	c := fleet.Contact{At: g.Heard.UnixMilli(), Address: g.Addr, Software: g.Software}
	if g.Depth != nil {
		c.Records, c.Bytes = g.Depth.Records, g.Depth.Bytes
		if g.Depth.Age > 0 {
			c.Oldest = g.Heard.Add(-milliseconds(g.Depth.Age)).Truncate(time.Second).UnixMilli()
		}
	}
	return c
}

// milliseconds converts a time that a gateway reports, which may be any number.
func milliseconds(n uint64) time.Duration {
	const most = 100 * 365 * 24 * time.Hour
	return time.Duration(min(n, uint64(most/time.Millisecond))) * time.Millisecond
}

// left records the state of a gateway when its session ended.
func (n *Node) left(g receiver.Gateway) {
	c := contactOf(g)
	n.noticed(g.ID, func(members *fleet.Fleet) { members.Heard(g.ID, c) }, func(o *notice) { o.Contact = &c })
}

// lostRecords records what a gateway has reported in weir.gaps.
func (n *Node) lostRecords(gateway string, records uint64) {
	n.noticed(gateway, func(members *fleet.Fleet) { members.Lost(gateway, records) }, func(o *notice) { o.Lost += records })
}

// refused stores what was refused to a gateway for good.
func (n *Node) refused(gateway string, r receiver.Refusal) {
	topic := r.Name
	if topic == "" {
		if topic = r.Topic.String(); n.broker != nil {
			if t, err := n.broker.TopicByID(r.Topic); err == nil {
				topic = t.Name
			}
		}
	}
	n.refusedTo(gateway, fleet.Refusal{Topic: topic, Reason: r.Reason.String(), Text: r.Text, Records: r.Records})
}

func (n *Node) refusedTo(gateway string, r fleet.Refusal) {
	n.noticed(gateway, func(members *fleet.Fleet) { members.Refused(gateway, r) }, func(o *notice) { o.refuse(r) })
}

// gateways returns the gateways of the cluster. Errors: ErrNotOwner.
func (n *Node) gateways() ([]measure.Gateway, error) {
	members := n.fleet()
	if members == nil || !n.broker.IsController() {
		return nil, broker.ErrNotOwner
	}
	ctx, cancel := context.WithTimeout(context.Background(), sessionsTime)
	defer cancel()
	return measure.Gateways(members, append(n.sessionsElsewhere(ctx), n.sessions()...)), nil
}

// sessionsTime is how long other nodes may take to list their gateways. Those of a node
// that takes longer count as away.
const sessionsTime = time.Second

// sessionsElsewhere are the gateways that are connected to other nodes, in a cluster of
// several shards.
func (n *Node) sessionsElsewhere(ctx context.Context) []measure.Session {
	if !n.several() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, sessionsTime)
	defer cancel()
	nodes := n.manager.Members()
	found := make([][]measure.Session, len(nodes))
	var wg sync.WaitGroup
	for i, node := range nodes {
		wg.Go(func() {
			body, err := n.peers.client.Sessions(ctx, node.Name, node.Address(cluster.Peer))
			if err == nil {
				err = json.Unmarshal(body, &found[i])
			}
			if err != nil {
				n.o.Log.Debug("gateways of another node not listed", "node", node.Name, "err", err)
				found[i] = nil
			}
		})
	}
	wg.Wait()
	return slices.Concat(found...)
}

// sessions are the gateways that are connected to this node.
func (n *Node) sessions() []measure.Session {
	if n.receiver == nil {
		return nil
	}
	var all []measure.Session
	for _, g := range n.receiver.Gateways() {
		s := measure.Session{Gateway: g.ID, Since: g.Since, Contact: contactOf(g)}
		for key, to := range map[wire.FigureKey]**uint64{wire.FigureDead: &s.DeadLetters, wire.FigureRefused: &s.RefusedMessages,
			wire.FigureQuota: &s.QuotaBytes, wire.FigureFree: &s.FreeBytes, wire.FigureBuffers: &s.Buffers} {
			if v, told := g.Status.Figure(key); told {
				*to = &v
			}
		}
		if v, told := g.Status.Figure(wire.FigureStarted); told {
			s.Started = time.UnixMilli(int64(min(v, 1<<53))).UTC()
		}
		for lane := range weir.Lane(weir.Lanes) {
			records, told := g.Status.Figure(wire.FigureRecords(lane))
			if !told {
				continue
			}
			l := measure.LaneStatus{Lane: lane.String(), Buffered: records}
			if at, is := g.Status.Figure(wire.FigureOldest(lane)); is {
				l.Oldest = time.UnixMilli(int64(min(at, 1<<53))).UTC()
			}
			s.Lanes = append(s.Lanes, l)
		}
		all = append(all, s)
	}
	return all
}

// several reports whether the cluster has several shards.
func (n *Node) several() bool { return n.shards.number() > 1 }

// Several reports whether the cluster has several shards, as far as this node knows.
func (n *Node) Several() bool { return n.several() }

// members returns the gateways of the cluster as this node knows them, nil if it does not.
func (n *Node) members() *fleet.Fleet {
	if members := n.fleet(); members != nil {
		return members
	}
	if c := n.broker.Copy(); c != nil {
		return c.Fleet
	}
	return nil
}

// admitCopied is admit by members of the copy of the catalogue. A gateway may have joined a moment
// ago, so it is not refused by a copy that is older than its question.
func (n *Node) admitCopied(members *fleet.Fleet, gateway string, certificate *x509.Certificate) error {
	if err := members.Admit(gateway, certificate); err == nil {
		return nil
	}
	asked := time.Now()
	n.copies.Refresh(context.Background()) // it waits for a second at most
	c := n.broker.Copy()
	if c == nil || c.Fleet == nil || c.Asked.Before(asked) {
		return fmt.Errorf("%w: this node does not know it yet", join.ErrUnavailable)
	}
	return c.Fleet.Admit(gateway, certificate)
}

// dropBarred ends the sessions of gateways that members, which this node has just got,
// does not admit. A gateway may have been revoked when this node could not hear of it.
func (n *Node) dropBarred(members *fleet.Fleet) {
	if n.receiver == nil {
		return
	}
	for _, g := range n.receiver.Gateways() {
		if members.Admit(g.ID, g.Certificate) != nil {
			n.drop(g.ID) // it says Hello again, and is told why
		}
	}
}

// join admits a gateway; the receiver logs the result. Only the owner of the catalogue can
// do that. In a cluster of several shards the others ask it.
func (n *Node) join(ctx context.Context, r receiver.JoinRequest) (receiver.JoinResult, error) {
	q := peer.JoinQuestion{Secret: r.Secret, Gateway: r.Gateway, CSR: r.CSR}
	der, err := n.joinHere(ctx, q)
	if errors.Is(err, errStandby) && n.several() {
		if owner, ok := n.ingest.elsewhere(catalogueShard); ok {
			der, err = n.peers.client.Join(ctx, owner.Name, owner.Address(cluster.Peer), q)
		}
	}
	if err != nil {
		return receiver.JoinResult{}, err
	}
	return receiver.JoinResult{Certificate: der, CA: n.root().Raw}, nil
}

// errStandby: this node does not own the catalogue.
var errStandby = fmt.Errorf("%w: this node is a standby", join.ErrUnavailable)

// joinHere is join for the owner of the catalogue. Errors: errStandby.
func (n *Node) joinHere(ctx context.Context, q peer.JoinQuestion) ([]byte, error) {
	members := n.fleet()
	if members == nil {
		return nil, errStandby
	}
	return members.Join(ctx, q.Secret, q.Gateway, q.CSR)
}

// renew gives a gateway a new certificate, like join.
func (n *Node) renew(ctx context.Context, gateway string, csr []byte) ([]byte, error) {
	der, err := n.renewHere(ctx, gateway, csr)
	if !errors.Is(err, errStandby) {
		return der, err
	}
	if n.several() {
		owner, ok := n.ingest.elsewhere(catalogueShard)
		if !ok {
			return nil, join.ErrUnavailable
		}
		return n.peers.client.Renew(ctx, owner.Name, owner.Address(cluster.Peer), gateway, csr)
	}
	if owner, known := n.broker.Controller(); known && owner.Name != n.o.Node {
		return nil, &uplink.NotOwnerError{Addr: owner.Address(cluster.Sync)}
	}
	return nil, join.ErrUnavailable
}

// renewHere is renew for the owner of the catalogue. Errors: errStandby.
func (n *Node) renewHere(ctx context.Context, gateway string, csr []byte) ([]byte, error) {
	members := n.fleet()
	if members == nil {
		return nil, errStandby
	}
	return members.Renew(ctx, gateway, csr)
}

// admit: in a cluster of one shard a standby admits every gateway with a certificate, to
// redirect it to the owner. Otherwise a node admits no gateway that it cannot check.
func (n *Node) admit(gateway string, certificate *x509.Certificate) error {
	members := n.members()
	if members == nil {
		if n.several() {
			return fmt.Errorf("%w: this node does not know the gateways of the cluster yet", join.ErrUnavailable)
		}
		if _, known := n.broker.Controller(); !known {
			return fmt.Errorf("%w: no owner is known yet", join.ErrUnavailable)
		}
		return nil
	}
	var err error
	if n.fleet() == nil {
		err = n.admitCopied(members, gateway, certificate)
	} else {
		err = members.Admit(gateway, certificate)
	}
	if errors.Is(err, fleet.ErrUnknownGateway) {
		return fmt.Errorf("%w: %w", join.ErrRevoked, err) // its membership is gone: it must join again
	}
	if err != nil {
		n.refusedTo(gateway, fleet.Refusal{Reason: "not-admitted", Text: err.Error()})
	}
	return err
}

// mayWrite returns nil if a gateway may write to a topic. In a cluster of one shard a
// standby does not judge: the broker refuses the write, but not for good. Errors:
// uplink.ErrNotAllowed; uplink.ErrBusy if this node cannot tell.
func (n *Node) mayWrite(gateway, topic string) error {
	members := n.members()
	if members == nil && !n.several() {
		return nil
	}
	if members == nil {
		return fmt.Errorf("%w: this node does not know the gateways of the cluster yet", uplink.ErrBusy)
	}
	if n.several() {
		g, err := members.Gateway(gateway)
		if err != nil {
			return fmt.Errorf("%w: this node has not heard of it yet: %w", uplink.ErrBusy, err)
		}
		if g.Revoked { // its session is about to end
			return fmt.Errorf("%w: gateway %s: %w", uplink.ErrBusy, gateway, join.ErrRevoked)
		}
	}
	if !members.MayWrite(gateway, topic) {
		return uplink.ErrNotAllowed
	}
	return nil
}

// numberFor, attachFor and resolveFor answer doors at other nodes.
func (n *Node) numberFor(shard uint32, gateway string) (uplink.Number, error) {
	return n.ingest.numberHere(shard, gateway)
}

func (n *Node) attachFor(ctx context.Context, shard uint32, gateway string, no uplink.Number, buffers []weir.Buffer, end func(error)) (uplink.Attachment, uplink.Offered, error) {
	return n.ingest.attachHere(ctx, shard, gateway, no, buffers, end)
}

func (n *Node) resolveFor(ctx context.Context, gateway, topic string) (weir.TopicID, int32, error) {
	return n.ingest.resolveHere(ctx, gateway, topic)
}
