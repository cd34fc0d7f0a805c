package state

import (
	"encoding/binary"
	"fmt"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/weir"
)

// What an entry of kind KindMovedOut says, in its second byte.
const (
	opMovedOut byte = iota // the slices are in the other shard now
	opVoid                 // the move is given up
	opSettled              // the other shard has confirmed it
)

// What an entry of kind KindImported says, in its second byte.
const (
	opPart      byte = iota // a part of an import
	opConfirmed             // the slices of an import are in this shard now
	opCancelled             // an import is given up
)

// moveEntry is an entry of kind KindMovedOut or KindImported.
type moveEntry struct {
	op   byte
	move weir.Move // all of it with opMovedOut and opPart, else only its id
	part int       // with opPart: its number, from 0
	of   int       // and how many there are
	body []byte
}

// MovePart is about the most bytes of one part of an import.
const MovePart = 1 << 20

// MaxMoveRoom is how many bytes an entry about a move takes at most, without a part of an
// import.
const MaxMoveRoom = 2 + 16 + 4 + 4 + 8*len(weir.SliceSet{}) + 4 + 4

// maxParts bounds the parts of an import.
const maxParts = 1 << 12

func appendMove(p []byte, m weir.Move) []byte {
	p = append(p, m.ID[:]...)
	p = binary.BigEndian.AppendUint32(p, m.From)
	p = binary.BigEndian.AppendUint32(p, m.To)
	return appendSlices(p, &m.Slices)
}

func appendSlices(p []byte, s *weir.SliceSet) []byte {
	for _, word := range s {
		p = binary.BigEndian.AppendUint64(p, word)
	}
	return p
}

// slices takes a set.
func (d *decoder) slices() (s weir.SliceSet) {
	for i := range s {
		s[i] = d.Uint64()
	}
	return s
}

// move takes a move.
func (d *decoder) move() weir.Move {
	m := weir.Move{ID: d.ID(), From: d.Uint32(), To: d.Uint32(), Slices: d.slices()}
	if CheckMove(m) != nil {
		d.Fail()
	}
	return m
}

// CheckMove returns an error for what is not a move of slices.
func CheckMove(m weir.Move) error {
	if m.From == m.To || m.To == 0 || m.From >= weir.MaxShards || m.To >= weir.MaxShards || m.Slices.Len() == 0 {
		return fmt.Errorf("move %v of %d slices from shard %d to %d", m.ID, m.Slices.Len(), m.From, m.To)
	}
	return nil
}

// EncodeMovedOut says that slices are in another shard now.
func EncodeMovedOut(m weir.Move) []byte { return appendMove([]byte{bodyVersion, opMovedOut}, m) }

// EncodeMoveVoid says that a move is given up.
func EncodeMoveVoid(id weir.MoveID) []byte { return append([]byte{bodyVersion, opVoid}, id[:]...) }

// EncodeMoveSettled says that the other shard has confirmed a move.
func EncodeMoveSettled(id weir.MoveID) []byte {
	return append([]byte{bodyVersion, opSettled}, id[:]...)
}

// EncodeImported is the part of an import with this number, of so many.
func EncodeImported(m weir.Move, part, of int, body []byte) []byte {
	p := appendMove([]byte{bodyVersion, opPart}, m)
	p = binary.BigEndian.AppendUint32(p, uint32(part))
	p = binary.BigEndian.AppendUint32(p, uint32(of))
	return append(p, body...)
}

// EncodeImportConfirmed says that the slices of an import are in this shard now.
func EncodeImportConfirmed(id weir.MoveID) []byte {
	return append([]byte{bodyVersion, opConfirmed}, id[:]...)
}

// EncodeImportCancelled says that an import is given up.
func EncodeImportCancelled(id weir.MoveID) []byte {
	return append([]byte{bodyVersion, opCancelled}, id[:]...)
}

// decodeMove decodes an entry of one of the two kinds.
func decodeMove(kind uint16, body []byte) (x moveEntry, err error) {
	what, long := "slices-moved-out", opMovedOut
	if kind == KindImported {
		what, long = "slices-imported", opPart
	}
	d, err := newDecoder(what, body)
	if err != nil {
		return x, err
	}
	switch x.op = d.Byte(); {
	case x.op == long:
		x.move = d.move()
	case x.op <= 2:
		x.move.ID = d.ID()
	default:
		d.Fail()
	}
	if kind == KindImported && x.op == opPart {
		part, of := d.Uint32(), d.Uint32()
		if x.part, x.of = int(part), int(of); part >= of || of > maxParts {
			d.Fail()
		}
		x.body = d.Rest()
	}
	return x, d.end()
}

// EncodeSliceMap says which shard has which slice.
func EncodeSliceMap(m *weir.Map) []byte { return appendMap([]byte{bodyVersion}, m) }

// appendMap writes rows of slices that are in the same shard.
func appendMap(p []byte, m *weir.Map) []byte {
	for i := 0; i < len(m); {
		n := i + 1
		for n < len(m) && m[n] == m[i] {
			n++
		}
		p = binary.AppendUvarint(p, uint64(n-i))
		p = binary.AppendUvarint(p, uint64(m[i]))
		i = n
	}
	return p
}

// sliceMap is the inverse of appendMap.
func (d *decoder) sliceMap() (m weir.Map) {
	for i := 0; i < len(m) && !d.Bad(); {
		n, shard := int(d.UpTo(uint64(len(m)-i))), d.UpTo(weir.MaxShards-1)
		if n == 0 || i > 0 && m[i-1] == uint32(shard) {
			d.Fail()
			return m
		}
		for ; n > 0; n-- {
			m[i] = uint32(shard)
			i++
		}
	}
	return m
}

// EncodeShardCount says how many shards there are, shard 0 included.
func EncodeShardCount(n uint32) []byte {
	return binary.BigEndian.AppendUint32([]byte{bodyVersion}, n)
}

// IsLayout reports whether entries of a kind change the map of slices or the number of
// shards.
func IsLayout(kind uint16) bool { return kind == KindSliceMap || kind == KindShardCount }

// With returns the layout behind an entry of a kind that IsLayout knows. l may be nil; it
// does not change.
//
// Errors: ErrCorrupt, ErrFormat.
func (l *Layout) With(e journal.Entry) (*Layout, error) {
	next := l.Clone()
	if next == nil {
		next = &Layout{}
	}
	if e.Kind == KindSliceMap {
		d, err := newDecoder("slice-map", e.Body)
		if err != nil {
			return nil, err
		}
		next.Map = d.sliceMap()
		return next, d.end()
	}
	d, err := newDecoder("shard-count", e.Body)
	if err != nil {
		return nil, err
	}
	n := d.Uint32()
	if err := d.end(); err != nil {
		return nil, err
	}
	if n < next.Shards || n > weir.MaxShards {
		return nil, fmt.Errorf("%w: %d shards follow %d", ErrCorrupt, n, next.Shards)
	}
	next.Shards = n
	return next, nil
}
