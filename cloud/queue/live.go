package queue

import (
	"container/heap"
	"slices"
	"time"

	"github.com/weirmq/weir/cloud/queue/state"
)

// live is a queue that something goes on in: it has consumers, leases, or messages that
// expire. Queues that only wait have none.
//
// A message that waits is in one of three places: it is leased; or it was leased and is
// in returned; or it is at or behind next, and nobody has looked at it. groups.go has a
// fourth.
type live struct {
	pump
	host *host
	q    *state.Queue

	// All else is guarded by Engine.mu.
	leased        map[int64]lease
	bytes         int64 // of the bodies of what is leased
	arriving      int64 // messages on their way into the queue, if it rejects what is too much
	arrivingBytes int64
	returned      []ids         // by priority
	next          []int64       // by priority
	counted       map[int64]int // counts that are on their way into the state
	consumers     []*Consumer   // highest priority first, then in turn, or if only one is active by age
	turn          int           // which of the consumers with equal priority is asked first
	head          headTime
	expiry        *time.Timer // for the head; nil: not set
	unused        *time.Timer // for x-expires; nil: not set
	gone          bool        // deleted, or the engine is closed
	unwatch       func()      // ends the watch of a stream queue's topic; nil: it is not watched
	counts        Counts      // but for Published, which the state has

	groups  groups
	dealing chan struct{} // capacity 1, see takeTurn

	requeued bool           // a client has given messages back, and what is too much was not removed yet
	end      int64          // of the vhost, when messages arrived last
	prompt   map[int64]bool // messages that arrived while consumers had room for them, until they are handed out
}

// lease is a message that is not ready.
type lease struct {
	size     int32 // of its body
	settling bool  // its verdict is on its way into the log
}

// headTime is when a message that was read expires.
type headTime struct {
	id  int64
	due time.Time
}

// ids is a heap of message ids, the least one first.
type ids []int64

func (h ids) Len() int           { return len(h) }
func (h ids) Less(i, j int) bool { return h[i] < h[j] }
func (h ids) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *ids) Push(x any)        { *h = append(*h, x.(int64)) }
func (h *ids) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// needsUpkeep reports whether something can happen in a queue without a client.
func needsUpkeep(q *state.Queue) bool {
	s := &q.Settings
	if s.Stream {
		return false // its limits are those of the topic
	}
	return s.TTL >= 0 || s.Expires > 0 || s.MaxLength >= 0 || s.MaxBytes >= 0 || q.MayExpire()
}

// live returns the live of a queue. The caller holds Engine.mu.
func (h *host) live(q *state.Queue) *live {
	l := h.lives[q.ID]
	if l == nil {
		l = &live{host: h, q: q, dealing: make(chan struct{}, 1), leased: make(map[int64]lease), counted: make(map[int64]int),
			returned: make([]ids, q.Priorities()), next: make([]int64, q.Priorities()), end: q.Vhost.End()}
		l.engine, l.look, l.of = h.engine, l.lookAfter, []any{"vhost", h.name, "queue", q.Name}
		h.lives[q.ID] = l
		l.used()
	}
	return l
}

// used notes that somebody uses the queue: x-expires begins anew. The caller holds
// Engine.mu.
func (l *live) used() {
	if l.q.Settings.Expires <= 0 || l.gone {
		return
	}
	if l.unused != nil {
		l.unused.Stop()
	}
	l.unused = time.AfterFunc(l.q.Settings.Expires, l.expireUnused)
}

// stop ends the timers, and returns the consumers, which are no longer part of the
// queue. The caller holds Engine.mu.
func (l *live) stop() []*Consumer {
	l.gone = true
	for _, t := range []*time.Timer{l.expiry, l.unused} {
		if t != nil {
			t.Stop()
		}
	}
	all := l.consumers
	l.consumers = nil
	l.endWatch()
	for _, c := range all {
		c.end()
	}
	return all
}

// ready returns how many messages are ready, the ranges of ids between those that are
// leased, and the bytes of their bodies. The caller holds Engine.mu.
func (l *live) ready() (n int64, ranges []state.Range, bytes int64) {
	n, bytes = l.q.Len(), l.q.Bytes()
	taken := make([]int64, 0, len(l.leased))
	for id, held := range l.leased {
		if l.q.Has(id) {
			taken = append(taken, id)
			n, bytes = n-1, bytes-int64(held.size)
		}
	}
	slices.Sort(taken)
	first := int64(0)
	for _, id := range taken {
		if id > first {
			ranges = append(ranges, state.Range{First: first, Last: id - 1})
		}
		first = id + 1
	}
	if end := l.q.Vhost.End(); end > first {
		ranges = append(ranges, state.Range{First: first, Last: end - 1})
	}
	return max(n, 0), ranges, max(bytes, 0)
}

// arrive notes which of the messages that have just arrived consumers have room for. Those
// are delivered however soon they expire. The caller holds Engine.mu.
func (l *live) arrive() {
	from := l.end
	l.end = l.q.Vhost.End()
	if !l.mayExpire() {
		return
	}
	for _, id := range l.peek(l.demand()) {
		if id >= from {
			if l.prompt == nil {
				l.prompt = make(map[int64]bool)
			}
			l.prompt[id] = true
		}
	}
}

// mayExpire reports whether a message of the queue may expire. The caller holds Engine.mu.
func (l *live) mayExpire() bool { return l.q.Settings.TTL >= 0 || l.q.MayExpire() }

// skip passes over all messages that are ready. The caller holds Engine.mu.
func (l *live) skip() {
	l.skipGroups()
	clear(l.prompt)
	for p := range l.next {
		l.returned[p] = nil
		l.next[p] = max(l.next[p], l.q.Vhost.End())
	}
}

// unsettled returns how many messages consumers have. The caller holds Engine.mu.
func (l *live) unsettled() (n int64) {
	for id := range l.leased {
		if !l.leased[id].settling {
			n++
		}
	}
	return n
}

// pick leases up to most messages that are ready, in the order of the queue. The caller
// holds Engine.mu.
func (l *live) pick(most int) []int64 {
	var picked []int64
	for p := len(l.next) - 1; p >= 0; p-- {
		for len(picked) < most {
			id, ok := l.first(uint8(p))
			if !ok {
				break
			}
			l.hold(id, 0)
			picked = append(picked, id)
		}
	}
	return picked
}

// peek returns up to most messages that are ready, in the order of the queue. The caller
// holds Engine.mu.
func (l *live) peek(most int) []int64 {
	all := l.pick(most)
	l.giveBackAll(all)
	return all
}

// first removes the first ready message of a priority from returned and next.
func (l *live) first(p uint8) (int64, bool) {
	for back := &l.returned[p]; len(*back) > 0; {
		id := heap.Pop(back).(int64)
		if _, held := l.leased[id]; !held && l.q.Has(id) {
			return id, true
		}
	}
	if len(l.groups.waits) >= mostBehind {
		return 0, false
	}
	for {
		id, ok := l.q.Next(p, l.next[p])
		if !ok {
			return 0, false
		}
		l.next[p] = id + 1
		if _, held := l.leased[id]; !held {
			return id, true
		}
	}
}

// hold notes that a message is leased, and how large its body is.
func (l *live) hold(id int64, size int) {
	l.bytes += int64(size) - int64(l.leased[id].size)
	l.leased[id] = lease{size: int32(size)}
}

// drop ends the lease of a message. The caller holds Engine.mu.
func (l *live) drop(id int64) {
	l.bytes -= int64(l.leased[id].size)
	delete(l.leased, id)
}

// waits returns how many messages are not leased, and the bytes of their bodies. The
// caller holds Engine.mu.
func (l *live) waits() (messages, bytes int64) {
	return max(0, l.q.Len()-int64(len(l.leased))), max(0, l.q.Bytes()-l.bytes)
}

// giveBack ends the lease of a message, which is ready again. The caller holds
// Engine.mu.
func (l *live) giveBack(id int64) {
	l.drop(id)
	if _, behind := l.groups.waits[id]; !behind && l.q.Has(id) {
		l.goBack(id)
	}
}

// giveBackAll is giveBack for several messages. The caller holds Engine.mu.
func (l *live) giveBackAll(all []int64) {
	for _, id := range all {
		l.giveBack(id)
	}
}

// goBack makes a message ready that nobody has leased. The caller holds Engine.mu.
func (l *live) goBack(id int64) { heap.Push(&l.returned[l.q.Priority(id)], id) }

// count returns how often a message was delivered. The caller holds Engine.mu.
func (l *live) count(id int64) int { return max(l.q.Count(id), l.counted[id]) }

// delivered counts a delivery to a consumer, or with nil to a client that asked for one
// message; with n -1 it takes one back. The caller holds Engine.mu.
func (l *live) delivered(to *Consumer, d *Delivery, n int64) {
	for _, c := range []*Counts{&l.counts, &l.host.counts} {
		switch {
		case to == nil:
			c.Got += n
		case to.o.NoAck:
			c.NoAck += n
		default:
			c.Delivered += n
		}
		if d.Redelivered() {
			c.Redelivered += n
		}
	}
}
