package commitlog

import (
	"fmt"
	"slices"
)

// Machine is a state machine that shares the journal with the log. Apply must
// do no I/O, read no clock and ask the log for nothing that waits; it is called
// in the order of the log, never concurrently, in recovery and in running alike.
// It may keep body. An error from it means that the log cannot be believed and
// ends the ownership.
//
// Snapshot is called between two calls of Apply, never concurrently with one. It
// returns all that Apply has made of the entries, and nothing else: equal states
// give equal bytes, whatever the entries that led there. A Machine that gives none is
// not in the checkpoint, which then is for programs too that do not know it.
//
// Restore replaces everything by what a Snapshot holds, also what was applied
// before; empty is the state before the first entry. It may keep body. An error
// from it is like one from Apply.
type Machine interface {
	Kinds() []uint16 // of the entries it understands, 100 or more; the lowest names it in a checkpoint
	Apply(kind uint16, body []byte) error
	Snapshot() []byte
	Restore(body []byte) error
}

// machines finds the Machine that an entry is for.
type machines map[uint16]Machine

func newMachines(all []Machine) (machines, error) {
	ms := make(machines)
	for _, m := range all {
		for _, kind := range m.Kinds() {
			if kind < firstMachineKind {
				return nil, fmt.Errorf("machine wants kind %d, which is the log's own", kind)
			}
			if ms[kind] != nil {
				return nil, fmt.Errorf("two machines want kind %d", kind)
			}
			ms[kind] = m
		}
	}
	return ms, nil
}

// section is what one Machine has in a checkpoint.
type section struct {
	kind uint16 // the lowest of the Machine's
	body []byte
}

// lowest lists the Machines: the lowest kind of each, ascending.
func (ms machines) lowest() []uint16 {
	var kinds []uint16
	for kind, m := range ms {
		if kind == slices.Min(m.Kinds()) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// decodeBody takes a body apart, for those who have no Machines too: the
// sections alias body.
func decodeBody(body []byte) (*state, []section, error) {
	own, sections, err := splitBody(body)
	if err != nil {
		return nil, nil, err
	}
	s, err := decodeState(own)
	return s, sections, err
}

// splitBody finds the state and the sections in a body and does not look into
// them.
func splitBody(body []byte) (own []byte, sections []section, err error) {
	d := decoder{p: body}
	if version := d.u8(); !d.bad && version != bodyVersion {
		return nil, nil, fmt.Errorf("%w: checkpoint of version %d, this program knows %d", ErrFormat, version, bodyVersion)
	}
	own = d.bytes(d.u32())
	last := firstMachineKind - 1
	for !d.bad && len(d.p) > 0 {
		x := section{kind: d.u16()}
		x.body = d.bytes(d.u32())
		if x.kind <= last {
			d.bad = true
		}
		sections, last = append(sections, x), x.kind
	}
	if d.bad {
		return nil, nil, fmt.Errorf("%w: checkpoint: its sections do not fill it", ErrCorrupt)
	}
	return own, sections, nil
}
