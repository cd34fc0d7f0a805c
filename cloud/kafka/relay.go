package kafka

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"

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

const (
	// relayBuffer is how much is gathered before it is sent to an owner, in bytes.
	relayBuffer = 16 << 10
	// maxRelayed bounds one answer of an owner, in bytes.
	maxRelayed = 256 << 20
)

var errRelay = errors.New("malformed answer")

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

// tunnel is a tunnel at the client's node.
type tunnel struct {
	ctx    context.Context // ends with the tunnel
	cancel context.CancelFunc
	wake   chan struct{} // a token: there is something to send
	wg     sync.WaitGroup

	mu      sync.Mutex
	last    int32       // correlation id; guarded by mu
	unsent  []*exchange // guarded by mu; an exchange that is hastened is there again
	waiting []*exchange // for an answer, in order; guarded by mu
	sending *exchange   // its bytes are in use; guarded by mu
	err     error       // why the tunnel has ended; guarded by mu
}

// exchange is a request to an owner, and its answer.
type exchange struct {
	key, version int16
	clientID     string
	tagged       bool        // both headers have tagged fields
	body         net.Buffers // of the request

	// done is called once, with the body of the answer, or an error: then it is not known
	// whether the owner has performed the request. The bytes of the request are no longer
	// in use. It must not block.
	done func(answer []byte, err error)

	correlation int32
	answer      []byte
	hastened    bool // it was sent, and is in unsent to be hastened; guarded by tunnel.mu
	over        bool // done was called, or is about to be; guarded by tunnel.mu
}

// send sends a request. Requests are performed in the order of the calls.
func (t *tunnel) send(x *exchange) {
	t.mu.Lock()
	err := t.err
	if err == nil {
		t.last++
		x.correlation = t.last
		t.unsent, t.waiting = append(t.unsent, x), append(t.waiting, x)
	}
	t.mu.Unlock()
	if err != nil {
		x.done(nil, err)
		return
	}
	t.signal()
}

// hasten makes the owner answer a request that waits for records.
func (t *tunnel) hasten(x *exchange) {
	t.mu.Lock()
	if t.err == nil && !x.over && !slices.Contains(t.unsent, x) {
		x.hastened = true
		t.unsent = append(t.unsent, x)
	}
	t.mu.Unlock()
	t.signal()
}

func (t *tunnel) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

func (t *tunnel) over() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.err != nil
}

// fail ends the tunnel, and all exchanges without an answer. Only the first call counts.
func (t *tunnel) fail(err error) {
	t.mu.Lock()
	if t.err != nil {
		t.mu.Unlock()
		return
	}
	t.err = err
	lost := t.waiting
	t.waiting, t.unsent = nil, nil
	lost = slices.DeleteFunc(lost, func(x *exchange) bool { return x == t.sending }) // its sender ends it
	for _, x := range lost {
		x.over = true
	}
	t.mu.Unlock()
	t.cancel()
	for _, x := range lost {
		x.done(nil, err)
	}
}

// run opens the tunnel, and sends and receives until it ends. It returns why.
func (t *tunnel) run(open func(context.Context, Tunnel) (io.ReadWriteCloser, error), hello Tunnel) error {
	stream, err := open(t.ctx, hello)
	if err != nil {
		return err
	}
	closed := context.AfterFunc(t.ctx, func() { _ = stream.Close() })
	defer func() {
		if closed() {
			_ = stream.Close()
		}
	}()
	t.wg.Go(func() { t.fail(t.receive(bufio.NewReaderSize(stream, relayBuffer))) })
	w := bufio.NewWriterSize(stream, relayBuffer)
	for {
		x, hasten := t.next()
		switch {
		case x == nil:
			if err := w.Flush(); err != nil {
				return err
			}
			select {
			case <-t.wake:
			case <-t.ctx.Done():
				return t.ctx.Err()
			}
		case hasten:
			_, err = w.Write(binary.BigEndian.AppendUint32([]byte{0xff, 0xff, 0xff, 0xff}, uint32(x.correlation)))
		default:
			err = x.write(w)
			t.sent(x)
		}
		if err != nil {
			return err
		}
	}
}

// next returns what is to be sent next, nil if there is nothing.
func (t *tunnel) next() (x *exchange, hasten bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.unsent) == 0 {
		return nil, false
	}
	x = t.unsent[0]
	t.unsent = t.unsent[1:]
	if x.hastened {
		return x, true
	}
	t.sending = x
	return x, false
}

// sent says that the bytes of a request are no longer in use.
func (t *tunnel) sent(x *exchange) {
	t.mu.Lock()
	t.sending = nil
	err := t.err
	lost, answered := err != nil && !x.over, x.over
	x.over = x.over || lost
	t.mu.Unlock()
	switch {
	case lost:
		x.done(nil, err)
	case answered:
		x.answered()
	}
}

// write writes the request.
func (x *exchange) write(w *bufio.Writer) error {
	size := requestHeader + 2 + len(x.clientID)
	if x.tagged {
		size++
	}
	for _, b := range x.body {
		size += len(b)
	}
	p := binary.BigEndian.AppendUint32(nil, uint32(size))
	p = binary.BigEndian.AppendUint16(p, uint16(x.key))
	p = binary.BigEndian.AppendUint16(p, uint16(x.version))
	p = binary.BigEndian.AppendUint32(p, uint32(x.correlation))
	p = binary.BigEndian.AppendUint16(p, uint16(len(x.clientID)))
	p = append(p, x.clientID...)
	if x.tagged {
		p = append(p, 0)
	}
	_, err := w.Write(p)
	for _, b := range x.body {
		if err == nil {
			_, err = w.Write(b)
		}
	}
	return err
}

// receive passes answers on until the tunnel ends. It returns why.
func (t *tunnel) receive(r io.Reader) error {
	for {
		var head [8]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return err
		}
		size := int64(binary.BigEndian.Uint32(head[:]))
		if size < 4 || size > maxRelayed {
			return fmt.Errorf("%w: of %d bytes", errRelay, size)
		}
		body := make([]byte, size-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return err
		}
		t.mu.Lock()
		if len(t.waiting) == 0 || t.waiting[0].correlation != int32(binary.BigEndian.Uint32(head[4:])) {
			t.mu.Unlock()
			return fmt.Errorf("%w: nobody waits for it", errRelay)
		}
		x := t.waiting[0]
		t.waiting, x.answer, x.over = t.waiting[1:], body, true
		early := x == t.sending // it has arrived whole, but its last write has not returned
		t.mu.Unlock()
		if !early {
			x.answered()
		}
	}
}

// answered passes the answer on.
func (x *exchange) answered() {
	body := x.answer
	if x.tagged && (len(body) == 0 || body[0] != 0) {
		x.done(nil, fmt.Errorf("%w: its header has tagged fields", errRelay))
		return
	}
	if x.tagged {
		body = body[1:]
	}
	x.done(body, nil)
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
	for i, p := range parts {
		one, failed := answers.wait(ctx, i)
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

// answers are those of the owners that perform the parts of a request.
type answers []chan answer

type answer struct {
	resp kmsg.Response
	err  error
}

// wait returns the answer for a part.
func (a answers) wait(ctx context.Context, i int) (kmsg.Response, error) {
	select {
	case got := <-a[i]:
		return got.resp, got.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// askAll sends all parts of a request.
func (r *request) askAll(parts []portion) answers {
	all := make(answers, len(parts))
	for i, p := range parts {
		all[i] = make(chan answer, 1)
		r.ask(p, func(resp kmsg.Response, err error) { all[i] <- answer{resp, err} })
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
	return r.askAll([]portion{{q: q}}).wait(ctx, 0)
}
