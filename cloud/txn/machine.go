package txn

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/commitlog"
	"github.com/weirmq/weir/storage/commitlog/state"
)

// The kinds of entries in the log that belong to this package. Each body begins
// with a version byte, 1; integers are varints (u: unsigned), strings have a
// uvarint length before them, times are ms since 1970. A producer is its id and
// its epoch, -1 and -1 if there is none; a place is a topic's id of 16 bytes and a
// partition u.
//
//	130 init    id string · time varint · producer · last producer · timeout u (ms)
//	131 add     id string · time varint · places u · places × place · groups u · groups × string
//	132 stage   id string · time varint · a commit of cloud/group (kind 100) up to the end
//	133 end     id string · time varint · commit byte (0, 1) · producer · last producer
//	134 forget  ids u · ids × string
//
// Transactions that span shards have entries of format level 2:
//
//	135 span      id string · time varint · number u · places u · places × place · groups u · groups × string
//	136 decide    id string · time varint · how byte (0 abort, 1 commit, 2 init) · producer with the markers' epoch · producer · last producer · timeout u (ms) ·
//	              places u · places × place · groups u · groups × string
//	137 complete  id string · time varint
//
// A span is an add to a transaction that then has the number: that of the id's last one
// that spanned shards plus 1. A decide is an end, or an init that aborts a transaction,
// with the parts in other shards; the slot has the markers of this shard, and the commits of its
// groups before the entry. Nothing but a complete may follow for that id.
//
// An init begins a producer: an ongoing transaction is aborted, by markers in the
// same slot. An add or a stage begins a transaction if none is ongoing. A stage adds
// its group. In the slot of an end with commit, the commits of the groups come before
// it.
const (
	kindInit   uint16 = 130
	kindAdd    uint16 = 131
	kindStage  uint16 = 132
	kindEnd    uint16 = 133
	kindForget uint16 = 134

	kindSpan     uint16 = 135
	kindDecide   uint16 = 136
	kindComplete uint16 = 137

	bodyVersion = 1
)

// Kinds returns the kinds of log entries that Apply understands.
func (c *Coordinator) Kinds() []uint16 {
	return []uint16{kindInit, kindAdd, kindStage, kindEnd, kindForget, kindSpan, kindDecide, kindComplete}
}

// Apply applies a durable entry, both in recovery and in normal operation. It reads
// no clock and does no I/O. An error (ErrCorrupt) means that the log holds what this
// version cannot understand.
func (c *Coordinator) Apply(kind uint16, body []byte) error {
	d := decoder{coding.NewDecoder(body)}
	if v := d.Byte(); !d.Bad() && v != bodyVersion {
		return fmt.Errorf("apply transaction entry of kind %d: version %d is not known: %w", kind, v, ErrCorrupt)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	switch kind {
	case kindInit:
		err = c.applyInit(&d)
	case kindAdd:
		err = c.applyAdd(&d)
	case kindStage:
		err = c.applyStage(&d)
	case kindEnd:
		err = c.applyEnd(&d)
	case kindForget:
		err = c.applyForget(&d)
	case kindSpan:
		err = c.applySpan(&d)
	case kindDecide:
		err = c.applyDecide(&d)
	case kindComplete:
		err = c.applyComplete(&d)
	default:
		err = fmt.Errorf("kind is not known: %w", ErrCorrupt)
	}
	if err != nil {
		return fmt.Errorf("apply transaction entry of kind %d: %w", kind, err)
	}
	return nil
}

func (c *Coordinator) applyInit(d *decoder) error {
	id, at, producer, last, timeout := d.name(), d.Varint(), d.producer(), d.producer(), d.Int31()
	t, ok := c.ids[id]
	if !d.Done() || producer.ID < 0 || ok && t.ending != nil {
		return ErrCorrupt
	}
	if !ok {
		t = &transaction{id: id}
		c.ids[id] = t
	}
	t.durable = durable{producer: producer, last: last, timeout: int64(timeout), state: Empty, started: none, updated: at, number: t.number}
	t.clear()
	delete(c.open, t)
	return nil
}

func (c *Coordinator) applyAdd(d *decoder) error {
	id, at := d.name(), d.Varint()
	places, groups := d.parts()
	t := c.ids[id]
	if !d.Done() || !t.free() {
		return ErrCorrupt
	}
	c.begin(t, at)
	t.addAll(places, groups)
	for _, p := range places {
		delete(t.adding, p)
	}
	return nil
}

// free reports whether the id exists, and no transaction of it is decided and not
// complete. t may be nil.
func (t *transaction) free() bool { return t != nil && t.known() && t.ending == nil }

func (c *Coordinator) applyStage(d *decoder) error {
	id, at := d.name(), d.Varint()
	name, staged, err := group.DecodeCommit(d.Rest())
	t := c.ids[id]
	if !d.Done() || err != nil || name == "" || !t.free() {
		return errors.Join(ErrCorrupt, err)
	}
	c.begin(t, at)
	of := t.addGroup(name)
	for _, o := range staged {
		t.addOffset(of, o)
	}
	return nil
}

func (c *Coordinator) applyEnd(d *decoder) error {
	id, at, commit, producer, last := d.name(), d.Varint(), d.Byte(), d.producer(), d.producer()
	t := c.ids[id]
	if !d.Done() || commit > 1 || producer.ID < 0 || !t.free() {
		return ErrCorrupt
	}
	if t.started == none {
		t.started = at // a transaction without parts
	}
	t.producer, t.last, t.updated = producer, last, at
	if t.state = CompleteAbort; commit == 1 {
		t.state = CompleteCommit
	}
	t.clear()
	delete(c.open, t)
	return nil
}

func (c *Coordinator) applySpan(d *decoder) error {
	id, at, number := d.name(), d.Varint(), d.Uvarint()
	places, groups := d.parts()
	t := c.ids[id]
	if !d.Done() || !t.free() || number != t.spanning() {
		return ErrCorrupt
	}
	c.begin(t, at)
	t.number, t.spans = number, true
	t.addAll(places, groups)
	return nil
}

func (c *Coordinator) applyDecide(d *decoder) error {
	id, at, how, of, producer, last, timeout := d.name(), d.Varint(), d.Byte(), d.producer(), d.producer(), d.producer(), d.Int31()
	places, groups := d.parts()
	t := c.ids[id]
	if !d.Done() || how > decidedInit || of.ID < 0 || producer.ID < 0 || !t.free() || t.state != Ongoing || !t.spans {
		return ErrCorrupt
	}
	t.producer, t.last, t.timeout, t.updated = producer, last, int64(timeout), at
	t.ending = &ending{producer: of, commit: how == decidedCommit, init: how == decidedInit}
	if t.state = PrepareAbort; t.ending.commit {
		t.state = PrepareCommit
	}
	t.clear()
	t.addAll(places, groups)
	delete(c.open, t)
	c.prepared[t] = struct{}{}
	return nil
}

func (c *Coordinator) applyComplete(d *decoder) error {
	id, at := d.name(), d.Varint()
	t := c.ids[id]
	if !d.Done() || t == nil || t.ending == nil {
		return ErrCorrupt
	}
	switch t.updated = at; {
	case t.ending.init:
		t.state, t.started = Empty, none
	case t.ending.commit:
		t.state = CompleteCommit
	default:
		t.state = CompleteAbort
	}
	t.clear()
	t.ending, t.complete = nil, nil
	delete(c.prepared, t)
	return nil
}

func (c *Coordinator) applyForget(d *decoder) error {
	ids := make([]string, d.Count(1))
	for i := range ids {
		ids[i] = d.name()
	}
	if !d.Done() {
		return ErrCorrupt
	}
	for _, id := range ids {
		c.drop(id)
	}
	return nil
}

// begin makes sure that a transaction is ongoing, and that its time-out is checked.
func (c *Coordinator) begin(t *transaction, at int64) {
	t.begin(at)
	c.open[t] = struct{}{}
	c.schedule(t.deadline())
}

func encodeInit(id string, at int64, producer, last Producer, timeout int64) commitlog.Command {
	b := appendHead(id, at)
	b = appendProducer(appendProducer(b, producer), last)
	return commitlog.Command{Kind: kindInit, Body: appendUvarint(b, timeout)}
}

func encodeAdd(id string, at int64, places []state.Place, groups ...string) commitlog.Command {
	return commitlog.Command{Kind: kindAdd, Body: appendParts(appendHead(id, at), places, groups)}
}

func encodeSpan(id string, at int64, number uint64, places []state.Place, groups ...string) commitlog.Command {
	b := binary.AppendUvarint(appendHead(id, at), number)
	return commitlog.Command{Kind: kindSpan, Body: appendParts(b, places, groups)}
}

func encodeStage(id string, at int64, name string, staged []group.Offset) commitlog.Command {
	_, commit := group.CommitEntry(name, at, staged)
	return commitlog.Command{Kind: kindStage, Body: append(appendHead(id, at), commit...)}
}

func encodeEnd(id string, at int64, commit bool, producer, last Producer) commitlog.Command {
	b := append(appendHead(id, at), 0)
	if commit {
		b[len(b)-1] = 1
	}
	return commitlog.Command{Kind: kindEnd, Body: appendProducer(appendProducer(b, producer), last)}
}

// How a transaction that spans shards is decided.
const (
	decidedAbort byte = iota
	decidedCommit
	decidedInit
)

func (e *ending) decided() byte {
	switch {
	case e.init:
		return decidedInit
	case e.commit:
		return decidedCommit
	}
	return decidedAbort
}

func encodeDecide(id string, at int64, v *verdict, places []state.Place, groups []string) commitlog.Command {
	b := append(appendHead(id, at), v.decided())
	b = appendProducer(appendProducer(appendProducer(b, v.producer), v.next), v.last)
	return commitlog.Command{Kind: kindDecide, Body: appendParts(appendUvarint(b, v.timeout), places, groups)}
}

func encodeComplete(id string, at int64) commitlog.Command {
	return commitlog.Command{Kind: kindComplete, Body: appendHead(id, at)}
}

func encodeForget(ids []string) commitlog.Command {
	b := appendUvarint([]byte{bodyVersion}, len(ids))
	for _, id := range ids {
		b = coding.AppendString(b, id)
	}
	return commitlog.Command{Kind: kindForget, Body: b}
}
