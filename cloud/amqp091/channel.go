package amqp091

import (
	"context"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

// channel is a channel of a connection. What is not guarded by conn.mu is owned by read.
type channel struct {
	c  *conn
	id uint16
	in wire.Assembler

	arriving   int             // bytes of a body that has not arrived whole
	properties wire.Properties // of the publish at hand
	lastQueue  string          // that was declared; "": none
	prefetch   int             // of the next consumers; 0: no limit
	window     *queue.Window   // of all consumers that acknowledge
	limited    bool            // the client has limited it
	tx         *transaction    // nil: the channel is not transactional
	closed     bool            // by the door: only the client's answer counts

	confirms   *confirms            // guarded by conn.mu; nil: publishes are not confirmed
	confirming bool                 // guarded by conn.mu: it is in conn.confirming
	consumers  map[string]*consumer // guarded by conn.mu, by tag
	unsettled  leases               // guarded by conn.mu
	tag        uint64               // guarded by conn.mu: of the last delivery
	reply      *replyConsumer       // guarded by conn.mu; nil: none
	failed     *wire.Error          // guarded by conn.mu: an outcome has closed the channel
	over       bool                 // guarded by conn.mu: nothing is delivered any more
}

// openChannel performs a frame of a channel that is not open: it must be channel.open.
func (c *conn) openChannel(f wire.Frame) error {
	in := wire.Assembler{From: wire.Client | wire.Server}
	if _, err := in.Add(f); err != nil {
		return err
	}
	if in.Method().ID() == wire.IDChannelCloseOk {
		return nil // both have closed at once
	}
	if _, ok := in.Method().(*wire.ChannelOpen); !ok {
		return &wire.Error{Code: wire.ChannelError, Text: "expected 'channel.open'", Method: in.Method().ID()}
	}
	if len(c.channels) >= c.maxOpen {
		return &wire.Error{Code: wire.NotAllowed, Text: fmt.Sprintf("number of channels opened (%d) has reached the negotiated channel_max (%d)", len(c.channels), c.maxOpen), Method: wire.IDChannelOpen}
	}
	c.setChannel(f.Channel, &channel{c: c, id: f.Channel, consumers: make(map[string]*consumer), window: queue.NewWindow(maxUnsettled),
		in: wire.Assembler{From: wire.Client, MaxBody: uint64(c.s.o.MaxBody)}})
	return c.send(f.Channel, &wire.ChannelOpenOk{})
}

// maxUnsettled is how many messages a channel can have without settling them.
const maxUnsettled = 100_000

// frame performs a frame of the channel. A mistake that closes only the channel is
// answered here.
func (ch *channel) frame(f wire.Frame) error {
	if failure := ch.failure(); failure != nil && !ch.closed {
		ch.release(ch.c.ctx)
		ch.closed = true
	}
	if ch.closed {
		return ch.farewell(f)
	}
	complete, err := ch.in.Add(f)
	if err == nil {
		err = ch.account(f, complete)
	}
	if err == nil && complete {
		id := ch.in.Method().ID()
		err = ch.perform()
		if e, ok := errors.AsType[*wire.Error](err); ok && e.Method == 0 {
			e.Method = id
		}
	}
	e, ok := errors.AsType[*wire.Error](err)
	if !ok {
		return err
	}
	if e = ch.c.confirmed(e); e.Code.Hard() {
		return e
	}
	return ch.close(e)
}

// account counts the bytes of a body that arrives in several frames.
func (ch *channel) account(f wire.Frame, complete bool) error {
	c := ch.c
	if complete {
		c.partial -= ch.arriving
		ch.arriving = 0
		if c.arriving != nil {
			if c.arriving.Shrink(int64(c.partial)); c.partial == 0 {
				c.arriving.Release()
				c.arriving = nil
			}
		}
		return nil
	}
	if f.Type != wire.FrameBody {
		return nil
	}
	most := arrivingBytes(c.s.o.MaxBody)
	if c.partial+len(f.Payload) > most {
		return &wire.Error{Code: wire.ResourceError, Text: fmt.Sprintf("bodies that have not arrived whole are larger than %d", most)}
	}
	if c.arriving == nil {
		c.arriving = c.memory.Claim(int64(most))
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.s.o.WriteTime)
	defer cancel()
	if err := c.arriving.Grow(ctx, int64(len(f.Payload))); err != nil {
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		return &wire.Error{Code: wire.ResourceError, Text: "no memory for the body of a message"}
	}
	c.partial += len(f.Payload)
	ch.arriving += len(f.Payload)
	return nil
}

// failure returns why an outcome has closed the channel, nil if none has.
func (ch *channel) failure() *wire.Error {
	ch.c.mu.Lock()
	defer ch.c.mu.Unlock()
	return ch.failed
}

// close closes the channel because of a mistake.
func (ch *channel) close(e *wire.Error) error {
	c := ch.c
	c.flush()
	if err := c.await(func() bool { return c.ordered == 0 }); err != nil {
		return err
	}
	ch.release(c.ctx)
	ch.closed = true
	c.mu.Lock()
	defer c.mu.Unlock()
	defer c.signal()
	if ch.failed != nil {
		return nil // and was told why
	}
	ch.failed = e
	ch.emitConfirms()
	c.s.count.errors.Inc()
	c.listener.Traffic.Errors.Add(1)
	_, m := e.Close(ch.id)
	return c.out.Method(ch.id, m)
}

// farewell waits for the answer to channel.close.
func (ch *channel) farewell(f wire.Frame) error {
	if f.Type != wire.FrameMethod {
		return nil
	}
	switch id, _ := wire.SplitMethod(f.Payload); id {
	case wire.IDChannelCloseOk:
		ch.c.setChannel(ch.id, nil)
	case wire.IDChannelClose: // both have closed at once
		return ch.c.send(ch.id, &wire.ChannelCloseOk{})
	}
	return nil
}

// release ends what the channel does: its consumers end, what it has not settled goes
// back, its transaction is dropped, and bodies that were arriving.
func (ch *channel) release(ctx context.Context) {
	c := ch.c
	ch.dropTransaction()
	c.partial -= ch.arriving
	ch.arriving = 0
	if c.arriving != nil {
		c.arriving.Shrink(int64(c.partial))
	}
	ch.in = wire.Assembler{From: wire.Client, MaxBody: ch.in.MaxBody}
	c.mu.Lock()
	ch.over = true
	all := ch.consumers
	ch.consumers = make(map[string]*consumer)
	ch.endReply()
	c.mu.Unlock()
	for _, k := range all {
		c.end(ctx, k)
	}
	c.mu.Lock()
	left := ch.unsettled.takeAll()
	c.mu.Unlock()
	c.settle(queue.Release, left)
	c.flush()
}

// perform performs a method that has arrived with all of its content. Methods that read
// what others have changed wait until that is durable.
func (ch *channel) perform() error {
	ch.c.listener.Traffic.Requests.Add(1)
	ch.c.s.count.methods.Inc()
	switch m := ch.in.Method().(type) {
	case *wire.BasicPublish:
		return ch.publish(m)
	case *wire.BasicAck:
		return ch.settle(m.DeliveryTag, m.Multiple, queue.Accept)
	case *wire.BasicNack:
		return ch.settle(m.DeliveryTag, m.Multiple, refusal(m.Requeue))
	case *wire.BasicReject:
		return ch.settle(m.DeliveryTag, false, refusal(m.Requeue))
	case *wire.BasicRecover:
		return ch.recover(m.Requeue, &wire.BasicRecoverOk{})
	case *wire.BasicRecoverAsync:
		return ch.recover(m.Requeue, nil)
	case *wire.BasicQos:
		return ch.qos(m)
	case *wire.ConfirmSelect:
		return ch.confirmSelect(m)
	case *wire.TxSelect:
		return ch.txSelect()
	case *wire.ChannelFlow:
		return ch.flow(m)
	case *wire.AccessRequest:
		return ch.c.send(ch.id, &wire.AccessRequestOk{Ticket: 1})
	case *wire.ChannelOpen:
		return &wire.Error{Code: wire.ChannelError, Text: "second 'channel.open' seen"}
	case *wire.ChannelFlowOk, *wire.ChannelCloseOk, *wire.BasicCancelOk:
		return nil
	}
	c := ch.c
	c.flush()
	if err := c.await(func() bool { return c.ordered == 0 }); err != nil {
		return err
	}
	if ch.failure() != nil {
		return nil // the next frame does the rest
	}
	return ch.performOrdered()
}

func (ch *channel) performOrdered() error {
	ch.c.s.o.Sure(ch.c.ctx) // a process that was stopped for a while may have lost the vhost
	switch m := ch.in.Method().(type) {
	case *wire.ChannelClose:
		return ch.closeByClient()
	case *wire.ExchangeDeclare:
		return ch.exchangeDeclare(m)
	case *wire.ExchangeDelete:
		return ch.exchangeDelete(m)
	case *wire.ExchangeBind:
		return ch.exchangeBind(m)
	case *wire.ExchangeUnbind:
		return ch.exchangeUnbind(m)
	case *wire.QueueDeclare:
		return ch.queueDeclare(m)
	case *wire.QueueBind:
		return ch.queueBind(m)
	case *wire.QueueUnbind:
		return ch.queueUnbind(m)
	case *wire.QueuePurge:
		return ch.queuePurge(m)
	case *wire.QueueDelete:
		return ch.queueDelete(m)
	case *wire.BasicConsume:
		return ch.consume(m)
	case *wire.BasicCancel:
		return ch.cancel(m)
	case *wire.BasicGet:
		return ch.get(m)
	case *wire.TxCommit:
		return ch.txCommit()
	case *wire.TxRollback:
		return ch.txRollback()
	}
	return &wire.Error{Code: wire.CommandInvalid, Text: "unimplemented method"}
}

// closeByClient performs channel.close.
func (ch *channel) closeByClient() error {
	c := ch.c
	ch.release(c.ctx)
	if err := c.await(func() bool { return c.works == 0 }); err != nil {
		return err
	}
	c.mu.Lock()
	failed := ch.failed
	ch.emitConfirms()
	c.mu.Unlock()
	if failed != nil {
		ch.closed = true // and the client's close crosses ours
	} else {
		c.setChannel(ch.id, nil)
	}
	return c.send(ch.id, &wire.ChannelCloseOk{})
}

// flow performs channel.flow. As in RabbitMQ, the client cannot stop deliveries with it.
func (ch *channel) flow(m *wire.ChannelFlow) error {
	if !m.Active {
		return refused(wire.NotImplemented, "active=false")
	}
	return ch.c.send(ch.id, &wire.ChannelFlowOk{Active: true})
}

// answer sends a method, unless the client wants no answer.
func (ch *channel) answer(noWait bool, m wire.Method) error {
	if noWait {
		return nil
	}
	return ch.c.send(ch.id, m)
}
