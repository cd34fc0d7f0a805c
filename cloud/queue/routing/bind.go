package routing

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strings"
)

// Binding is what queue.bind and exchange.bind say. Two bindings are the same if all but
// Match are; Arguments are therefore encoded in the order of their names.
type Binding struct {
	Source, Destination string
	ToExchange          bool // the destination is an exchange, not a queue
	Key                 string
	Arguments           []byte
	Match               Match // Arguments decoded, if the source is a headers exchange
}

// Bind adds a binding. One that is there stays, and created is false.
func (t *Table) Bind(d Binding) (created bool, err error) {
	if d.Source == "" || d.ToExchange && d.Destination == "" {
		return false, &Error{Err: ErrDefault}
	}
	source, to, err := t.ends(&d)
	if err != nil {
		return false, err
	}
	hash := t.hash(&d)
	if t.find(hash, &d) != nil {
		return false, nil
	}
	b := &binding{source: source, to: to, key: strings.Clone(d.Key), args: string(d.Arguments)}
	switch source.routes() {
	case Headers:
		if !d.Match.valid() {
			return false, &Error{Err: ErrInvalid, Name: d.Source, Argument: "x-match"}
		}
		b.match = d.Match.kept()
	case ConsistentHash:
		if _, ok := weightOf(d.Key); !ok {
			return false, &Error{Err: ErrInvalid, Name: d.Source, Argument: "routing key", Received: d.Key}
		}
	}
	b.next, t.index[hash] = t.index[hash], b
	b.out, source.out = int32(len(source.out)), append(source.out, b)
	b.in, to.in = int32(len(to.in)), append(to.in, b)
	t.bindings++
	t.bound++
	b.number = t.bound
	t.readers += source.reads()
	source.insert(b)
	return true, nil
}

// ends returns what d binds.
func (t *Table) ends(d *Binding) (source *exchange, to *destination, err error) {
	if source = t.exchanges[d.Source]; source == nil {
		return nil, nil, &Error{Err: ErrNotFound, Name: d.Source}
	}
	if d.ToExchange {
		if x := t.exchanges[d.Destination]; x != nil {
			to = &x.destination
		}
	} else {
		to = t.queues[d.Destination]
	}
	if to == nil {
		return nil, nil, &Error{Err: ErrNotFound, Queue: !d.ToExchange, Name: d.Destination}
	}
	return source, to, nil
}

// Unbind removes a binding and returns the exchanges that auto-delete took along. As in
// RabbitMQ there is no error if the binding or one of its ends is not there.
func (t *Table) Unbind(d Binding) ([]string, error) {
	if d.Source == "" || d.ToExchange && d.Destination == "" {
		return nil, &Error{Err: ErrDefault}
	}
	b := t.find(t.hash(&d), &d)
	if b == nil {
		return nil, nil
	}
	t.remove(b)
	if b.source.AutoDelete && len(b.source.out) == 0 {
		return t.drop([]*exchange{b.source}), nil
	}
	return nil, nil
}

func (t *Table) hash(d *Binding) uint64 {
	var h maphash.Hash
	h.SetSeed(t.seed)
	for _, s := range [...]string{d.Source, d.Destination, d.Key} {
		h.WriteString(s)
		h.WriteByte(0)
	}
	if d.ToExchange {
		h.WriteByte(1)
	}
	h.Write(d.Arguments)
	return h.Sum64()
}

func (t *Table) find(hash uint64, d *Binding) *binding {
	for b := t.index[hash]; b != nil; b = b.next {
		if b.source.name == d.Source && b.to.name == d.Destination && (b.to.exchange != nil) == d.ToExchange && b.key == d.Key && b.args == string(d.Arguments) {
			return b
		}
	}
	return nil
}

func (b *binding) value() Binding {
	d := Binding{Source: b.source.name, Destination: b.to.name, ToExchange: b.to.exchange != nil, Key: b.key}
	if b.args != "" {
		d.Arguments = []byte(b.args)
	}
	if b.match != nil {
		d.Match = Match{Mode: b.match.Mode, Headers: slices.Clone(b.match.Headers)}
	}
	return d
}

// remove takes a binding out of the Table.
func (t *Table) remove(b *binding) {
	d := b.value()
	hash := t.hash(&d)
	if first := t.index[hash]; first != b {
		for first.next != b {
			first = first.next
		}
		first.next = b.next
	} else if b.next != nil {
		t.index[hash] = b.next
	} else {
		delete(t.index, hash)
	}
	t.bindings--
	t.readers -= b.source.reads()
	to, last := b.to, b.to.in[len(b.to.in)-1]
	to.in[b.in], last.in = last, b.in
	to.in = cut(to.in)
	x := b.source
	last = x.out[len(x.out)-1]
	x.out[b.out], last.out = last, b.out
	x.out = cut(x.out)
	b.out = unbound
	b.source.take(b)
}

func cut(s []*binding) []*binding {
	s[len(s)-1] = nil
	if s = s[:len(s)-1]; len(s) == 0 {
		return nil
	}
	return s
}

// reads returns 1 if a binding of x makes it read headers.
func (x *exchange) reads() int {
	if x.routes() == Headers || x.HashHeader != "" {
		return 1
	}
	return 0
}

// insert puts a binding where routing finds it.
func (x *exchange) insert(b *binding) {
	switch x.routes() {
	case Direct:
		l := x.direct[b.key]
		if l == nil {
			l = new(list)
			x.direct[b.key] = l
		}
		l.add(b)
	case Topic:
		x.topic.find(b.key, true).here.add(b)
	case ConsistentHash:
		x.stale = true
	default:
		x.all.add(b)
	}
}

// take is the reverse of insert.
func (x *exchange) take(b *binding) {
	switch x.routes() {
	case Direct:
		l := x.direct[b.key]
		if l.removed(); len(l.items) == 0 {
			delete(x.direct, b.key)
		}
	case Topic:
		n := x.topic.find(b.key, false)
		n.here.removed()
		n.prune()
	case ConsistentHash:
		x.stale = true
	default:
		x.all.removed()
	}
}

// Bindings returns all bindings, by source, destination, key and arguments; those of an
// x-consistent-hash exchange in the order in which they were bound. The implicit ones of
// the default exchange are not among them.
func (t *Table) Bindings() []Binding {
	all := make([]Binding, 0, t.bindings)
	for _, name := range t.names() {
		for _, b := range t.exchanges[name].ordered() {
			all = append(all, b.value())
		}
	}
	return all
}

// ordered returns the bindings of x in the order of Bindings.
func (x *exchange) ordered() []*binding {
	out := slices.Clone(x.out)
	if x.routes() == ConsistentHash {
		slices.SortFunc(out, func(a, b *binding) int { return cmp.Compare(a.number, b.number) })
	} else {
		slices.SortFunc(out, compareBindings)
	}
	return out
}
