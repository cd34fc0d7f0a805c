package txn

import (
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

	bodyVersion = 1
)

// Kinds returns the kinds of log entries that Apply understands.
func (c *Coordinator) Kinds() []uint16 {
	return []uint16{kindInit, kindAdd, kindStage, kindEnd, kindForget}
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
	if !d.Done() || producer.ID < 0 {
		return ErrCorrupt
	}
	t, ok := c.ids[id]
	if !ok {
		t = &transaction{id: id}
		c.ids[id] = t
	}
	t.durable = durable{producer: producer, last: last, timeout: int64(timeout), state: Empty, started: none, updated: at}
	t.clear()
	delete(c.open, t)
	return nil
}

func (c *Coordinator) applyAdd(d *decoder) error {
	id, at := d.name(), d.Varint()
	places := make([]state.Place, d.Count(minPlace))
	for i := range places {
		places[i] = d.place()
	}
	groups := make([]string, d.Count(1))
	for i := range groups {
		groups[i] = d.name()
	}
	t := c.ids[id]
	if !d.Done() || t == nil || !t.known() {
		return ErrCorrupt
	}
	c.begin(t, at)
	for _, p := range places {
		t.addPlace(p)
		delete(t.adding, p)
	}
	for _, name := range groups {
		t.addGroup(name)
	}
	return nil
}

func (c *Coordinator) applyStage(d *decoder) error {
	id, at := d.name(), d.Varint()
	name, staged, err := group.DecodeCommit(d.Rest())
	t := c.ids[id]
	if !d.Done() || err != nil || name == "" || t == nil || !t.known() {
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
	if !d.Done() || commit > 1 || producer.ID < 0 || t == nil || !t.known() {
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

func (c *Coordinator) applyForget(d *decoder) error {
	ids := make([]string, d.Count(1))
	for i := range ids {
		ids[i] = d.name()
	}
	if !d.Done() {
		return ErrCorrupt
	}
	for _, id := range ids {
		if t := c.ids[id]; t != nil {
			delete(c.ids, id)
			delete(c.open, t)
			t.durable = durable{}
		}
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
	b := appendUvarint(appendHead(id, at), len(places))
	for _, p := range places {
		b = appendPlace(b, p)
	}
	b = appendUvarint(b, len(groups))
	for _, name := range groups {
		b = coding.AppendString(b, name)
	}
	return commitlog.Command{Kind: kindAdd, Body: b}
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

func encodeForget(ids []string) commitlog.Command {
	b := appendUvarint([]byte{bodyVersion}, len(ids))
	for _, id := range ids {
		b = coding.AppendString(b, id)
	}
	return commitlog.Command{Kind: kindForget, Body: b}
}
