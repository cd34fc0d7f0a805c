package routing

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The types of exchanges.
const (
	Direct         = "direct"
	Fanout         = "fanout"
	Topic          = "topic"
	Headers        = "headers"
	ConsistentHash = "x-consistent-hash"
	DelayedMessage = "x-delayed-message"
	Deduplication  = "x-message-deduplication" // routes as a fanout exchange
)

// types in the order in which a snapshot numbers them.
var types = [...]string{Direct, Fanout, Topic, Headers, ConsistentHash, DelayedMessage, Deduplication}

// Exchange is what exchange.declare says.
type Exchange struct {
	Name, Type                    string
	Durable, AutoDelete, Internal bool
	Alternate                     string // alternate-exchange
	DelayedType                   string // x-delayed-type: how an x-delayed-message exchange routes
	HashHeader, HashProperty      string // hash-header, hash-property of an x-consistent-hash exchange
	CacheSize, CacheTTL           int64  // x-cache-size, x-cache-ttl (ms; 0: none) of an x-message-deduplication exchange
	Arguments                     []byte // all arguments, as the door encodes them
}

// routes returns the type that an exchange routes by.
func (x *Exchange) routes() string {
	switch x.Type {
	case DelayedMessage:
		return x.DelayedType
	case Deduplication:
		return Fanout
	}
	return x.Type
}

// exchange is an Exchange in a Table.
type exchange struct {
	Exchange
	destination
	out    []*binding       // the bindings of which it is the source
	direct map[string]*list // by binding key
	topic  *node            // the root
	all    list             // of a fanout or headers exchange
	ring   ring             // of an x-consistent-hash exchange
	stale  bool             // ring is not what out says
}

// destination is what a binding leads to: a queue, or an exchange.
type destination struct {
	name     string
	exchange *exchange // nil: a queue
	in       []*binding
	mark     uint64 // the message that has reached it
}

// Table is the exchanges and bindings of a vhost, and the names of its queues.
type Table struct {
	exchanges map[string]*exchange
	queues    map[string]*destination
	index     map[uint64]*binding // by what a binding is
	bindings  int                 // how many there are
	bound     uint64              // how many there ever were
	seed      maphash.Seed
	readers   int // bindings of exchanges that read headers

	message uint64 // the number of the message on its way
	walk    walk
	work    []*exchange
}

// New returns the table of a new vhost: RabbitMQ's predeclared exchanges and no queue.
func New() *Table {
	t := &Table{
		exchanges: make(map[string]*exchange),
		queues:    make(map[string]*destination),
		index:     make(map[uint64]*binding),
		seed:      maphash.MakeSeed(),
	}
	for _, x := range predeclared() {
		t.add(x)
	}
	return t
}

func predeclared() []Exchange {
	return []Exchange{
		{Name: "", Type: Direct, Durable: true},
		{Name: "amq.direct", Type: Direct, Durable: true},
		{Name: "amq.fanout", Type: Fanout, Durable: true},
		{Name: "amq.headers", Type: Headers, Durable: true},
		{Name: "amq.match", Type: Headers, Durable: true},
		{Name: "amq.rabbitmq.trace", Type: Topic, Durable: true, Internal: true},
		{Name: "amq.topic", Type: Topic, Durable: true},
	}
}

func (t *Table) add(d Exchange) {
	d.Name, d.Alternate, d.HashHeader = strings.Clone(d.Name), strings.Clone(d.Alternate), strings.Clone(d.HashHeader)
	d.Arguments = slices.Clone(d.Arguments)
	x := &exchange{Exchange: d}
	x.name, x.exchange = d.Name, x
	switch d.routes() {
	case Direct:
		x.direct = make(map[string]*list)
	case Topic:
		x.topic = new(node)
	}
	t.exchanges[d.Name] = x
}

// Declare adds an exchange. One that is there with equivalent arguments stays, and created
// is false.
func (t *Table) Declare(d Exchange) (created bool, err error) {
	if !slices.Contains(types[:], d.Type) {
		return false, &Error{Err: ErrType, Name: d.Name, Argument: "type", Received: d.Type}
	}
	if d.Name == "" {
		return false, &Error{Err: ErrDefault}
	}
	if x := t.exchanges[d.Name]; x != nil {
		return false, x.equivalent(&d)
	}
	if strings.HasPrefix(d.Name, "amq.") {
		return false, &Error{Err: ErrReserved, Name: d.Name}
	}
	if err := d.check(); err != nil {
		return false, err
	}
	t.add(d)
	return true, nil
}

func (x *Exchange) check() error {
	invalid := func(argument, received string) error {
		return &Error{Err: ErrInvalid, Name: x.Name, Argument: argument, Received: received}
	}
	hashes := x.routes() == ConsistentHash
	switch {
	case x.Type == DelayedMessage && (x.DelayedType == DelayedMessage || x.DelayedType == Deduplication || !slices.Contains(types[:], x.DelayedType)):
		return invalid("x-delayed-type", x.DelayedType)
	case x.Type != DelayedMessage && x.DelayedType != "":
		return invalid("x-delayed-type", x.DelayedType)
	case x.HashHeader != "" && (!hashes || x.HashProperty != ""):
		return invalid("hash-header", x.HashHeader)
	case x.HashProperty != "" && !(hashes && slices.Contains([]string{"correlation_id", "message_id", "timestamp"}, x.HashProperty)):
		return invalid("hash-property", x.HashProperty)
	case (x.Type == Deduplication) != (x.CacheSize > 0):
		return invalid("x-cache-size", strconv.FormatInt(x.CacheSize, 10))
	case x.CacheTTL < 0 || x.CacheTTL > 0 && x.Type != Deduplication:
		return invalid("x-cache-ttl", strconv.FormatInt(x.CacheTTL, 10))
	}
	return nil
}

// equivalent compares what RabbitMQ compares, in its order.
func (x *Exchange) equivalent(d *Exchange) error {
	for _, a := range []struct{ name, received, current string }{
		{"type", d.Type, x.Type},
		{"durable", truth(d.Durable), truth(x.Durable)},
		{"auto_delete", truth(d.AutoDelete), truth(x.AutoDelete)},
		{"internal", truth(d.Internal), truth(x.Internal)},
		{"alternate-exchange", d.Alternate, x.Alternate},
	} {
		if a.received != a.current {
			return &Error{Err: ErrInequivalent, Name: x.Name, Argument: a.name, Received: a.received, Current: a.current}
		}
	}
	return nil
}

func truth(b bool) string {
	if b {
		return "true"
	}
	return "false"
}

// Lookup returns an exchange, whose Arguments belong to the Table.
func (t *Table) Lookup(name string) (Exchange, error) {
	x := t.exchanges[name]
	if x == nil {
		return Exchange{}, &Error{Err: ErrNotFound, Name: name}
	}
	return x.Exchange, nil
}

// Delete removes an exchange and all bindings from it and to it, and returns the exchanges
// that are gone: itself, and those that auto-delete took along. There is no error if it is
// not there. With ifUnused it must not be the source of a binding.
func (t *Table) Delete(name string, ifUnused bool) ([]string, error) {
	x := t.exchanges[name]
	switch {
	case name == "":
		return nil, &Error{Err: ErrDefault}
	case strings.HasPrefix(name, "amq."):
		return nil, &Error{Err: ErrReserved, Name: name}
	case x == nil:
		return nil, nil
	case ifUnused && len(x.out) > 0:
		return nil, &Error{Err: ErrInUse, Name: name}
	}
	return t.drop([]*exchange{x}), nil
}

// drop removes exchanges, and those whose last binding as a source goes with them.
func (t *Table) drop(xs []*exchange) (gone []string) {
	for len(xs) > 0 {
		x := xs[0]
		xs = xs[1:]
		if t.exchanges[x.name] != x {
			continue
		}
		delete(t.exchanges, x.name)
		gone = append(gone, x.name)
		for len(x.out) > 0 {
			t.remove(x.out[len(x.out)-1])
		}
		xs = append(xs, t.removeAll(&x.destination)...)
	}
	slices.Sort(gone)
	return gone
}

// removeAll removes the bindings to d and returns the exchanges that are to be dropped.
func (t *Table) removeAll(d *destination) (unused []*exchange) {
	for len(d.in) > 0 {
		b := d.in[len(d.in)-1]
		t.remove(b)
		if b.source.AutoDelete && len(b.source.out) == 0 {
			unused = append(unused, b.source)
		}
	}
	return unused
}

// QueueDeclared adds a queue: the default exchange routes to it by its name.
func (t *Table) QueueDeclared(name string) {
	if t.queues[name] == nil {
		name = strings.Clone(name)
		t.queues[name] = &destination{name: name}
	}
}

// QueueDeleted removes a queue and its bindings, and returns the exchanges that auto-delete
// took along.
func (t *Table) QueueDeleted(name string) []string {
	q := t.queues[name]
	if q == nil {
		return nil
	}
	delete(t.queues, name)
	return t.drop(t.removeAll(q))
}

// Exchanges returns all exchanges by name.
func (t *Table) Exchanges() []Exchange {
	all := make([]Exchange, 0, len(t.exchanges))
	for _, x := range t.exchanges {
		all = append(all, x.Exchange)
	}
	slices.SortFunc(all, func(a, b Exchange) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Queues returns the names of all queues, in order.
func (t *Table) Queues() []string { return slices.Sorted(maps.Keys(t.queues)) }
