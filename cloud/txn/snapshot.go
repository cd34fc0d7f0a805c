package txn

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/coding"
)

// A snapshot is a version byte and then, with the types of the entries:
//
//	ids u · ids × {id string · state byte · producer · last producer · timeout u (ms) · started varint (ms, -1: none) · updated varint (ms) ·
//	               places u · places × place ·
//	               groups u · groups × {size u · a commit of cloud/group (kind 100) of that many bytes, with time 0}}
//
// The states are 0 Empty, 1 Ongoing, 2 CompleteCommit, 3 CompleteAbort, 4 PrepareCommit,
// 5 PrepareAbort. All ids are there, and everything is in ascending order.
//
// The version is 1 if no transaction has ever spanned shards, else 2. In version 2 each id has, behind the
// time of its update:
//
//	number u · spans byte (0, 1: an ongoing transaction has the number) · only in states 4 and 5 {how byte · producer}, as in a decide
const (
	spanVersion = 2

	minID    = 1 + 1 + 1 + 2 + 2 + 1 + 1 + 1 + 1 + 1
	minGroup = 1 + 1 + 1 + 1 + 1
)

var states = []State{Empty, Ongoing, CompleteCommit, CompleteAbort, PrepareCommit, PrepareAbort}

// Snapshot returns the state that Apply has built.
func (c *Coordinator) Snapshot() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	return encodeSnapshot(c.ids)
}

// Restore replaces all transactional ids by those of a snapshot; an empty snapshot
// has none. With an error (ErrCorrupt) nothing has changed.
func (c *Coordinator) Restore(body []byte) error {
	ids, err := decodeSnapshot(body)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = ids
	clear(c.open)
	clear(c.prepared)
	for _, t := range ids {
		c.list(t)
	}
	return nil
}

func encodeSnapshot(ids map[string]*transaction) []byte {
	b := []byte{bodyVersion}
	var known []string
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		if ids[id].known() {
			known = append(known, id)
		}
		if ids[id].number > 0 {
			b[0] = spanVersion
		}
	}
	b = appendUvarint(b, len(known))
	for _, id := range known {
		d := &ids[id].durable
		b = append(coding.AppendString(b, id), byte(slices.Index(states, d.state)))
		b = appendProducer(appendProducer(b, d.producer), d.last)
		b = appendUvarint(b, d.timeout)
		b = binary.AppendVarint(binary.AppendVarint(b, d.started), d.updated)
		if b[0] == spanVersion {
			b = appendSpanning(b, d)
		}
		b = appendUvarint(b, len(d.places))
		for _, p := range sortedPlaces(d) {
			b = appendPlace(b, p)
		}
		b = appendUvarint(b, len(d.groups))
		for _, name := range sortedGroups(d) {
			_, commit := group.CommitEntry(name, 0, sortedOffsets(d.groups[name]))
			b = append(appendUvarint(b, len(commit)), commit...)
		}
	}
	return b
}

// appendSpanning appends what only version 2 has.
func appendSpanning(b []byte, d *durable) []byte {
	b = append(binary.AppendUvarint(b, d.number), 0)
	if d.spans {
		b[len(b)-1] = 1
	}
	if d.ending != nil {
		b = appendProducer(append(b, d.ending.decided()), d.ending.producer)
	}
	return b
}

func decodeSpanning(d *decoder, to *durable) {
	var spans byte
	to.number, spans = d.Uvarint(), d.Byte()
	to.spans = spans == 1
	if spans > 1 || to.spans && (to.number == 0 || to.state != Ongoing) {
		d.Fail()
	}
	if to.state == PrepareCommit || to.state == PrepareAbort {
		how, of := d.Byte(), d.producer()
		to.ending = &ending{producer: of, commit: how == decidedCommit, init: how == decidedInit}
		if how > decidedInit || of.ID < 0 || to.number == 0 || to.ending.commit != (to.state == PrepareCommit) {
			d.Fail()
		}
	}
}

func decodeSnapshot(body []byte) (map[string]*transaction, error) {
	ids := make(map[string]*transaction)
	if len(body) == 0 {
		return ids, nil
	}
	d := decoder{coding.NewDecoder(body)}
	v := d.Byte()
	if v != bodyVersion && v != spanVersion {
		return nil, fmt.Errorf("restore transactions: version %d is not known: %w", v, ErrCorrupt)
	}
	for range d.Count(minID) {
		t := &transaction{id: d.name()}
		if decodeDurable(&d, v, &t.durable); d.Bad() {
			break
		}
		ids[t.id] = t
	}
	// A state has one encoding: anything out of order, duplicated, or longer than
	// necessary was not written by Snapshot.
	if !d.Done() || !bytes.Equal(encodeSnapshot(ids), body) {
		return nil, fmt.Errorf("restore transactions: %w", ErrCorrupt)
	}
	return ids, nil
}

func decodeDurable(d *decoder, version byte, to *durable) {
	state := int(d.Byte())
	if state >= len(states) {
		d.Fail()
		return
	}
	to.clear()
	to.state = states[state]
	to.producer, to.last = d.producer(), d.producer()
	to.timeout, to.started, to.updated = int64(d.Int31()), d.Varint(), d.Varint()
	if version == spanVersion {
		decodeSpanning(d, to)
	} else if state >= slices.Index(states, PrepareCommit) {
		d.Fail()
	}
	for range d.Count(minPlace) {
		to.addPlace(d.place())
	}
	for range d.Count(minGroup) {
		name, staged, err := group.DecodeCommit(d.Take(d.Uvarint()))
		if err != nil || name == "" {
			d.Fail()
			return
		}
		of := to.addGroup(name)
		for _, o := range staged {
			o.CommittedAt = 0
			to.addOffset(of, o)
		}
	}
	// Only an ongoing transaction and a decided one have parts.
	if to.producer.ID < 0 || to.state != Ongoing && to.ending == nil && to.size > 0 {
		d.Fail()
	}
}
