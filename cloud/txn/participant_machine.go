package txn

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/weirmq/weir/cloud/group"
	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/commitlog"
)

// The kinds of a participant's entries, which are of format level 2. Each body begins with
// a version byte, 1, and has the types of the coordinator's.
//
//	170 staged  producer varint (id) · number u · time varint · a commit of cloud/group (kind 100) up to the end
//	171 ended   producer varint (id) · number u · time varint
//	172 forgot  producers u · producers × {varint (id) · number u}
//
// A staged is offsets that wait for the end of the transaction of that number. In the slot
// of an ended are the markers and, before it, the commits of the groups; it drops what is
// staged. A forgot removes the producers whose last end had that number, unless offsets are
// staged again. A snapshot is nothing, or a version byte, 1, and then, in ascending order:
//
//	producers u · producers × {id varint · ended u · time varint · number u (of staged offsets; 0: there are none) ·
//	              groups u · groups × {size u · a commit of cloud/group (kind 100) of that many bytes, with time 0}}
const (
	kindStaged uint16 = 170
	kindEnded  uint16 = 171
	kindForgot uint16 = 172

	minProducer = 1 + 1 + 1 + 1 + 1
)

// Kinds returns the kinds of log entries that Apply understands.
func (p *Participant) Kinds() []uint16 { return []uint16{kindStaged, kindEnded, kindForgot} }

// Apply is Coordinator.Apply for the participant's entries.
func (p *Participant) Apply(kind uint16, body []byte) error {
	d := decoder{coding.NewDecoder(body)}
	if v := d.Byte(); !d.Bad() && v != bodyVersion {
		return fmt.Errorf("apply entry of kind %d of a participant: version %d is not known: %w", kind, v, ErrCorrupt)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := ErrCorrupt
	switch kind {
	case kindStaged:
		err = p.applyStaged(&d)
	case kindEnded:
		err = p.applyEnded(&d)
	case kindForgot:
		err = p.applyForgot(&d)
	}
	if err != nil {
		return fmt.Errorf("apply entry of kind %d of a participant: %w", kind, err)
	}
	return nil
}

func (p *Participant) applyStaged(d *decoder) error {
	id, number, at := d.Varint(), d.Uvarint(), d.Varint()
	name, staged, err := group.DecodeCommit(d.Rest())
	if !d.Done() || err != nil || name == "" || id < 0 || number == 0 {
		return errors.Join(ErrCorrupt, err)
	}
	x := p.of(id)
	if number <= x.ended && !noRecheck(p.opts.Mutations) || x.number != 0 && x.number != number && !noNumber(p.opts.Mutations) {
		p.drop(x)
		return ErrCorrupt
	}
	x.number, x.updated = number, at
	x.stage(name, staged)
	return nil
}

func (p *Participant) applyEnded(d *decoder) error {
	id, number, at := d.Varint(), d.Uvarint(), d.Varint()
	if !d.Done() || id < 0 || number == 0 {
		return ErrCorrupt
	}
	x := p.of(id)
	if number <= x.ended && !noNumber(p.opts.Mutations) {
		p.drop(x)
		return ErrCorrupt
	}
	x.participated = participated{ended: max(number, x.ended), updated: at}
	x.open = 0
	clear(x.verified)
	return nil
}

func (p *Participant) applyForgot(d *decoder) error {
	some := make([]lastEnd, d.Count(2))
	for i := range some {
		some[i] = lastEnd{d.Varint(), d.Uvarint()}
	}
	if !d.Done() {
		return ErrCorrupt
	}
	for _, last := range some {
		if x := p.producers[last.id]; x != nil && x.number == 0 && x.ended == last.number {
			x.participated = participated{}
			p.drop(x)
		}
	}
	return nil
}

// lastEnd is a producer and the number of its last transaction that has ended.
type lastEnd struct {
	id     int64
	number uint64
}

func encodeStaged(producer int64, number uint64, at int64, name string, staged []group.Offset) commitlog.Command {
	_, commit := group.CommitEntry(name, at, staged)
	return commitlog.Command{Kind: kindStaged, Body: append(appendNumber(producer, number, at), commit...)}
}

func encodeEnded(producer int64, number uint64, at int64) commitlog.Command {
	return commitlog.Command{Kind: kindEnded, Body: appendNumber(producer, number, at)}
}

func appendNumber(producer int64, number uint64, at int64) []byte {
	b := binary.AppendUvarint(binary.AppendVarint([]byte{bodyVersion}, producer), number)
	return binary.AppendVarint(b, at)
}

// forget removes producers whose last transaction ended at or before a time, in ms since
// 1970. It does not wait for the log.
func (p *Participant) forget(before int64) {
	p.mu.Lock()
	var idle []lastEnd
	for id, x := range p.producers {
		if p.serving && x.number == 0 && x.updated <= before && !x.active() {
			idle = append(idle, lastEnd{id, x.ended})
		}
	}
	p.mu.Unlock()
	for some := range slices.Chunk(idle, forgetMany) {
		b := appendUvarint([]byte{bodyVersion}, len(some))
		for _, last := range some {
			b = binary.AppendUvarint(binary.AppendVarint(b, last.id), last.number)
		}
		p.log.Submit(commitlog.Proposal{Commands: []commitlog.Command{{Kind: kindForgot, Body: b}}}, func(_ []int64, err error) {
			if err != nil && !errors.Is(err, commitlog.ErrClosed) {
				p.opts.Log.Warn("producers of old transactions not removed: trying again", "producers", len(some), "err", err)
			}
		})
	}
}

// Snapshot returns the state that Apply has built.
func (p *Participant) Snapshot() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return encodeParticipants(p.producers)
}

// Restore replaces everything by what a snapshot says. With an error (ErrCorrupt) nothing
// has changed.
func (p *Participant) Restore(body []byte) error {
	next := NewParticipant(p.opts)
	if len(body) > 0 && next.decode(body) != nil {
		return fmt.Errorf("restore participants of transactions: %w", ErrCorrupt)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.producers = next.producers
	return nil
}

// durableProducers lists the producers of whom something is remembered, in order.
func durableProducers(all map[int64]*participation) []int64 {
	var ids []int64
	for _, id := range slices.Sorted(maps.Keys(all)) {
		if all[id].ended > 0 || all[id].number > 0 {
			ids = append(ids, id)
		}
	}
	return ids
}

func encodeParticipants(all map[int64]*participation) []byte {
	ids := durableProducers(all)
	if len(ids) == 0 {
		return nil
	}
	b := appendUvarint([]byte{bodyVersion}, len(ids))
	for _, id := range ids {
		x := all[id]
		b = binary.AppendUvarint(binary.AppendVarint(b, id), x.ended)
		b = binary.AppendUvarint(binary.AppendVarint(b, x.updated), x.number)
		b = appendUvarint(b, len(x.groups))
		for _, name := range slices.Sorted(maps.Keys(x.groups)) {
			_, commit := group.CommitEntry(name, 0, sortedOffsets(x.groups[name]))
			b = append(appendUvarint(b, len(commit)), commit...)
		}
	}
	return b
}

// decode adds what a snapshot has.
func (p *Participant) decode(body []byte) error {
	d := decoder{coding.NewDecoder(body)}
	if d.Byte() != bodyVersion {
		d.Fail()
	}
	for range d.Count(minProducer) {
		id := d.Varint()
		if id < 0 {
			d.Fail()
		}
		x := p.of(id)
		x.ended, x.updated, x.number = d.Uvarint(), d.Varint(), d.Uvarint()
		for range d.Count(minGroup) {
			name, staged, err := group.DecodeCommit(d.Take(d.Uvarint()))
			if err != nil || name == "" {
				d.Fail()
				break
			}
			for i := range staged {
				staged[i].CommittedAt = 0
			}
			x.stage(name, staged)
		}
		if x.number == 0 != (len(x.groups) == 0) || x.number != 0 && x.number <= x.ended {
			d.Fail()
		}
	}
	// A state has one encoding: see decodeSnapshot.
	if !d.Done() || !bytes.Equal(encodeParticipants(p.producers), body) {
		return ErrCorrupt
	}
	return nil
}
