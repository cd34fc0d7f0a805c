package queue

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/weirmq/weir/cloud/queue/state"
)

// A consumer holds at most so much that its client has not taken yet.
const (
	consumerMessages = 256
	consumerBytes    = 1 << 20
)

// mostLeased bounds what the consumers of a queue can have leased, whatever their windows.
const mostLeased = 100_000

// ConsumerOptions say what a consumer wants.
type ConsumerOptions struct {
	Vhost, Queue string
	Session, Tag string // who it is
	NoAck        bool   // for lists only: the door settles
	Exclusive    bool   // it wants to be the only one
	Priority     int32  // higher ones come first
	Arguments    []byte // for lists

	// Windows limit what it has leased: a message takes a place in each. The door gives
	// places back when it settles.
	Windows []*Window

	Ready     func() // Take may return something. It must not block
	Cancelled func() // the queue is gone, or this node does not serve it any more. It must not block
}

// Consumer gets the messages of a queue.
type Consumer struct {
	o    ConsumerOptions
	l    *live
	from *pump // feeds it: that of l, or of a stream queue its own
	most int   // bytes of held, from which on it gets no more
	mu   sync.Mutex
	held []Delivery // guarded by mu: leased, and not taken
	size int        // guarded by mu: bytes of held
	over bool       // guarded by mu: nothing is added to held any more
}

// Consume begins a consumer of a work queue. Errors: ErrNoQueue, ErrExclusive,
// ErrConsumed, ErrStream, ErrNoVhost, ErrClosed.
func (e *Engine) Consume(o ConsumerOptions) (*Consumer, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	q, err := e.workQueue(o.Vhost, o.Queue, o.Session)
	if err != nil {
		return nil, err
	}
	l := e.host(q.Vhost).live(q)
	c := &Consumer{o: o, l: l, from: &l.pump, most: consumerBytes}
	if err := c.begin(); err != nil {
		return nil, err
	}
	return c, nil
}

// begin adds the consumer to its queue. The caller holds Engine.mu.
func (c *Consumer) begin() error {
	l := c.l
	if len(l.consumers) > 0 && (c.o.Exclusive || l.consumers[0].o.Exclusive) {
		return fmt.Errorf("%w: %s in vhost %s", ErrConsumed, c.o.Queue, c.o.Vhost)
	}
	i, _ := slices.BinarySearchFunc(l.consumers, c, func(a, b *Consumer) int {
		if a.o.Priority >= b.o.Priority {
			return -1 // an equal one that came before
		}
		return 1
	})
	if l.q.Settings.SingleActive && i == 0 && len(l.consumers) > 0 {
		i = 1 // the active one stays until it ends
	} else if first, n := l.equals(c); n > 0 && !l.q.Settings.SingleActive {
		if l.turn %= n; l.turn > 0 { // its turn comes after those that wait for theirs
			i = first + l.turn
			l.turn++
		}
	}
	l.consumers = slices.Insert(l.consumers, i, c)
	for _, w := range c.o.Windows {
		w.join(c.from)
	}
	l.used()
	c.from.wake()
	return nil
}

// equals returns the first one of the consumers that have the priority of c, and how many
// there are. The caller holds Engine.mu.
func (l *live) equals(c *Consumer) (first, n int) {
	first = slices.IndexFunc(l.consumers, func(o *Consumer) bool { return o.o.Priority == c.o.Priority })
	if first < 0 {
		return 0, 0
	}
	for first+n < len(l.consumers) && l.consumers[first+n].o.Priority == c.o.Priority {
		n++
	}
	return first, n
}

// Options returns what the consumer was made of.
func (c *Consumer) Options() ConsumerOptions { return c.o }

// Queue returns the id of the queue, for settlements.
func (c *Consumer) Queue() state.QueueID { return c.l.q.ID }

// Take moves up to most leased messages to the caller and appends them to into. It does
// not wait: if there are none, Ready will be called.
func (c *Consumer) Take(into []Delivery, most int) []Delivery {
	c.mu.Lock()
	n := min(most, len(c.held))
	wasFull := len(c.held) >= consumerMessages/2 || c.size >= c.most/2
	into = append(into, c.held[:n]...)
	for i := range c.held[:n] {
		c.size -= c.held[i].size()
	}
	rest := copy(c.held, c.held[n:])
	clear(c.held[rest:])
	c.held = c.held[:rest]
	c.mu.Unlock()
	if n > 0 && wasFull {
		c.from.wake()
	}
	return into
}

// room returns how many messages the consumer can get now, at most most.
func (c *Consumer) room(most int) int {
	c.mu.Lock()
	n := consumerMessages - len(c.held)
	if c.over || c.size >= c.most {
		n = 0
	}
	c.mu.Unlock()
	n = min(n, most)
	for _, w := range c.o.Windows {
		if n > 0 {
			n = w.free(n)
		}
	}
	return n
}

// give hands a message to the consumer, false if it has no room. first reports whether
// it had none before.
func (c *Consumer) give(d Delivery) (first, ok bool) {
	for i, w := range c.o.Windows {
		if !w.take() {
			for _, before := range c.o.Windows[:i] {
				before.Release(1)
			}
			return false, false
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.over {
		for _, w := range c.o.Windows {
			defer w.Release(1)
		}
		return false, false
	}
	c.held = append(c.held, d)
	c.size += d.size()
	return len(c.held) == 1, true
}

// end stops the consumer, and returns what it had not taken.
func (c *Consumer) end() []Delivery {
	c.mu.Lock()
	left := c.held
	c.held, c.size, c.over = nil, 0, true
	c.mu.Unlock()
	for _, w := range c.o.Windows {
		w.leave(c.from)
		w.Release(len(left))
	}
	return left
}

// Close ends the consumer. What it has not taken goes back to the queue, and does not
// count as delivered; what it has taken stays leased until it is settled. An auto-delete
// queue is deleted with its last consumer.
func (c *Consumer) Close(ctx context.Context) error {
	e, l := c.l.host.engine, c.l
	e.mu.Lock()
	i := slices.Index(l.consumers, c)
	if i < 0 {
		e.mu.Unlock()
		return nil // the queue is gone, or it was closed before
	}
	if first, n := l.equals(c); i-first < l.turn%n {
		l.turn = l.turn%n - 1 // it is still the turn of the same one
	}
	l.consumers = slices.Delete(l.consumers, i, i+1)
	if len(l.consumers) == 0 {
		l.endWatch()
	}
	for _, d := range c.end() {
		l.giveBack(d.ID)
		l.delivered(c, &d, -1)
	}
	l.used()
	l.wake()
	last := len(l.consumers) == 0 && l.q.Settings.AutoDelete
	e.mu.Unlock()
	if !last {
		return nil
	}
	err := e.wish(ctx, l.q.Vhost.Name, state.Declaration{DeleteQueue: &state.QueueDeleted{ID: l.q.ID}})
	if err != nil && !isGone(err) {
		return fmt.Errorf("delete queue %s with its last consumer: %w", l.q.Name, err)
	}
	return nil
}
