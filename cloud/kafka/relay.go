package kafka

import (
	"context"
	"fmt"
	"io"
	"net"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/weirmq/weir/cloud/broker"
	"github.com/weirmq/weir/cloud/budget"
	"github.com/weirmq/weir/cloud/cluster"
	"github.com/weirmq/weir/cloud/stopwatch"
	"github.com/weirmq/weir/storage/weir"
)

// Relay opens a tunnel to a node: see Server.ServeTunnel.
type Relay func(ctx context.Context, to broker.Node, t Tunnel) (io.ReadWriteCloser, error)

// relay passes requests of one client on to the owners: one tunnel for each node, so that
// each owner gets them in the client's order. Only perform opens tunnels.
type relay struct {
	c       *conn
	tunnels map[string]*tunnel    // by the name of the node
	shares  map[[2]string]*spread // by group and member
	memory  *budget.Peer          // of answers of owners
}

// lead makes this node the only one that the client knows.
func (c *conn) lead() {
	host, port, ok := splitAddress(c.s.broker.Self().ListenerAddress(cluster.Kafka, c.listener.Name))
	if ok {
		c.here = &node{id: hereID, host: host, port: port}
	}
	c.relay = &relay{c: c, tunnels: make(map[string]*tunnel), shares: make(map[[2]string]*spread), memory: c.s.owners.Peer("")}
}

// end ends all tunnels. It returns when none of their goroutines runs.
func (x *relay) end() {
	if x == nil {
		return
	}
	for _, t := range x.tunnels {
		t.fail(errGone)
	}
	for _, sp := range x.shares {
		sp.whole.Close()
	}
	for _, t := range x.tunnels {
		t.wg.Wait()
	}
}

// close returns the connection's account.
func (x *relay) close() {
	if x != nil {
		x.memory.Close()
	}
}

// ownerOf returns the node that a request for a partition or a coordinator is for. The
// zero value is this node, which also answers what nobody is known to serve.
func (x *relay) ownerOf(l broker.Leader, known bool) broker.Node {
	b := x.c.s.broker
	if !known || l.Name == b.Self().Name || l.Address(cluster.Peer) == "" || x.c.s.o.Relay == nil {
		return broker.Node{}
	}
	return l.Node
}

// leader returns the node that leads a partition, likewise.
func (x *relay) leader(topic weir.TopicID, partition int32) broker.Node {
	if x == nil {
		return broker.Node{}
	}
	return x.ownerOf(x.c.s.broker.Leader(topic, partition))
}

// to returns the tunnel to a node; the zero value is this one. A tunnel that has ended is
// replaced.
func (x *relay) to(n broker.Node) *tunnel {
	t := x.tunnels[n.Name]
	if t != nil && !t.over() {
		return t
	}
	if t != nil {
		t.wg.Wait()
	}
	c := x.c
	t = &tunnel{wake: make(chan struct{}, 1)}
	t.ctx, t.cancel = context.WithCancel(c.ctx)
	hello := Tunnel{Principal: c.session.Principal(), From: c.peer, Listener: c.listener.Name}
	if c.here != nil {
		hello.Host, hello.Port = c.here.host, c.here.port
	}
	open := c.s.loopback
	if n.Name != "" {
		open = func(ctx context.Context, hello Tunnel) (io.ReadWriteCloser, error) { return c.s.o.Relay(ctx, n, hello) }
	}
	t.wg.Go(func() { t.fail(t.run(open, hello)) })
	x.tunnels[n.Name] = t
	return t
}

// exchangeOf makes an exchange for a request of the client.
func (r *request) exchangeOf(body net.Buffers) *exchange {
	return &exchange{key: r.api.key.Int16(), version: r.version, clientID: r.clientID, tagged: r.version >= r.api.flexible, body: body}
}

// portion is what one node performs of a request.
type portion struct {
	to broker.Node // zero: this node
	q  kmsg.Request
}

// relay passes a request on if another node has to perform it, or a part of it. It reports
// whether there is an answer; if not, this node performs the request. An error closes the
// connection.
func (r *request) relay(ctx context.Context, q kmsg.Request) (resp kmsg.Response, ok bool, err error) {
	x := r.conn.relay
	if x == nil {
		return nil, false, nil
	}
	switch q := q.(type) {
	case *kmsg.ShareFetchRequest:
		resp, err = r.spreadFetch(ctx, q)
		return resp, err == nil, err
	case *kmsg.ShareAcknowledgeRequest:
		resp, err = r.spreadAcknowledge(ctx, q)
		return resp, err == nil, err
	}
	how, known := r.conn.s.relays[r.api.key]
	if !known {
		return nil, false, nil
	}
	parts, whole := how.split(ctx, r, q)
	if !slices.ContainsFunc(parts, func(p portion) bool { return p.to.Name != "" }) && whole {
		return nil, false, nil
	}
	r.relayed = true
	r.rights.Settle()
	defer stopwatch.Waiting(ctx)()
	if q, is := q.(*kmsg.FetchRequest); is {
		resp, err = r.relayFetch(ctx, q, parts)
		return resp, err == nil, err
	}
	answers := r.askAll(parts)
	late := time.NewTimer(patience(q) + r.conn.s.o.AnswerTime)
	defer late.Stop()
	for i, p := range parts {
		one, failed := answers.wait(ctx, i, late.C)
		if failed != nil && how.failed == nil && ctx.Err() == nil { // this node says that it is not the owner
			one, failed = r.askHere(ctx, p.q)
		}
		switch {
		case ctx.Err() != nil:
			return nil, false, ctx.Err()
		case failed != nil && how.failed != nil:
			whole = false
		case failed != nil:
			return nil, false, failed
		case resp == nil:
			resp = one
		default:
			how.merge(resp, one)
		}
		r.throttledBy(one)
	}
	if !whole {
		resp = how.failed(r, q)
	}
	return resp, true, nil
}

// throttledBy makes the client wait as an owner has said. If several have, the longest wait
// counts.
func (r *request) throttledBy(resp kmsg.Response) {
	if t, is := resp.(kmsg.ThrottleResponse); is {
		ms, _ := t.Throttle()
		r.throttle(milliseconds(ms))
	}
}

// patience returns how long a request may wait for what it asks for, as it says itself.
func patience(q kmsg.Request) time.Duration {
	switch q := q.(type) {
	case *kmsg.JoinGroupRequest:
		return min(milliseconds(max(q.RebalanceTimeoutMillis, q.SessionTimeoutMillis)), maxPoll)
	case *kmsg.SyncGroupRequest:
		return maxPoll // for the leader of the group, whose time it does not say
	case kmsg.TimeoutRequest:
		return min(milliseconds(q.Timeout()), maxPoll)
	}
	return 0
}

// answers are those of the owners that perform the parts of a request.
type answers []askedPart

// askedPart is a part of a request that was sent to its owner.
type askedPart struct {
	tunnel   *tunnel
	exchange *exchange
	answer   chan answer
}

type answer struct {
	resp kmsg.Response
	err  error
}

// wait returns the answer for a part. When late fires, it leaves all that have not come.
func (a answers) wait(ctx context.Context, i int, late <-chan time.Time) (kmsg.Response, error) {
	for {
		select {
		case got := <-a[i].answer:
			return got.resp, got.err
		case <-late:
			for _, one := range a {
				one.tunnel.leave(one.exchange)
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// askAll sends all parts of a request.
func (r *request) askAll(parts []portion) answers {
	all := make(answers, len(parts))
	for i, p := range parts {
		got := make(chan answer, 1)
		all[i].answer = got
		all[i].tunnel, all[i].exchange = r.ask(p, func(resp kmsg.Response, err error) { got <- answer{resp, err} })
	}
	return all
}

// ask sends a part of a request. done is called once, and must not block.
func (r *request) ask(p portion, done func(kmsg.Response, error)) (*tunnel, *exchange) {
	x := r.exchangeOf(net.Buffers{p.q.AppendTo(nil)})
	x.done = func(body []byte, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		resp := p.q.ResponseKind()
		resp.SetVersion(r.version)
		if err := guarded(resp.ReadFrom, body); err != nil {
			done(nil, fmt.Errorf("decode an answer to %s: %w", r.api.key.Name(), err))
			return
		}
		done(resp, nil)
	}
	t := r.conn.relay.to(p.to)
	t.send(x)
	return t, x
}

// askHere makes this node answer a part that its owner has not. Unless it owns that by now,
// it says that it does not, as the owner would that has lost it.
func (r *request) askHere(ctx context.Context, q kmsg.Request) (kmsg.Response, error) {
	return r.askAll([]portion{{q: q}}).wait(ctx, 0, nil)
}
