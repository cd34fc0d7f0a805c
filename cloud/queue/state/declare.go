package state

import (
	"cmp"
	"encoding/binary"
	"errors"
	"slices"

	"github.com/weirmq/weir/cloud/queue/routing"
	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// Declaration is a change of what a vhost consists of: exactly one of its fields is set.
// It is a result: who writes it has checked it against the State, and nothing that could
// change the outcome comes between.
type Declaration struct {
	CreateVhost    *VhostCreated
	DeleteVhost    string
	Exchange       *routing.Exchange
	DeleteExchange string
	Bind, Unbind   *routing.Binding
	Queue          *QueueDeclared
	DeleteQueue    QueueID
	Purge          *Purged
}

// VhostCreated is a new vhost and the topic that has its messages.
type VhostCreated struct {
	Name  string
	Topic weir.TopicID
}

// QueueDeclared is a new queue, whose ID is NextID or higher.
type QueueDeclared struct {
	Name     string
	ID       QueueID
	Settings Settings
}

// Purged takes what waits below an offset out of a queue.
type Purged struct {
	Queue QueueID
	Below int64
	Kept  []Range // ascending and apart: what stays nevertheless
	Bytes int64   // of the bodies of what goes
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
	declarePurge
)

// EncodeDeclare returns the body of an entry KindDeclare: all of its declarations take
// effect, in order, or none. Those of vhosts name their own; the others are about vhost.
func EncodeDeclare(vhost string, all []Declaration) []byte {
	b := coding.AppendString([]byte{bodyVersion}, vhost)
	b = binary.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		b = all[i].append(b)
	}
	return b
}

func (d *Declaration) append(b []byte) []byte {
	switch {
	case d.CreateVhost != nil:
		return append(coding.AppendString(append(b, declareVhost), d.CreateVhost.Name), d.CreateVhost.Topic[:]...)
	case d.DeleteVhost != "":
		return coding.AppendString(append(b, declareVhostDeleted), d.DeleteVhost)
	case d.Exchange != nil:
		return appendExchange(append(b, declareExchange), d.Exchange)
	case d.DeleteExchange != "":
		return coding.AppendString(append(b, declareExchangeDeleted), d.DeleteExchange)
	case d.Bind != nil:
		return appendBinding(append(b, declareBind), d.Bind)
	case d.Unbind != nil:
		return appendBinding(append(b, declareUnbind), d.Unbind)
	case d.Queue != nil:
		b = binary.AppendUvarint(append(b, declareQueue), uint64(d.Queue.ID))
		return d.Queue.Settings.append(coding.AppendString(b, d.Queue.Name))
	case d.DeleteQueue != 0:
		return binary.AppendUvarint(append(b, declareQueueDeleted), uint64(d.DeleteQueue))
	case d.Purge != nil:
		b = binary.AppendUvarint(append(b, declarePurge), uint64(d.Purge.Queue))
		b = binary.AppendUvarint(b, uint64(d.Purge.Below))
		return binary.AppendUvarint(appendRanges(b, d.Purge.Kept), uint64(d.Purge.Bytes))
	}
	panic("a declaration that declares nothing")
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
	return b
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
	return x
}

func appendBinding(b []byte, x *routing.Binding) []byte {
	to := byte(0)
	if x.ToExchange {
		to = 1
	}
	b = append(b, to)
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
	to := d.Byte()
	if to > 1 {
		d.Fail()
	}
	x := &routing.Binding{ToExchange: to == 1, Source: d.String(), Destination: d.String(), Key: d.String()}
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
		x.CreateVhost = &VhostCreated{Name: d.String(), Topic: d.topic()}
	case declareVhostDeleted:
		x.DeleteVhost = d.String()
	case declareExchange:
		x.Exchange = d.exchange()
	case declareExchangeDeleted:
		x.DeleteExchange = d.String()
	case declareBind:
		x.Bind = d.binding()
	case declareUnbind:
		x.Unbind = d.binding()
	case declareQueue:
		x.Queue = &QueueDeclared{ID: d.id(), Name: d.String(), Settings: d.settings()}
	case declareQueueDeleted:
		x.DeleteQueue = d.id()
	case declarePurge:
		x.Purge = &Purged{Queue: d.id(), Below: d.offset()}
		d.ranges(func(r Range) { x.Purge.Kept = append(x.Purge.Kept, r) })
		x.Purge.Bytes = d.offset()
	default:
		d.Fail()
	}
	return x
}

func (s *State) applyDeclare(d *decoder) error {
	vhost := d.String()
	all := make([]Declaration, 0, d.Count(2))
	for range cap(all) {
		all = append(all, d.declaration())
	}
	if !d.Done() {
		return ErrCorrupt
	}
	for i := range all {
		if err := s.declare(vhost, &all[i]); err != nil {
			return errors.Join(ErrCorrupt, err)
		}
	}
	return nil
}

func (s *State) declare(vhost string, x *Declaration) error {
	switch {
	case x.CreateVhost != nil:
		return s.createVhost(x.CreateVhost)
	case x.DeleteVhost != "":
		s.deleteVhost(x.DeleteVhost)
		return nil
	}
	v := s.vhosts[vhost]
	if v == nil {
		return nil
	}
	var gone []string
	var err error
	switch {
	case x.Exchange != nil:
		_, err = v.Table.Declare(*x.Exchange)
	case x.DeleteExchange != "":
		gone, err = v.Table.Delete(x.DeleteExchange, false)
	case x.Bind != nil:
		_, err = v.Table.Bind(*x.Bind)
	case x.Unbind != nil:
		gone, err = v.Table.Unbind(*x.Unbind)
	case x.Queue != nil:
		err = s.createQueue(v, x.Queue)
	case x.DeleteQueue != 0:
		gone = s.deleteQueue(v, x.DeleteQueue)
	case x.Purge != nil:
		s.purge(v, x.Purge)
	}
	for _, name := range gone {
		s.changes.DeletedExchanges = append(s.changes.DeletedExchanges, DeletedExchange{v, name})
	}
	return err
}

func (s *State) createVhost(c *VhostCreated) error {
	if c.Name == "" || s.vhosts[c.Name] != nil || s.topics[c.Topic] != nil {
		return ErrCorrupt
	}
	v := newVhost(c.Name, c.Topic)
	s.vhosts[c.Name], s.topics[c.Topic] = v, v
	s.changes.CreatedVhosts = append(s.changes.CreatedVhosts, v)
	return nil
}

func (s *State) deleteVhost(name string) {
	v := s.vhosts[name]
	if v == nil {
		return
	}
	delete(s.vhosts, name)
	delete(s.topics, v.Topic)
	s.changes.DeletedVhosts = append(s.changes.DeletedVhosts, v)
	s.changes.Deleted = append(s.changes.Deleted, v.Queues()...)
}

func (s *State) createQueue(v *Vhost, c *QueueDeclared) error {
	if v.queues[c.Name] != nil || c.ID < v.next {
		return ErrCorrupt
	}
	q := newQueue(v, c.Name, c.ID, c.Settings)
	v.queues[c.Name], v.ids[c.ID] = q, q
	v.next = c.ID + 1
	v.Table.QueueDeclared(c.Name)
	s.changes.Created = append(s.changes.Created, q)
	return nil
}

func (s *State) deleteQueue(v *Vhost, id QueueID) []string {
	q := v.ids[id]
	if q == nil {
		return nil
	}
	delete(v.ids, id)
	delete(v.queues, q.Name)
	s.changes.Deleted = append(s.changes.Deleted, q)
	return v.Table.QueueDeleted(q.Name)
}

func (s *State) purge(v *Vhost, p *Purged) {
	q := v.ids[p.Queue]
	if q == nil {
		return
	}
	first := int64(0)
	kept, _ := slices.BinarySearchFunc(p.Kept, p.Below, func(r Range, below int64) int { return cmp.Compare(r.First, below) })
	for _, r := range p.Kept[:kept] {
		q.remove(first, r.First-1)
		first = r.Last + 1
	}
	q.remove(first, p.Below-1)
	q.bytes = max(q.bytes-p.Bytes, 0)
	q.tidy()
	s.settled(q)
}
