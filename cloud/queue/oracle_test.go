package queue

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weirmq/weir/cloud/amqp091/wire"
)

// track is what the model knows of a message in the queue that it was published to. A
// dead letter still has the track of that queue: its history names it.
type track struct {
	queue, body string
	at          time.Time // when it was published
	notBefore   time.Time // delayed
	expires     int       // its expiration in ms; 0: none
	value       string    // by which it is a duplicate of others; "": it has none

	confirmed bool // it must be somewhere, until it is accepted
	refused   bool // it was never stored
	gone      bool // something may have removed it: a purge, a deletion, a limit
	asks      int  // how often a client has accepted it, with or without an answer
	accepted  bool // it must not come again
	rejected  bool // a client has rejected it, so it may have died of that
	released  int  // how often a client has released it, and has an answer
	moved     int  // how often it may have left the dead letters

	seen    map[string]bool // queues in which a client has had it
	holders map[holder]bool // who has it now
	found   int             // in the final audit
}

// holder is a lease.
type holder struct {
	owner *owner
	queue string
}

// whole is an atomic work: all of it is there or nothing.
type whole struct {
	published []*track
	accepted  []*track
}

// dead is the queue of the dead letters.
const dead = "dead"

// tracked returns the track of a delivery from a queue.
func (w *world) tracked(queue string, d *Delivery) *track {
	origin := queue
	if queue == dead {
		deaths := w.deaths(d)
		if len(deaths) == 0 {
			w.fatalf("%s: a dead letter without a history", d.Body)
		}
		origin = deaths[0].queue
	}
	m := w.tracks[origin+"/"+string(d.Body)]
	if m == nil {
		w.fatalf("%s of queue %s was never published there", d.Body, origin)
	}
	if queue == dead {
		w.history(m, w.deaths(d))
	}
	return m
}

func (w *world) deaths(d *Delivery) []death {
	props, err := decodeProperties(d.Properties)
	if err != nil {
		w.fatalf("%v", err)
	}
	return deathsOf(props.Headers)
}

// history checks x-death.
func (w *world) history(m *track, all []death) {
	total := 0
	for _, d := range all {
		total += int(d.count)
		why := dies[m.queue]
		if d.queue != m.queue || d.reason != string(why) && (d.reason != string(reasonRejected) || !m.rejected) {
			w.errorf("%s died in %s because of %s, its queue was %s", m.body, d.queue, d.reason, m.queue)
		}
		if _, ok := d.table.Lookup("routing-keys").Array(); !ok {
			w.errorf("%s: x-death has no routing keys", m.body)
		}
	}
	if total < 1 || total > 1+m.moved {
		w.errorf("%s has died %d times, and was moved back %d times", m.body, total, m.moved)
	}
}

// deliver checks a delivery that a client has got, and notes it.
func (w *world) deliver(o *owner, queue string, d *Delivery) (m *track, first bool) {
	m = w.tracked(queue, d)
	current := o == w.owner()
	who := holder{o, queue}
	switch {
	case m.refused:
		w.errorf("%s of %s was refused, and is delivered", m.body, queue)
	case current && m.accepted:
		w.errorf("%s of %s was accepted, and is delivered again", m.body, queue)
	case m.holders[who]:
		w.errorf("%s of %s is delivered to two clients", m.body, queue)
	}
	for _, x := range w.tracks {
		twice := queue == "uniq" && len(x.seen) > 0 || queue == "once" && x.holders[who]
		if m.value != "" && x != m && x.queue == m.queue && x.value == m.value && current && twice {
			w.errorf("%s of %s is delivered, and %s, which is a duplicate, was", m.body, queue, x.body)
		}
	}
	if now := time.Now(); now.Before(m.notBefore) {
		w.errorf("%s is delivered %v early", m.body, m.notBefore.Sub(now))
	}
	if current && m.moved == 0 && queue == m.queue {
		if m.seen[queue] && d.Count == 0 {
			w.errorf("%s of %s is not marked as redelivered", m.body, queue)
		}
		if d.Count < m.released || w.fast && len(w.owners) == 1 && d.Count != m.released {
			w.errorf("%s of %s has count %d and was released %d times, by %d owners", m.body, queue, d.Count, m.released, len(w.owners))
		}
	}
	first = !m.seen[queue]
	m.seen[queue], m.holders[who] = true, true
	return m, first
}

// lost says that something may have removed what is in a queue now, or will be.
func (w *world) lost(queue string) {
	for _, m := range w.tracks {
		if m.queue == queue || queue == dead {
			m.gone = true
		}
	}
}

// look is the state of a queue when nothing moves.
type look struct {
	at     time.Time
	ready  []int64
	leased map[int64]bool
}

// quiet compares what has happened since nothing moved before: messages are leased in the
// order of the queue, none after it has expired, and none that a consumer can get is left
// over. It is for owners on a bucket without delays.
func (w *world) quiet() {
	o := w.owner()
	if !w.fast || o.ended() {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.state.Vhost(DefaultVhost)
	now := map[string]look{}
	for _, q := range v.Queues() {
		x := look{at: time.Now(), leased: map[int64]bool{}}
		l := o.host(v).lives[q.ID]
		for id := range q.Waiting(0) {
			if l != nil {
				if _, held := l.leased[id]; held {
					x.leased[id] = true
					continue
				}
			}
			x.ready = append(x.ready, id)
		}
		name := fmt.Sprint(q.Name, q.ID)
		now[name] = x
		if l != nil {
			w.compare(q.Name, l, w.before[name], x)
		}
	}
	w.before = now
}

func (w *world) compare(name string, l *live, before, now look) {
	for _, id := range now.ready {
		if !slices.Contains(before.ready, id) {
			continue
		}
		for other := range now.leased {
			p, of := l.q.Priority(id), l.q.Priority(other)
			if !before.leased[other] && (of < p || of == p && other > id) {
				w.errorf("queue %s: message %d of priority %d was leased before message %d of priority %d", name, other, of, id, p)
			}
		}
	}
	if len(now.ready) > 0 {
		for _, c := range l.active() {
			if c.room(1) > 0 {
				w.errorf("queue %s: %d messages wait, and a consumer has room", name, len(now.ready))
			}
		}
	}
	s := &l.q.Settings
	if s.MaxLength >= 0 && int64(len(now.ready)) > s.MaxLength && s.Overflow == 0 {
		w.errorf("queue %s: %d messages are ready, the limit is %d", name, len(now.ready), s.MaxLength)
	}
	if l.leasedOf() != len(now.leased) {
		w.errorf("queue %s: %d leases of %d messages", name, l.leasedOf(), len(now.leased))
	}
	if n := int64(len(now.ready) + len(now.leased)); n != l.q.Len() {
		w.errorf("queue %s: %d messages, it says %d", name, n, l.q.Len())
	}
}

func (l *live) leasedOf() int { return len(l.leased) }

// audit empties all queues of an owner that has just begun, and compares what was in them
// with what must be there.
func (w *world) audit() {
	o := w.owner()
	queues, err := o.Queues(DefaultVhost)
	if err != nil {
		w.fatalf("%v", err)
	}
	for _, q := range queues {
		if q.Settings.Owner != "" {
			w.errorf("queue %s of session %s has outlived it", q.Name, q.Settings.Owner)
		}
	}
	// Those with dead letters first, so that none dies on the way.
	slices.SortFunc(queues, func(a, b Info) int {
		if (a.Name == dead) != (b.Name == dead) {
			if a.Name == dead {
				return 1
			}
			return -1
		}
		return strings.Compare(a.Name, b.Name)
	})
	must := map[*track]bool{}
	for _, m := range w.tracks {
		must[m] = m.confirmed && !m.gone && m.asks == 0 && m.value == ""
	}
	for _, q := range queues {
		if q.Name == dead {
			time.Sleep(time.Second) // what was behind messages that were got may have expired
			w.hear()
		}
		for {
			d, _, ok, err := o.Get(w.t.Context(), DefaultVhost, q.Name, "")
			if err != nil {
				w.fatalf("%v", err)
			}
			if !ok {
				break
			}
			m, _ := w.deliver(o, q.Name, &d)
			if q.Name == "ttl" || m.expires > 0 && m.moved == 0 && q.Name == "exp" {
				w.errorf("%s has not expired", m.body)
			}
			m.found++
			if _, err := o.settle(Settlement{d.Queue, []int64{d.ID}, Accept}); err != nil {
				w.fatalf("%v", err)
			}
		}
	}
	for _, q := range queues {
		if i, err := o.Queue(DefaultVhost, q.Name, ""); err != nil || i.Ready+i.Unsettled != 0 {
			w.errorf("queue %s is empty, and has %d messages that are ready and %d that are leased: %v", q.Name, i.Ready, i.Unsettled, err)
		}
	}
	for _, m := range w.tracks {
		if m.found > 1 || must[m] && m.found == 0 {
			w.errorf("%s of %s is there %d times: %+v", m.body, m.queue, m.found, *m)
		}
	}
	for _, x := range w.wholes {
		w.auditWhole(x)
	}
}

// auditDuplicates checks that of messages that are duplicates of each other, one is there
// or was there: one of them at a time in queue once, one of them ever in queue uniq.
func (w *world) auditDuplicates() {
	there, found, confirmed := map[string]int{}, map[string]int{}, map[string]string{}
	for _, m := range w.tracks {
		of := m.queue + "/" + m.value
		if m.value == "" {
			continue
		}
		if m.found > 0 || len(m.seen) > 0 {
			there[of]++
		}
		found[of] += m.found
		if m.confirmed {
			confirmed[of] = m.body
		}
	}
	for of, body := range confirmed {
		if there[of] == 0 {
			w.errorf("%s of %s was confirmed, and no message like it is there", body, of)
		}
	}
	for of := range found {
		if found[of] > 1 || there[of] > 1 && strings.HasPrefix(of, "uniq/") {
			w.errorf("%d messages of %s were there, %d are left", there[of], of, found[of])
		}
	}
}

func (w *world) auditWhole(x *whole) {
	there := func(m *track) bool { return m.found > 0 || len(m.seen) > 0 }
	for _, m := range x.published {
		if m.gone {
			return
		}
		if there(m) != there(x.published[0]) {
			w.errorf("%s and %s are of one work, and only one of them is there", m.body, x.published[0].body)
		}
	}
	for _, m := range x.accepted {
		if applied := there(x.published[0]); !m.gone && (applied && m.found > 0 || !applied && m.found == 0 && m.asks == 1) {
			w.errorf("%s was accepted by the work that has published %s: found %d times, and it is there: %v", m.body, x.published[0].body, m.found, there(x.published[0]))
		}
	}
}

// duplicable returns the properties of a message that has the header
// x-deduplication-header.
func duplicable(value string) []byte {
	var b wire.Builder
	b.Add("x-deduplication-header", wire.Text(value))
	table, err := b.Table()
	if err != nil {
		panic(err)
	}
	raw, err := (&wire.Properties{Flags: wire.HasHeaders, Headers: table}).Append(nil)
	if err != nil {
		panic(err)
	}
	return raw
}

// properties returns the properties of a message with a priority, an x-delay and an
// expiration in ms.
func properties(priority uint8, delay int64, expires int) []byte {
	p := wire.Properties{}
	if expires > 0 {
		p.Flags, p.Expiration = wire.HasExpiration, fmt.Sprint(expires)
	}
	if priority > 0 {
		p.Flags, p.Priority = p.Flags|wire.HasPriority, priority
	}
	if delay != 0 {
		var b wire.Builder
		b.Add("x-delay", wire.Int64(delay))
		table, err := b.Table()
		if err != nil {
			panic(err)
		}
		p.Flags, p.Headers = p.Flags|wire.HasHeaders, table
	}
	raw, err := p.Append(nil)
	if err != nil {
		panic(err)
	}
	return raw
}
