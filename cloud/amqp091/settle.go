package amqp091

import (
	"cmp"
	"slices"

	"github.com/weirmq/weir/cloud/amqp091/wire"
	"github.com/weirmq/weir/cloud/queue"
	"github.com/weirmq/weir/cloud/queue/state"
)

// lease is a delivery that the client has not settled.
type lease struct {
	tag   uint64
	queue state.QueueID
	id    int64
	from  *consumer // nil: basic.get
}

// leases are the deliveries of a channel that are not settled, by tag. Most are settled
// about in their order: those at the front are gone first.
type leases struct {
	all  []lease // in order; the tag of a gone one is kept, and its from is settledMark
	gone int     // of all
}

// settledMark is what a lease that is settled comes from.
var settledMark = new(consumer)

func (l *leases) len() int { return len(l.all) - l.gone }

// add adds a delivery. Its tag is higher than all before.
func (l *leases) add(d lease) { l.all = append(l.all, d) }

// take removes the delivery of a tag, and with multiple all before it as well; the tag 0
// then means all. It reports false, and removes nothing, if the tag is not there.
func (l *leases) take(tag uint64, multiple bool) ([]lease, bool) {
	if tag == 0 && multiple {
		return l.takeAll(), true
	}
	i, found := slices.BinarySearchFunc(l.all, tag, func(d lease, tag uint64) int { return cmp.Compare(d.tag, tag) })
	if !found || l.all[i].from == settledMark {
		return nil, false
	}
	if !multiple {
		taken := []lease{l.all[i]}
		l.all[i].from = settledMark
		l.gone++
		l.trim()
		return taken, true
	}
	taken := l.alive(l.all[:i+1])
	l.gone -= i + 1 - len(taken)
	l.all = l.all[i+1:]
	l.trim()
	return taken, true
}

// takeAll removes all.
func (l *leases) takeAll() []lease {
	all := l.alive(l.all)
	*l = leases{}
	return all
}

// alive returns a copy of those that are not settled.
func (l *leases) alive(of []lease) []lease {
	alive := make([]lease, 0, len(of))
	for i := range of {
		if of[i].from != settledMark {
			alive = append(alive, of[i])
		}
	}
	return alive
}

// trim forgets what is settled: at the front at once, in the middle when it is half of all.
func (l *leases) trim() {
	n := 0
	for n < len(l.all) && l.all[n].from == settledMark {
		n++
	}
	l.all = l.all[n:]
	l.gone -= n
	if l.gone > len(l.all)/2 {
		l.all, l.gone = l.alive(l.all), 0
	}
	if len(l.all) == 0 {
		l.all = nil
	}
}

// restore puts back what take has removed.
func (l *leases) restore(all []lease) {
	l.all, l.gone = append(l.alive(l.all), all...), 0
	slices.SortFunc(l.all, func(a, b lease) int { return cmp.Compare(a.tag, b.tag) })
}

// refusal returns what becomes of a message that the client refuses.
func refusal(requeue bool) queue.Verdict {
	if requeue {
		return queue.Release
	}
	return queue.Reject
}

// settle performs basic.ack, basic.nack and basic.reject: it adds the verdict to the burst,
// or to the transaction.
func (ch *channel) settle(tag uint64, multiple bool, v queue.Verdict) error {
	c := ch.c
	c.mu.Lock()
	all, ok := ch.unsettled.take(tag, multiple)
	c.mu.Unlock()
	if !ok {
		return refused(wire.PreconditionFailed, "unknown delivery tag %d", tag)
	}
	if v != queue.Accept {
		if err := ch.settleable(all, "basic.nack and basic.reject"); err != nil {
			return err
		}
	}
	if ch.tx != nil {
		ch.tx.settled = append(ch.tx.settled, settled{v, all})
		return nil
	}
	c.settle(v, all)
	ch.credit(all)
	return nil
}

// recover performs basic.recover: all that is not settled goes back to its queue.
func (ch *channel) recover(requeue bool, answer wire.Method) error {
	if !requeue {
		return refused(wire.NotImplemented, "requeue=false")
	}
	c := ch.c
	c.mu.Lock()
	all := ch.unsettled.takeAll()
	c.mu.Unlock()
	if err := ch.settleable(all, "basic.recover"); err != nil {
		return err
	}
	c.settle(queue.Release, all)
	ch.credit(all)
	if answer == nil {
		return nil
	}
	c.flush()
	return c.send(ch.id, answer)
}

// credit lets the consumers of settled deliveries have as many more.
func (ch *channel) credit(all []lease) {
	n := 0
	for i := 0; i < len(all); {
		from, first := all[i].from, i
		for i < len(all) && all[i].from == from {
			i++
		}
		if from != nil {
			from.window.Release(i - first)
			n += i - first
		}
	}
	if n > 0 {
		ch.window.Release(n)
	}
}
