package routing

import "slices"

// Message is what Route looks at.
type Message struct {
	Key     string   // the routing key
	More    []string // the routing keys of the headers CC and BCC
	Headers []Header // in the order of SortHeaders; needed if ReadsHeaders reports true
	// What hash-property may name, as text; empty if the message does not have it.
	CorrelationID, MessageID, Timestamp string
	// Delay is set for a message with an x-delay: a delayed exchange holds it. When its time
	// has come, it is routed without, from the exchange that held it.
	Delay bool
	// Filter is set for a message that may be a duplicate: exchanges that look for those do
	// not pass it on, see Result.Filtered.
	Filter bool
}

// Result is where a message goes. Route reuses the slices.
type Result struct {
	Queues []string // each once, in order
	Held   []string // the exchanges that hold it because it is delayed, in order
	// Filtered are the x-message-deduplication exchanges that it reaches, in order. Where it
	// goes from there, Route says for a message without Filter.
	Filtered []string
}

// ReadsHeaders reports whether Message.Headers make a difference, in any exchange.
func (t *Table) ReadsHeaders() bool { return t.readers > 0 }

// Publish is Route for what a client sends: an internal exchange takes nothing from one.
func (t *Table) Publish(name string, m *Message, r *Result) error {
	if x := t.exchanges[name]; x != nil && x.Internal {
		return &Error{Err: ErrInternal, Name: name}
	}
	return t.Route(name, m, r)
}

// Hold has an exchange hold a message that a client has delayed, whatever its type.
func (t *Table) Hold(name string, r *Result) error {
	r.reset()
	r.Held = append(r.Held, name)
	switch x := t.exchanges[name]; {
	case x == nil:
		return &Error{Err: ErrNotFound, Name: name}
	case x.Internal:
		return &Error{Err: ErrInternal, Name: name}
	}
	return nil
}

// Route finds the queues that get a message: those bound to the exchange and to what it is
// bound to, each exchange once. Where a message matches no binding of an exchange, it goes
// to the alternate exchange, if that is there.
func (t *Table) Route(name string, m *Message, r *Result) error {
	r.reset()
	x := t.exchanges[name]
	if x == nil {
		return &Error{Err: ErrNotFound, Name: name}
	}
	t.start(x)
	for i := 0; i < len(t.work); i++ {
		x := t.work[i]
		if m.Delay && x.Type == DelayedMessage {
			r.Held = append(r.Held, x.name)
			continue
		}
		if m.Filter && x.Type == Deduplication {
			r.Filtered = append(r.Filtered, x.name)
			continue
		}
		if !t.from(x, m, r) && x.Alternate != "" {
			if a := t.exchanges[x.Alternate]; a != nil {
				t.reach(&a.destination, r)
			}
		}
	}
	slices.Sort(r.Queues)
	slices.Sort(r.Held)
	slices.Sort(r.Filtered)
	return nil
}

func (r *Result) reset() {
	r.Queues, r.Held, r.Filtered = r.Queues[:0], r.Held[:0], r.Filtered[:0]
}

func (t *Table) start(x *exchange) {
	t.message++
	x.mark = t.message
	t.work = append(t.work[:0], x)
}

// from follows the bindings of x that match, and reports whether one does.
func (t *Table) from(x *exchange, m *Message, r *Result) bool {
	if x.routes() == Headers {
		matched := false
		for _, b := range x.all.read() {
			if b.match.matches(m.Headers) {
				matched = true
				t.reach(b.to, r)
			}
		}
		return matched
	}
	if x.routes() == ConsistentHash {
		if x.stale {
			x.ring.build(x.ordered())
			x.stale = false
		}
		b := x.ring.pick(x.hashOf(m))
		if b != nil {
			t.reach(b.to, r)
		}
		return b != nil
	}
	matched := t.byKey(x, m.Key, r)
	if x.routes() != Fanout {
		for _, key := range m.More {
			matched = t.byKey(x, key, r) || matched
		}
	}
	return matched
}

// byKey follows the bindings of a direct, fanout or topic exchange.
func (t *Table) byKey(x *exchange, key string, r *Result) bool {
	switch {
	case x.name == "":
		q := t.queues[key]
		if q != nil {
			t.reach(q, r)
		}
		return q != nil
	case x.direct != nil:
		return t.reachAll(x.direct[key], r)
	case x.topic == nil:
		return t.reachAll(&x.all, r)
	}
	matched := false
	for _, n := range t.walk.match(x.topic, key) {
		matched = t.reachAll(&n.here, r) || matched
	}
	return matched
}

func (t *Table) reachAll(l *list, r *Result) bool {
	if l == nil {
		return false
	}
	all := l.read()
	for _, b := range all {
		t.reach(b.to, r)
	}
	return len(all) > 0
}

func (t *Table) reach(d *destination, r *Result) {
	if d.mark == t.message {
		return
	}
	d.mark = t.message
	if d.exchange != nil {
		t.work = append(t.work, d.exchange)
	} else {
		r.Queues = append(r.Queues, d.name)
	}
}

// IsSource reports whether anything is bound to an exchange.
func (t *Table) IsSource(name string) bool {
	x := t.exchanges[name]
	return x != nil && len(x.out) > 0
}

// MayReach reports whether a message with this key may reach a queue from an exchange: false
// only if none can, whatever its headers. It stops at the first queue, so that a bridge can
// ask it for each topic.
func (t *Table) MayReach(name, key string) bool {
	x := t.exchanges[name]
	if x == nil {
		return false
	}
	t.start(x)
	for i := 0; i < len(t.work); i++ {
		x := t.work[i]
		if t.mayLeave(x, key) {
			return true
		}
		if a := t.exchanges[x.Alternate]; a != nil && x.Alternate != "" {
			t.reach(&a.destination, nil)
		}
	}
	return false
}

// mayLeave reports whether a binding of x that may match leads to a queue, and follows those
// that lead to an exchange.
func (t *Table) mayLeave(x *exchange, key string) bool {
	switch x.routes() {
	case Direct:
		if x.name == "" {
			return t.queues[key] != nil
		}
		l := x.direct[key]
		return l != nil && t.anyQueue(l.read())
	case Topic:
		for _, n := range t.walk.match(x.topic, key) {
			if t.anyQueue(n.here.read()) {
				return true
			}
		}
		return false
	case ConsistentHash:
		return t.anyQueue(x.out)
	}
	return t.anyQueue(x.all.read())
}

func (t *Table) anyQueue(bindings []*binding) bool {
	for _, b := range bindings {
		if b.to.exchange == nil {
			return true
		}
		t.reach(b.to, nil)
	}
	return false
}
