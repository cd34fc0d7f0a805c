package state

import (
	"encoding/binary"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// Declaration is a change of what a vhost consists of: exactly one of its fields is set.
// It is a wish: Apply carries it out if the state allows that.
type Declaration struct {
	CreateVhost    *VhostCreated
	DeleteVhost    bool
	Exchange       *routing.Exchange
	DeleteExchange *ExchangeDeleted
	Bind, Unbind   *routing.Binding
	Queue          *QueueDeclared
	DeleteQueue    *QueueDeleted
}

// VhostCreated is a new vhost. Its name is that of the entry.
type VhostCreated struct {
	Topic weir.TopicID // has its messages
}

// ExchangeDeleted says which exchange goes.
type ExchangeDeleted struct {
	Name     string
	IfUnused bool // it stays if it is the source of a binding
}

// QueueDeclared is a new queue. Apply gives it an id.
type QueueDeclared struct {
	Name     string
	Settings Settings
}

// QueueDeleted says which queue goes.
type QueueDeleted struct {
	ID      QueueID
	IfEmpty bool // it stays if something waits in it
}

// The declarations at rest.
const (
	declareVhost = 1 + iota
	declareVhostDeleted
	declareExchange
	declareExchangeDeleted
	declareBind
	declareUnbind
	declareQueue
	declareQueueDeleted
)

// EncodeDeclare returns the body of an entry KindDeclare: what is declared in a vhost, or
// of the vhost itself, in order. Each declaration is carried out or refused on its own:
// see Changes.Results.
func EncodeDeclare(vhost string, all []Declaration) []byte {
	b := coding.AppendString([]byte{bodyVersion}, vhost)
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		b = all[i].append(b)
	}
	return b
}

// Check returns an error for a declaration whose numbers are too large to be read back from
// an entry: such an entry would stop the log.
func (d *Declaration) Check() error {
	body := d.append(nil)
	read := &decoder{coding.NewDecoder(body)}
	if read.declaration(); !read.Done() {
		return ErrRange
	}
	return nil
}

func (d *Declaration) append(b []byte) []byte {
	switch {
	case d.CreateVhost != nil:
		return append(append(b, declareVhost), d.CreateVhost.Topic[:]...)
	case d.DeleteVhost:
		return append(b, declareVhostDeleted)
	case d.Exchange != nil:
		return appendExchange(append(b, declareExchange), d.Exchange)
	case d.DeleteExchange != nil:
		return coding.AppendString(append(b, declareExchangeDeleted, flag(d.DeleteExchange.IfUnused)), d.DeleteExchange.Name)
	case d.Bind != nil:
		return appendBinding(append(b, declareBind), d.Bind)
	case d.Unbind != nil:
		return appendBinding(append(b, declareUnbind), d.Unbind)
	case d.Queue != nil:
		return d.Queue.Settings.append(coding.AppendString(append(b, declareQueue), d.Queue.Name))
	case d.DeleteQueue != nil:
		return binary.AppendUvarint(append(b, declareQueueDeleted, flag(d.DeleteQueue.IfEmpty)), uint64(d.DeleteQueue.ID))
	}
	panic("a declaration that declares nothing")
}

func flag(set bool) byte {
	if set {
		return 1
	}
	return 0
}

// flag reads a byte that is 0 or 1.
func (d *decoder) flag() bool {
	b := d.Byte()
	if b > 1 {
		d.Fail()
	}
	return b == 1
}

// The flags of an exchange at rest.
const (
	exchangeDurable = 1 << iota
	exchangeAutoDelete
	exchangeInternal
	exchangeFlags = 1<<iota - 1
)

func appendExchange(b []byte, x *routing.Exchange) []byte {
	var flags byte
	if x.Durable {
		flags |= exchangeDurable
	}
	if x.AutoDelete {
		flags |= exchangeAutoDelete
	}
	if x.Internal {
		flags |= exchangeInternal
	}
	b = append(b, flags)
	for _, s := range []string{x.Name, x.Type, x.Alternate, x.DelayedType, x.HashHeader, x.HashProperty, string(x.Arguments)} {
		b = coding.AppendString(b, s)
	}
	return binary.AppendUvarint(binary.AppendUvarint(b, uint64(x.CacheSize)), uint64(x.CacheTTL))
}

func (d *decoder) exchange() *routing.Exchange {
	flags := d.Byte()
	if flags > exchangeFlags {
		d.Fail()
	}
	x := &routing.Exchange{
		Durable: flags&exchangeDurable != 0, AutoDelete: flags&exchangeAutoDelete != 0, Internal: flags&exchangeInternal != 0,
		Name: d.String(), Type: d.String(), Alternate: d.String(), DelayedType: d.String(), HashHeader: d.String(), HashProperty: d.String(),
	}
	x.Arguments = d.Bytes()
	x.CacheSize, x.CacheTTL = d.offset(), int64(d.UpTo(maxMillis))
	return x
}

func appendBinding(b []byte, x *routing.Binding) []byte {
	b = append(b, flag(x.ToExchange))
	for _, s := range []string{x.Source, x.Destination, x.Key, string(x.Arguments)} {
		b = coding.AppendString(b, s)
	}
	b = binary.AppendUvarint(append(b, byte(x.Match.Mode)), uint64(len(x.Match.Headers)))
	for _, h := range x.Match.Headers {
		b = append(coding.AppendString(b, h.Name), byte(h.Value.Kind))
		b = coding.AppendString(binary.AppendUvarint(b, h.Value.Bits), h.Value.Text)
	}
	return b
}

func (d *decoder) binding() *routing.Binding {
	x := &routing.Binding{ToExchange: d.flag(), Source: d.String(), Destination: d.String(), Key: d.String()}
	x.Arguments = d.Bytes()
	x.Match.Mode = routing.Mode(d.Byte())
	x.Match.Headers = make([]routing.Header, d.Count(4))
	for i := range x.Match.Headers {
		h := &x.Match.Headers[i]
		h.Name = d.String()
		h.Value = routing.Value{Kind: routing.Kind(d.Byte()), Bits: d.Uvarint(), Text: d.String()}
	}
	return x
}

func (d *decoder) declaration() (x Declaration) {
	switch d.Byte() {
	case declareVhost:
		x.CreateVhost = &VhostCreated{Topic: d.topic()}
	case declareVhostDeleted:
		x.DeleteVhost = true
	case declareExchange:
		x.Exchange = d.exchange()
	case declareExchangeDeleted:
		x.DeleteExchange = &ExchangeDeleted{IfUnused: d.flag(), Name: d.String()}
	case declareBind:
		x.Bind = d.binding()
	case declareUnbind:
		x.Unbind = d.binding()
	case declareQueue:
		x.Queue = &QueueDeclared{Name: d.String(), Settings: d.settings()}
	case declareQueueDeleted:
		x.DeleteQueue = &QueueDeleted{IfEmpty: d.flag(), ID: d.id()}
	default:
		d.Fail()
	}
	return x
}

func (s *State) applyDeclare(d *decoder) error {
	vhost := d.String()
	all := make([]Declaration, 0, d.Count(1))
	for range cap(all) {
		all = append(all, d.declaration())
	}
	if !d.Done() {
		return ErrCorrupt
	}
	s.changes.Vhost = vhost
	s.changes.Results = make([]error, len(all))
	for i := range all {
		s.changes.Results[i] = s.declare(vhost, &all[i])
	}
	return nil
}

func (s *State) declare(vhost string, x *Declaration) error {
	if x.CreateVhost != nil {
		return s.createVhost(vhost, x.CreateVhost)
	}
	v := s.vhosts[vhost]
	if v == nil {
		return ErrNoVhost
	}
	var err error
	switch {
	case x.DeleteVhost:
		s.deleteVhost(v)
	case x.Exchange != nil:
		_, err = v.Table.Declare(*x.Exchange)
	case x.DeleteExchange != nil:
		var gone []string
		gone, err = v.Table.Delete(x.DeleteExchange.Name, x.DeleteExchange.IfUnused)
		v.forget(gone)
	case x.Bind != nil:
		_, err = v.Table.Bind(*x.Bind)
	case x.Unbind != nil:
		var gone []string
		gone, err = v.Table.Unbind(*x.Unbind)
		v.forget(gone)
	case x.Queue != nil:
		err = s.createQueue(v, x.Queue)
	case x.DeleteQueue != nil:
		err = s.deleteQueue(v, x.DeleteQueue)
	}
	return err
}

func (s *State) createVhost(name string, c *VhostCreated) error {
	if name == "" || s.vhosts[name] != nil || s.topics[c.Topic] != nil {
		return ErrExists
	}
	v := newVhost(name, c.Topic)
	s.vhosts[name], s.topics[c.Topic] = v, v
	return nil
}

func (s *State) deleteVhost(v *Vhost) {
	delete(s.vhosts, v.Name)
	delete(s.topics, v.Topic)
	s.changes.DeletedVhosts = append(s.changes.DeletedVhosts, v)
	s.changes.Deleted = append(s.changes.Deleted, v.Queues()...)
}

func (s *State) createQueue(v *Vhost, c *QueueDeclared) error {
	if v.queues[c.Name] != nil {
		return ErrExists
	}
	q := newQueue(v, c.Name, v.next, c.Settings)
	v.queues[c.Name], v.ids[q.ID] = q, q
	v.next++
	v.Table.QueueDeclared(c.Name)
	s.changes.Created = append(s.changes.Created, q)
	return nil
}

func (s *State) deleteQueue(v *Vhost, x *QueueDeleted) error {
	q := v.ids[x.ID]
	switch {
	case q == nil:
		return ErrNoQueue
	case x.IfEmpty && q.n > 0:
		return ErrNotEmpty
	}
	delete(v.ids, q.ID)
	delete(v.queues, q.Name)
	s.changes.Deleted = append(s.changes.Deleted, q)
	v.forget(v.Table.QueueDeleted(q.Name))
	return nil
}

// forget forgets what exchanges that are gone have seen.
func (v *Vhost) forget(exchanges []string) {
	for _, name := range exchanges {
		delete(v.windows, name)
	}
}
