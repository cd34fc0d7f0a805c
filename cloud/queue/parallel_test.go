package queue

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
	"github.com/weirmq/weir/storage/mem"
)

// TestParallel: many clients at once publish to some queues and consume from them, close
// consumers, and release or reject what they got. Each message is accepted once.
func TestParallel(t *testing.T) {
	const publishers, consumers, each = 3, 6, 400
	queues := []string{"a", "b", "prio", dead}
	s := serve(t, mem.New())
	s.declare("a", deadTo(dead))
	s.declare("b", func(q *state.Settings) { q.TTL = time.Hour; deadTo(dead)(q) })
	s.declare("prio", func(q *state.Settings) { q.MaxPriority = 3; deadTo(dead)(q) })
	s.declare(dead, nil)
	p := &parallel{served: s, accepted: map[string]int{}, holders: map[string]bool{}, want: publishers * each, all: make(chan struct{})}
	var clients sync.WaitGroup
	for i := range publishers {
		clients.Go(func() {
			for n := range each {
				to := queues[n%3]
				w := Work{Publications: []Publication{{Key: to, Properties: properties(uint8(n%4), 0, 0), Body: fmt.Append(nil, to, "/", i, "/", n)}}}
				if outcomes, err := s.submit(w); err != nil || outcomes[0] != nil {
					t.Errorf("publish: %v, %v", outcomes, err)
					return
				}
			}
		})
	}
	shared := NewWindow(20)
	for i := range consumers {
		clients.Go(func() { p.consume(queues[i%len(queues)], uint64(i), shared) })
	}
	clients.Go(p.get)
	clients.Wait()
	for body, n := range p.accepted {
		if n != 1 {
			t.Errorf("%s was accepted %d times", body, n)
		}
	}
	for _, q := range queues {
		if n := s.left(q); n != 0 {
			t.Errorf("%d messages are left in queue %s", n, q)
		}
	}
}

type parallel struct {
	*served
	want int
	all  chan struct{} // closed when all are accepted

	mu       sync.Mutex
	accepted map[string]int  // guarded by mu
	holders  map[string]bool // guarded by mu: what clients have
}

// consume is a client that opens and closes consumers until all messages are accepted.
func (p *parallel) consume(queue string, seed uint64, shared *Window) {
	rng := rand.New(rand.NewPCG(seed, 3))
	deadline := time.After(30 * time.Second)
	for {
		own := NewWindow(rng.IntN(10))
		ready := make(chan struct{}, 1)
		c, err := p.Consume(ConsumerOptions{Vhost: DefaultVhost, Queue: queue, Windows: []*Window{own, shared}, Cancelled: func() {},
			Ready: func() {
				select {
				case ready <- struct{}{}:
				default:
				}
			}})
		if err != nil {
			p.t.Errorf("consume: %v", err)
			return
		}
		for range 20 {
			got := c.Take(nil, 1+rng.IntN(5))
			for i := range got {
				p.settleOne(&got[i], rng.IntN(10))
				own.Release(1)
				shared.Release(1)
			}
			if len(got) > 0 {
				continue
			}
			select {
			case <-ready:
			case <-time.After(time.Millisecond): // another one may need the places that this one holds
			case <-p.all:
			}
		}
		if err := c.Close(p.t.Context()); err != nil {
			p.t.Errorf("close: %v", err)
		}
		select {
		case <-p.all:
			return
		case <-deadline:
			p.t.Error("not all messages come")
			return
		default:
		}
	}
}

// get is a client that gets messages one at a time.
func (p *parallel) get() {
	for n := 0; ; n++ {
		select {
		case <-p.all:
			return
		case <-time.After(time.Millisecond):
		}
		d, _, ok, err := p.Get(p.t.Context(), DefaultVhost, []string{"a", "b", "prio"}[n%3], "")
		if err != nil {
			p.t.Errorf("get: %v", err)
			return
		}
		if ok {
			p.settleOne(&d, n%10)
		}
		if n > 30_000 {
			return
		}
	}
}

// settleOne settles a message, mostly by accepting it.
func (p *parallel) settleOne(d *Delivery, how int) {
	lease := fmt.Sprint(d.Queue, "/", d.ID)
	p.mu.Lock()
	if p.holders[lease] {
		p.t.Errorf("%s is delivered to two clients", d.Body)
	}
	p.holders[lease] = true
	p.mu.Unlock()
	v := Accept
	switch how {
	case 0:
		v = Release
	case 1:
		v = Return
	case 2:
		if len(deathsIn(d)) == 0 {
			v = Reject
		}
	}
	p.mu.Lock()
	delete(p.holders, lease)
	p.mu.Unlock()
	if _, err := p.submit(Work{Settlements: []Settlement{{d.Queue, []int64{d.ID}, v}}}); err != nil {
		p.t.Errorf("settle: %v", err)
	}
	if v != Accept {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted[string(d.Body)]++
	if len(p.accepted) == p.want && p.accepted[string(d.Body)] == 1 {
		close(p.all)
	}
}

func deathsIn(d *Delivery) []death {
	props, err := decodeProperties(d.Properties)
	if err != nil {
		return nil
	}
	return deathsOf(props.Headers)
}
