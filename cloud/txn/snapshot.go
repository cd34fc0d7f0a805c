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

// A snapshot is a version byte, 1, and then, with the types of the entries:
//
//	ids u · ids × {id string · state byte · producer · last producer · timeout u (ms) · started varint (ms, -1: none) · updated varint (ms) ·
//	               places u · places × place ·
//	               groups u · groups × {size u · a commit of cloud/group (kind 100) of that many bytes, with time 0}}
//
// The states are 0 Empty, 1 Ongoing, 2 CompleteCommit, 3 CompleteAbort. All ids are
// there, and everything is in ascending order.
const (
	minID    = 1 + 1 + 1 + 2 + 2 + 1 + 1 + 1 + 1 + 1
	minGroup = 1 + 1 + 1 + 1 + 1
)

var states = []State{Empty, Ongoing, CompleteCommit, CompleteAbort}

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
	for _, t := range ids {
		if t.state == Ongoing {
			c.open[t] = struct{}{}
		}
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
	}
	b = appendUvarint(b, len(known))
	for _, id := range known {
		d := &ids[id].durable
		b = append(coding.AppendString(b, id), byte(slices.Index(states, d.state)))
		b = appendProducer(appendProducer(b, d.producer), d.last)
		b = appendUvarint(b, d.timeout)
		b = binary.AppendVarint(binary.AppendVarint(b, d.started), d.updated)
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

func decodeSnapshot(body []byte) (map[string]*transaction, error) {
	ids := make(map[string]*transaction)
	if len(body) == 0 {
		return ids, nil
	}
	d := decoder{coding.NewDecoder(body)}
	if v := d.Byte(); v != bodyVersion {
		return nil, fmt.Errorf("restore transactions: version %d is not known: %w", v, ErrCorrupt)
	}
	for range d.Count(minID) {
		t := &transaction{id: d.name()}
		if decodeDurable(&d, &t.durable); d.Bad() {
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

func decodeDurable(d *decoder, to *durable) {
	state := int(d.Byte())
	if state >= len(states) {
		d.Fail()
		return
	}
	to.clear()
	to.state = states[state]
	to.producer, to.last = d.producer(), d.producer()
	to.timeout, to.started, to.updated = int64(d.Int31()), d.Varint(), d.Varint()
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
	// Only an ongoing transaction has parts.
	if to.producer.ID < 0 || to.state != Ongoing && to.size > 0 {
		d.Fail()
	}
}
