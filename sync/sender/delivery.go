package sender

import (
	"errors"
	"fmt"
	"time"

	"github.com/weirmq/weir/storage/record"
	"github.com/weirmq/weir/storage/weir"
	"github.com/weirmq/weir/sync/wire"
)

const (
	maxRecords    = 4096     // in one frame
	maxSpan       = 16 << 10 // items between the first that is not settled and the last read
	entryOverhead = 128      // bytes that a record costs besides its own
)

// errUnsent says that the cloud acked a sequence that was never sent to it.
var errUnsent = errors.New("ack of a sequence that was not sent")

// limits bound a delivery, in bytes.
type limits struct {
	window    int // sent and not acked
	readAhead int // read and not sent
	batch     int // of one frame
}

// delivery is the state of one lane of one buffer during one session: what was read,
// what is in flight, what is settled. It holds all the rules by which a record is sent
// once. It does no I/O, reads no clock and is not safe for concurrent use.
type delivery struct {
	buffer    weir.BufferID
	lane      weir.Lane
	limits    limits
	mutations Mutations

	order    []*entry // everything read and not trimmed, in the order of the lane
	queuedTo int      // order[:queuedTo] is settled, or is queued as a gap
	parts    map[partKey]*part
	parked   map[string][]*entry // by topic
	last     uint64              // the last sequence read

	// gapMark is the highest mark of this stream in topic weir.gaps. A gap is sent only
	// when everything before it is settled, so everything up to gapMark is.
	gapMark uint64
	highest uint64 // highest mark of any partition at the start
	// gapKey returns the partition of weir.gaps for a sequence. false: it is not known
	// yet, and gapsWanted is set.
	gapKey     func(seq uint64) (partKey, bool)
	gapsWanted bool
	reporting  *part // the partition of weir.gaps that the last gap went to

	inFlight int // bytes sent and not acked
	waiting  int // bytes read and not sent
	acked    uint64
}

// newDelivery starts at sequence from, with the marks that the cloud sent for this
// buffer. gapTopics are the ids of weir.gaps in the map table.
func newDelivery(b weir.BufferID, ln weir.Lane, from uint64, marks []weir.Mark, gapTopics map[weir.TopicID]bool, lim limits) *delivery {
	l := &delivery{
		buffer: b, lane: ln, limits: lim, last: from - 1,
		parts: map[partKey]*part{}, parked: map[string][]*entry{},
	}
	for _, m := range marks {
		if m.Buffer != b || m.Lane != ln {
			continue
		}
		p := l.part(partKey{m.Topic, m.Partition})
		p.mark, p.prev, p.high = m.Last, m.Last, m.Last
		l.highest = max(l.highest, m.Last)
		if gapTopics[m.Topic] {
			p.gaps = true
			l.gapMark = max(l.gapMark, m.Last)
		}
	}
	return l
}

// forgotten reports whether the cloud has lost something that it acknowledged, and the
// sequence from which on something may be missing: the buffer was trimmed beyond what
// the cloud says has ever reached it. What the cloud lacks lies above its lowest mark.
func (l *delivery) forgotten(reached uint64) (first uint64, gone bool) {
	if l.last <= max(reached, l.highest) {
		return 0, false
	}
	first = reached + 1
	for _, p := range l.parts {
		first = min(first, p.mark+1)
	}
	return max(first, l.gapMark+1), true
}

func (l *delivery) part(k partKey) *part {
	p := l.parts[k]
	if p == nil {
		p = &part{key: k}
		l.parts[k] = p
	}
	return p
}

// wantsMore reports whether more may be read.
func (l *delivery) wantsMore() bool {
	return l.waiting < l.limits.readAhead && len(l.order) < maxSpan
}

// add notes an item as read.
func (l *delivery) add(e *entry) {
	l.last = e.last
	l.order = append(l.order, e)
	if e.last <= l.gapMark {
		e.state, e.item = settled, Item{}
	}
}

// push puts a record into the queue of its partition, unless the marks say that it is
// already durable.
func (l *delivery) push(it Item, k partKey) {
	e := newEntry(it)
	l.add(e)
	if e.state != settled {
		l.enqueue(e, l.part(k))
	}
}

func newEntry(it Item) *entry {
	size := entryOverhead + len(it.Record.Key) + len(it.Record.Value)
	for _, h := range it.Record.Headers {
		size += len(h.Key) + len(h.Value)
	}
	return &entry{first: it.Seq, last: it.Seq, item: it, size: size}
}

func (l *delivery) enqueue(e *entry, p *part) {
	if e.last <= p.mark {
		e.state, e.item = settled, Item{}
		return
	}
	e.state = queued
	p.queue = append(p.queue, e)
	p.waiting += e.size
	l.waiting += e.size
}

// park keeps a record until its topic is resolved.
func (l *delivery) park(it Item) {
	e := newEntry(it)
	l.add(e)
	if e.state != settled {
		l.parked[it.Topic] = append(l.parked[it.Topic], e)
		l.waiting += e.size
	}
}

// waitsFor returns the first sequence that waits for a topic to be mapped.
func (l *delivery) waitsFor(topic string) (seq uint64, waits bool) {
	if topic == weir.GapTopic {
		if l.gapsWanted {
			return l.order[l.queuedTo].last, true
		}
		return 0, false
	}
	if parked := l.parked[topic]; len(parked) > 0 {
		return parked[0].first, true
	}
	return 0, false
}

// unpark hands the records of a topic to their partitions.
func (l *delivery) unpark(topic string, place func(Item) partKey) {
	for _, e := range l.parked[topic] {
		l.waiting -= e.size
		l.enqueue(e, l.part(place(e.item)))
	}
	delete(l.parked, topic)
}

// pushSettled notes a record that is known to be settled.
func (l *delivery) pushSettled(it Item) {
	e := newEntry(it)
	l.add(e)
	e.state, e.item = settled, Item{}
}

// pushRefused notes a record that must not be sent at all. It returns nil if the record
// is already settled.
func (l *delivery) pushRefused(it Item) *entry {
	e := newEntry(it)
	e.state = refused
	if l.add(e); e.state == settled {
		return nil
	}
	return e
}

// refuseTopic removes the records of a topic that this gateway may not write to.
func (l *delivery) refuseTopic(topic string) []*entry {
	out := l.parked[topic]
	delete(l.parked, topic)
	for _, e := range out {
		e.state = refused
		l.waiting -= e.size
	}
	return out
}

// pushGap notes a gap that the buffer reported. The part that an earlier gap settled is
// not reported again. Below the highest mark of any partition some records may have
// been delivered before they were damaged: that part is reported as not exact.
func (l *delivery) pushGap(it Item) {
	first := max(it.Gap.First, l.gapMark+1)
	cause := it.Gap.Reason
	if cause == "" {
		cause = "missing"
	}
	if first <= l.highest && l.highest < it.Seq {
		l.add(&entry{first: first, last: l.highest, state: dead, size: entryOverhead, cause: cause})
		first = l.highest + 1
	}
	exact := it.Gap.Exact && first > l.highest
	l.add(&entry{first: first, last: it.Seq, state: dead, size: entryOverhead, cause: cause, exact: exact})
}

// markDead notes that refused records are in the dead letters. A gap is sent in their
// place.
func (l *delivery) markDead(all []*entry, cause string) {
	for _, e := range all {
		e.state, e.cause, e.exact = dead, cause, true
		e.item = Item{Topic: e.item.Topic}
		if noGap(l.mutations) {
			e.state = settled
			l.release(e)
		}
	}
}

// release lets the partition of a reported record continue.
func (l *delivery) release(e *entry) {
	if e.of != nil {
		e.of.held--
		e.of = nil
	}
}

// queueGaps puts missing records into the queue of weir.gaps, but only when everything
// before them is settled or reported. So the mark of weir.gaps passes a sequence only
// when nothing is left to be said about it.
func (l *delivery) queueGaps() {
	if earlyGap(l.mutations) {
		l.queuedTo = 0
	}
	for l.queuedTo < len(l.order) {
		e := l.order[l.queuedTo]
		if e.state == dead {
			k, ok := l.gapKey(e.last)
			if !ok {
				l.gapsWanted = true
				return
			}
			p := l.part(k)
			if l.reporting != nil && l.reporting != p && len(l.reporting.queue) > 0 {
				return // the mark of one partition must not pass what is in flight to another
			}
			p.gaps = true
			l.reporting = p
			e.size = entryOverhead
			l.enqueue(e, p)
			if e.state == settled {
				l.release(e)
			}
		} else if e.state != settled && !l.isGap(e) && !earlyGap(l.mutations) {
			return
		}
		l.queuedTo++
	}
}

// isGap reports whether a queued entry is one of weir.gaps.
func (l *delivery) isGap(e *entry) bool { return e.state == queued && e.cause != "" }

// parcel is a frame that is ready to be sent.
type parcel struct {
	part        *part
	key         partKey
	topic       string
	round       uint32
	prev        uint64
	first, last uint64
	n           int
	bytes       int
	records     []record.Record // of an Append
	ranges      []wire.Range    // of a Gap
	count       uint64
	exact       bool
	of, cause   string
}

// next takes the frame that should be sent now and counts it as sent. Of the partitions
// that have a frame ready, the one with the oldest record is first.
func (l *delivery) next(now time.Time, scratch []record.Record) (parcel, bool) {
	l.queueGaps()
	if l.inFlight >= l.limits.window {
		return parcel{}, false
	}
	var best *part
	for _, p := range l.parts {
		if p.ready(now) && (best == nil || p.queue[p.next].first < best.queue[best.next].first) {
			best = p
		}
	}
	if best == nil {
		return parcel{}, false
	}
	c := parcel{part: best, key: best.key, round: best.round, prev: best.prev, records: scratch[:0]}
	if best.gaps {
		l.takeGaps(best, &c)
	} else {
		l.takeRecords(best, &c)
	}
	sent := best.queue[best.next : best.next+c.n]
	c.first, c.last = sent[0].first, sent[c.n-1].last
	if c.topic = sent[0].item.Topic; best.gaps {
		c.topic = weir.GapTopic
	}
	best.next += c.n
	best.waiting -= c.bytes
	l.waiting -= c.bytes
	l.inFlight += c.bytes
	best.unacked = append(best.unacked, sentFrame{c.first, c.last, c.n})
	best.prev = c.last
	best.high = max(best.high, c.last)
	return c, true
}

func (l *delivery) takeRecords(p *part, c *parcel) {
	limit := maxRecords
	if p.limit > 0 {
		limit = p.limit
	}
	for _, e := range p.queue[p.next:] {
		if c.n == limit || c.n > 0 && c.bytes+e.size > l.limits.batch {
			return
		}
		c.records = append(c.records, e.item.Record)
		c.bytes += e.size
		c.n++
	}
}

// takeGaps joins gaps that fit into one frame.
func (l *delivery) takeGaps(p *part, c *parcel) {
	for _, e := range p.queue[p.next:] {
		if c.n == 0 {
			c.cause, c.of, c.exact = e.cause, e.item.Topic, e.exact
		}
		if e.cause != c.cause || e.item.Topic != c.of || e.exact != c.exact {
			return
		}
		if n := len(c.ranges); n > 0 && c.ranges[n-1].Last+1 == e.first {
			c.ranges[n-1].Last = e.last
		} else if n == wire.MaxRanges {
			return
		} else {
			c.ranges = append(c.ranges, wire.Range{First: e.first, Last: e.last})
		}
		c.count += e.last - e.first + 1
		c.bytes += e.size
		c.n++
	}
}

// ack notes that a partition is durable up to and including seq.
func (l *delivery) ack(k partKey, seq uint64) error {
	p := l.parts[k]
	if p == nil || seq > p.high {
		return fmt.Errorf("partition %d of topic %s, sequence %d: %w", k.partition, k.topic, seq, errUnsent)
	}
	if l.advance(p, seq) {
		p.progress()
	}
	return nil
}

// advance settles everything of p up to mark and reports whether mark is new.
func (l *delivery) advance(p *part, mark uint64) bool {
	if mark <= p.mark {
		return false
	}
	p.mark, p.prev, p.high = mark, max(p.prev, mark), max(p.high, mark)
	l.acked = max(l.acked, mark)
	n := 0
	for ; n < len(p.queue) && p.queue[n].last <= mark; n++ {
		e := p.queue[n]
		if n < p.next {
			l.inFlight -= e.size
		} else {
			l.waiting -= e.size
			p.waiting -= e.size
		}
		e.state, e.item = settled, Item{}
		l.release(e)
	}
	clear(p.queue[:n])
	p.queue = p.queue[n:]
	p.next = max(0, p.next-n)
	for len(p.unacked) > 0 && p.unacked[0].last <= mark {
		p.unacked = p.unacked[1:]
	}
	return true
}

// refuse acts on a refusal. It returns records that can never be delivered: the caller
// puts them into the dead letters and then calls markDead.
func (l *delivery) refuse(r *wire.Refused, now time.Time) []*entry {
	p := l.parts[partKey{r.Topic, r.Partition}]
	if p == nil || keepOnRefuse(l.mutations) {
		return nil
	}
	stale := r.Round != p.round // what it refuses was already taken back
	l.advance(p, r.Mark)
	if stale {
		return nil
	}
	l.rewind(p, r.Mark)
	// The reason belongs to one frame. If that is not the first one left, a frame
	// before it was refused too, and everything is sent again in order.
	n := 0
	for n < len(p.queue) && p.queue[n].last <= r.Last {
		n++
	}
	mine := n > 0 && p.queue[0].first >= r.First
	switch {
	case !r.Reason.ForGood() || !mine:
		if p.holes++; r.Reason != wire.ReasonHole || p.holes > freeHoles {
			p.backOff(now)
		}
		return nil
	case p.gaps:
		return l.giveUp(p, n)
	case n > 1 && (r.Reason == wire.ReasonTooLarge || r.Reason == wire.ReasonCorrupt):
		p.limit = n / 2
		return nil
	}
	return l.takeOut(p, 0, n)
}

// rewind takes back everything of p that is in flight: it is sent again from mark, in a
// new round.
func (l *delivery) rewind(p *part, mark uint64) {
	for _, e := range p.queue[:p.next] {
		l.inFlight -= e.size
		l.waiting += e.size
		p.waiting += e.size
	}
	p.next, p.unacked = 0, nil
	p.prev = mark
	p.round++
}

// takeOut removes n records that were not sent, or were rewound, from a queue. Nothing
// behind them is sent until they are reported: their partition's mark must not pass
// them before the mark of weir.gaps does.
func (l *delivery) takeOut(p *part, at, n int) []*entry {
	out := append([]*entry(nil), p.queue[at:at+n]...)
	p.queue = append(p.queue[:at], p.queue[at+n:]...)
	for _, e := range out {
		e.state = refused
		l.waiting -= e.size
		p.waiting -= e.size
		if !noHold(l.mutations) {
			e.of = p
			p.held++
		}
	}
	return out
}

// giveUp settles gaps that the cloud refuses for good: topic weir.gaps was deleted. No
// record tells of them then, so the caller logs it.
func (l *delivery) giveUp(p *part, n int) []*entry {
	out := append([]*entry(nil), p.queue[:n]...)
	p.queue = p.queue[n:]
	for _, e := range out {
		e.state = settled
		l.waiting -= e.size
		p.waiting -= e.size
		l.release(e)
	}
	return out
}

// reject handles a parcel that cannot be packed, as if it had been refused. It must be
// the last one that next returned.
func (l *delivery) reject(c parcel) []*entry {
	p := c.part
	p.next -= c.n
	p.unacked = p.unacked[:len(p.unacked)-1]
	p.prev = c.prev
	p.waiting += c.bytes
	l.waiting += c.bytes
	l.inFlight -= c.bytes
	if c.n > 1 {
		p.limit = c.n / 2
		return nil
	}
	return l.takeOut(p, p.next, 1)
}

// floor is the sequence up to which everything is settled.
func (l *delivery) floor() uint64 {
	n := 0
	for n < len(l.order) && l.order[n].state == settled {
		n++
	}
	clear(l.order[:n])
	l.order = l.order[n:]
	l.queuedTo = max(0, l.queuedTo-n)
	if trimAcked(l.mutations) {
		return max(l.acked, l.settledTo())
	}
	return l.settledTo()
}

func (l *delivery) settledTo() uint64 {
	if len(l.order) > 0 {
		return l.order[0].first - 1
	}
	return l.last
}

// resume returns when the first pause ends, zero if there is none.
func (l *delivery) resume(now time.Time) time.Time {
	var at time.Time
	for _, p := range l.parts {
		if p.next < len(p.queue) && p.notBefore.After(now) && (at.IsZero() || p.notBefore.Before(at)) {
			at = p.notBefore
		}
	}
	return at
}
