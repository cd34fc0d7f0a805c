package amqp091

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/declaration"
	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
)

const (
	writeBytes  = 128 << 10 // of deliveries that are written at once, and those of one consumer more
	takeMost    = 128       // deliveries of one consumer at once
	smallAnswer = 64 << 10  // bytes that are written without a claim
	slowest     = 32 << 10  // bytes per second that a client must take, beyond WriteTime
)

// write writes what waits, and takes deliveries whenever the client has taken what was
// written before. It ends with the connection, or when nothing waits after last was set.
func (c *conn) write() error {
	spare := c.s.writer()
	var taken []queue.Delivery
	for {
		taken = c.deliver(taken)
		full, last := c.swap(spare)
		if full != nil {
			if err := c.writeOut(full); err != nil {
				return gone(err)
			}
			spare = full
			continue
		}
		if last {
			return nil
		}
		spare.Trim()
		if err := c.rest(); err != nil {
			return err
		}
	}
}

// writer returns a writer that shares memory with others when it has nothing to write.
func (s *Server) writer() *wire.Writer {
	w := wire.NewWriter()
	w.Spare = &s.spare
	return w
}

// swap returns what waits to be written, and puts spare in its place; nil if nothing waits.
func (c *conn) swap(spare *wire.Writer) (full *wire.Writer, last bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range c.confirming {
		ch.confirming = false
		ch.emitConfirms()
	}
	c.confirming = c.confirming[:0]
	if c.out.Len() == 0 {
		c.out.Trim()
		return nil, c.last
	}
	full = c.out
	spare.SetFrameMax(c.frameMax)
	c.out = spare
	c.changed.Broadcast()
	return full, c.last
}

// writeOut writes to the client.
func (c *conn) writeOut(w *wire.Writer) error {
	n := w.Len()
	if n > smallAnswer {
		claim, err := c.answers.Take(c.ctx, min(int64(n), int64(c.s.o.AnswerBytes)/4))
		if err != nil {
			return err
		}
		defer claim.Release()
	}
	now := time.Now()
	if err := c.nc.SetWriteDeadline(now.Add(c.s.o.WriteTime + time.Duration(n)*time.Second/slowest)); err != nil {
		return err
	}
	c.stuck.Store(now.UnixNano())
	_, err := w.WriteTo(c.nc)
	c.stuck.Store(0)
	c.listener.Traffic.Sent.Add(uint64(n))
	return err
}

// rest waits until something may be written. After half of the client's heartbeat without
// anything it adds a heartbeat.
func (c *conn) rest() error {
	var beat <-chan time.Time
	if h := time.Duration(c.heartbeat.Load()); h > 0 {
		t := time.NewTimer(h / 2)
		defer t.Stop()
		beat = t.C
	}
	select {
	case <-c.wake:
	case <-beat:
		c.mu.Lock()
		c.out.Heartbeat()
		c.mu.Unlock()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	return nil
}

// deliver takes what the engine has for the consumers, until there is enough to write.
// taken is memory that is used again.
func (c *conn) deliver(taken []queue.Delivery) []queue.Delivery {
	c.mu.Lock()
	ended := c.ended
	c.ended = nil
	c.mu.Unlock()
	for _, k := range ended {
		c.tellCancelled(k)
	}
	for {
		k := c.next()
		if k == nil {
			return taken
		}
		if !k.mayRead() {
			c.revoke(k)
			continue
		}
		if k.stream && time.Now().Before(k.rests) {
			continue // it is ready again afterwards
		}
		taken = k.from.Take(taken[:0], takeMost)
		if len(taken) > 0 {
			c.hand(k, taken)
		}
		clear(taken)
	}
}

// next returns a consumer for which deliveries may wait, nil if there is none, or enough
// to write.
func (c *conn) next() *consumer {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.ready) == 0 || c.out.Len() >= writeBytes {
		return nil
	}
	k := c.ready[0]
	c.ready = append(c.ready[:0], c.ready[1:]...)
	k.queued = false
	return k
}

// hand writes deliveries of a consumer. If its client has ended it, they go back to the
// queue as if they had not been taken.
func (c *conn) hand(k *consumer, all []queue.Delivery) {
	ch := k.ch
	n := 0 // that were written
	c.mu.Lock()
	if !k.ended && !ch.over && ch.failed == nil && !c.closing {
		for ; n < len(all); n++ {
			if err := ch.deliver(k, &all[n]); err != nil {
				c.cancel(err)
				break
			}
		}
		if n == takeMost {
			k.enqueue()
		}
	}
	c.mu.Unlock()
	c.s.count.delivered.Add(n)
	if k.stream {
		k.throttle(all[:n])
	}
	if k.noAck {
		c.settleTaken(k, queue.Accept, all[:n])
	}
	c.settleTaken(k, queue.Return, all[n:])
	if rest := len(all) - n; rest > 0 && !k.noAck {
		k.window.Release(rest)
		ch.window.Release(rest)
	}
}

// settleTaken settles deliveries that the client does not.
func (c *conn) settleTaken(k *consumer, v queue.Verdict, all []queue.Delivery) {
	if len(all) == 0 || k.stream {
		return
	}
	s := queue.Settlement{Queue: k.from.Queue(), Verdict: v}
	for i := range all {
		s.IDs = append(s.IDs, all[i].ID)
	}
	c.engine.Submit(c.vhost, queue.Work{Settlements: []queue.Settlement{s}}, nil)
}

// deliver writes a delivery. The caller holds conn.mu.
func (ch *channel) deliver(k *consumer, d *queue.Delivery) error {
	ch.tag++
	if !k.noAck {
		ch.unsettled.add(lease{tag: ch.tag, queue: d.Queue, id: d.ID, from: k})
	}
	m := wire.BasicDeliver{ConsumerTag: k.tag, DeliveryTag: ch.tag, Redelivered: d.Redelivered(), Exchange: d.Exchange, RoutingKey: d.Key}
	if err := ch.c.out.Content(ch.id, &m, visible(d.Properties), d.Body); err != nil {
		return fmt.Errorf("deliver message %d: %w", d.ID, err)
	}
	return nil
}

// visible returns properties as a consumer may see them: without the header BCC.
func visible(properties []byte) []byte {
	const bcc = "BCC"
	if !bytes.Contains(properties, []byte("\x03"+bcc)) {
		return properties
	}
	var p wire.Properties
	if err := p.Decode(properties); err != nil || !p.Headers.Lookup(bcc).Exists() {
		return properties
	}
	declaration.Hide(&p)
	shown, err := p.Append(nil)
	if err != nil {
		return properties // impossible: it was encoded before
	}
	return shown
}
