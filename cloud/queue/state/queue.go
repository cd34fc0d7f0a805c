package state

import (
	"iter"
	"slices"
)

// Queue is the durable state of a queue: which messages wait. Those that are delivered and
// not settled are among them.
type Queue struct {
	ID       QueueID
	Name     string
	Vhost    *Vhost
	Settings Settings

	waiting []set // by priority
	n       int64
	bytes   int64
	expires bool
	lent    int64
	counts  counts
	marks   []mark // ascending
	held    held   // of what waits, if the queue looks for duplicates
	arrived int64  // not a part of the state: it counts from New on

	filled, settled uint64 // the entry that changed it last
}

// mark says that in some epochs which have ended, messages up to an offset may have been
// delivered.
type mark struct {
	id     int64
	epochs uint64
}

func newQueue(v *Vhost, name string, id QueueID, s Settings) *Queue {
	return &Queue{ID: id, Name: name, Vhost: v, Settings: s, lent: -1, waiting: make([]set, 1+int(s.MaxPriority))}
}

// Len returns how many messages wait.
func (q *Queue) Len() int64 { return q.n }

// Arrived returns how many messages the queue has got from the entries that this State has
// applied. A snapshot does not have it.
func (q *Queue) Arrived() int64 { return q.arrived }

// Bytes returns the size of the bodies of what waits.
func (q *Queue) Bytes() int64 { return q.bytes }

// MayExpire reports whether a message with an expiration of its own waits. It may say so
// until the queue is empty.
func (q *Queue) MayExpire() bool { return q.expires }

// Has reports whether a message waits.
func (q *Queue) Has(id int64) bool {
	return slices.ContainsFunc(q.waiting, func(s set) bool { return s.has(id) })
}

// Priorities returns how many priorities there are: they are less than that.
func (q *Queue) Priorities() int { return len(q.waiting) }

// Priority returns the priority of a message that waits, 0 if it does not.
func (q *Queue) Priority(id int64) uint8 {
	for p := range q.waiting[1:] {
		if q.waiting[1+p].has(id) {
			return uint8(1 + p)
		}
	}
	return 0
}

// Next returns the first message of a priority that waits at or after from.
func (q *Queue) Next(priority uint8, from int64) (id int64, ok bool) {
	return q.waiting[priority].next(from)
}

// First returns the first message that waits, of any priority.
func (q *Queue) First() (id int64, ok bool) { return q.from(0) }

// from returns the first message that waits at or after id.
func (q *Queue) from(id int64) (first int64, ok bool) {
	for i := range q.waiting {
		if x, some := q.waiting[i].next(id); some && (!ok || x < first) {
			first, ok = x, true
		}
	}
	return first, ok
}

// Waiting returns what waits at or after from, of any priority, in the order of offsets.
// The queue must not change meanwhile.
func (q *Queue) Waiting(from int64) iter.Seq[int64] {
	return func(yield func(int64) bool) {
		for id, ok := q.from(from); ok && yield(id); id, ok = q.from(id + 1) {
		}
	}
}

// Count returns how many deliveries of a message that waits have ended and are on record:
// those that were counted when it was released, and one for each epoch that has ended in
// which it may have been delivered.
func (q *Queue) Count(id int64) int {
	n := q.counts.of(id)
	for i := len(q.marks) - 1; i >= 0 && q.marks[i].id >= id; i-- {
		n += int(q.marks[i].epochs)
	}
	return n
}

// Lent returns the offset up to which messages may have been delivered in this epoch, or
// -1.
func (q *Queue) Lent() int64 { return q.lent }

// add adds messages of a priority.
func (q *Queue) add(priority uint8, first, last int64) {
	q.waiting[min(int(priority), len(q.waiting)-1)].add(first, last)
	q.n += last - first + 1
}

// remove removes messages, and reports whether there were any.
func (q *Queue) remove(first, last int64) bool {
	before := q.n
	for i := range q.waiting {
		if q.waiting[i].n > 0 {
			q.n -= q.waiting[i].remove(first, last)
		}
	}
	if q.n == before {
		return false
	}
	q.counts.remove(first, last)
	q.held.remove(first, last)
	return true
}

// tidy drops what the messages that are gone leave behind.
func (q *Queue) tidy() {
	if q.n == 0 {
		q.bytes, q.marks, q.expires = 0, nil, false
		return
	}
	if len(q.marks) > 0 {
		first, _ := q.First()
		q.marks = slices.DeleteFunc(q.marks, func(m mark) bool { return m.id < first })
	}
}
