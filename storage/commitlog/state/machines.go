package state

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/weirmq/weir/storage/coding"
)

// Machine is a state machine that shares the journal with the log. Apply must do no
// I/O, read no clock and ask the log for nothing that waits; it is called in the order
// of the log, never concurrently, in recovery and afterwards. It may keep body. An
// error from it means that the log is corrupt, and ends the ownership.
//
// Snapshot is called between two calls of Apply, never concurrently with one. It
// returns all that Apply has made of the entries, and nothing else: equal states give
// equal bytes, whatever the entries that led there. A Machine whose snapshot is empty
// is not in the checkpoint, so that a program without this Machine can read the
// checkpoint, too.
//
// Restore replaces everything, also what was applied before, by what a Snapshot holds.
// An empty one is the state before the first entry. It may keep body. An error from it
// is like one from Apply.
type Machine interface {
	Kinds() []uint16 // of the entries it understands, 100 or more; the lowest names it in a checkpoint
	Apply(kind uint16, body []byte) error
	Snapshot() []byte
	Restore(body []byte) error
}

// Machines finds the Machine that an entry is for.
type Machines map[uint16]Machine

// NewMachines returns an error if two Machines want the same kind, or one wants a kind
// of the log.
func NewMachines(all []Machine) (Machines, error) {
	ms := make(Machines)
	for _, m := range all {
		for _, kind := range m.Kinds() {
			if kind < FirstMachineKind {
				return nil, fmt.Errorf("machine has kind %d, which is the log's own", kind)
			}
			if ms[kind] != nil {
				return nil, fmt.Errorf("two machines have kind %d", kind)
			}
			ms[kind] = m
		}
	}
	return ms, nil
}

// sections are what the Machines have in a checkpoint, kinds ascending.
type sections []section

// section is what one Machine has there.
type section struct {
	kind uint16 // the lowest of the Machine's
	body []byte
}

// lowest lists the Machines: the lowest kind of each, ascending.
func (ms Machines) lowest() []uint16 {
	var kinds []uint16
	for kind, m := range ms {
		if kind == slices.Min(m.Kinds()) {
			kinds = append(kinds, kind)
		}
	}
	slices.Sort(kinds)
	return kinds
}

// Checkpoint encodes a checkpoint: what encode appends, the state, and then what each
// Machine says of itself.
func (ms Machines) Checkpoint(encode func(p []byte) []byte) []byte {
	p := encode([]byte{bodyVersion, 0, 0, 0, 0})
	binary.BigEndian.PutUint32(p[1:], uint32(len(p)-5)) // it cannot overflow: the journal takes much less
	for _, kind := range ms.lowest() {
		body := ms[kind].Snapshot()
		if len(body) == 0 {
			continue // a Machine without a section begins empty
		}
		p = binary.BigEndian.AppendUint16(p, kind)
		p = binary.BigEndian.AppendUint32(p, uint32(len(body)))
		p = append(p, body...)
	}
	return p
}

// Check returns ErrFormat if there is a section that no Machine wants.
func (ms Machines) Check(all sections) error {
	kinds := ms.lowest()
	for _, x := range all {
		if !slices.Contains(kinds, x.kind) {
			return errKind("section for a machine", x.kind)
		}
	}
	return nil
}

// Restore gives each Machine its section. Those that have none begin empty.
func (ms Machines) Restore(all sections) error {
	for _, kind := range ms.lowest() {
		var body []byte
		if i := slices.IndexFunc(all, func(x section) bool { return x.kind == kind }); i >= 0 {
			body = all[i].body
		}
		if err := ms[kind].Restore(body); err != nil {
			return fmt.Errorf("machine of kind %d: %w", kind, err)
		}
	}
	return nil
}

// DecodeCheckpoint decodes a body. It needs no Machines: it returns their sections
// undecoded, which alias body.
func DecodeCheckpoint(body []byte) (*State, sections, error) {
	own, all, err := splitBody(body)
	if err != nil {
		return nil, nil, err
	}
	s, err := decodeState(own)
	return s, all, err
}

// VerifyCheckpoint is DecodeCheckpoint for a caller that only wants to know whether it
// succeeds. It takes little memory, however many pieces there are.
func VerifyCheckpoint(body []byte) error {
	own, _, err := splitBody(body)
	if err != nil {
		return err
	}
	_, err = (&restorer{decoder: decoderOf(own), s: Empty(), verifies: true}).state()
	return err
}

// splitBody finds the state and the sections in a body, and does not decode them.
func splitBody(body []byte) (own []byte, all sections, err error) {
	d := coding.NewDecoder(body)
	if version := d.Byte(); !d.Bad() && version != bodyVersion {
		return nil, nil, fmt.Errorf("%w: checkpoint of version %d, this program knows %d", ErrFormat, version, bodyVersion)
	}
	own = d.Take(uint64(d.Uint32()))
	last := FirstMachineKind - 1
	for !d.Bad() && d.Len() > 0 {
		x := section{kind: d.Uint16()}
		x.body = d.Take(uint64(d.Uint32()))
		if x.kind <= last {
			d.Fail()
		}
		all, last = append(all, x), x.kind
	}
	if d.Bad() {
		return nil, nil, fmt.Errorf("%w: checkpoint: its sections and its size differ", ErrCorrupt)
	}
	return own, all, nil
}
