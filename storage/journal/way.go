package journal

import (
	"encoding/binary"
	"fmt"
	"slices"
)

// beginning is where a log begins from which nothing was deleted.
var beginning = Position{Epoch: 1}

// way records how an owner reached a position in the log. Headers and checkpoints hold
// one. With it a node that reaches the same position can check that it came by the same
// way, and it knows without a List which slots lie before the position.
type way struct {
	entries uint64   // in all slots before the position: the logical position
	start   Position // of the newest checkpoint known there; zero: none
	oldest  Position // all headers before it are deleted, and all DATA except kept slots; the beginning: nothing is deleted
	seals   []uint64 // slot of the SEAL of every epoch, from that of oldest to the one before the position's
}

// since returns the SEALs of the given epoch and those after it.
func (y way) since(epoch uint64) []uint64 { return y.seals[epoch-y.oldest.Epoch:] }

// agrees reports whether y and o, ways to the same position, are the same. They may go
// back to different epochs, if one owner knew an older part of the log than the other.
func (y way) agrees(o way) bool {
	from := max(y.oldest.Epoch, o.oldest.Epoch)
	return y.entries == o.entries && slices.Equal(y.since(from), o.since(from))
}

// truncate records that everything before pos is deleted, except kept slots. Nothing
// beyond the checkpoint may rely on that.
func (y *way) truncate(pos Position) {
	if y.start.Before(pos) {
		pos = y.start
	}
	if y.oldest.Before(pos) {
		y.seals = y.since(pos.Epoch)
		y.oldest = pos
	}
}

// check checks what must hold for a way to at.
func (y way) check(at Position) error {
	ok := y.oldest.Epoch > 0 && !at.Before(y.oldest) && uint64(len(y.seals)) == at.Epoch-y.oldest.Epoch
	if y.start.IsZero() {
		ok = ok && y.oldest == beginning
	} else {
		ok = ok && y.start.Epoch > 0 && y.start.Slot > 0 && y.start.Before(at) && !y.start.Before(y.oldest)
	}
	if !ok {
		return fmt.Errorf("%w: a way to %v that starts at %v, knows of nothing before %v and of %d SEALs",
			ErrCorrupt, at, y.start, y.oldest, len(y.seals))
	}
	return nil
}

// encode returns the two entries that hold y.
func (y way) encode() []Entry {
	start := binary.BigEndian.AppendUint64(make([]byte, 0, 24), y.entries)
	start = y.start.append(start)
	seals := y.oldest.append(make([]byte, 0, 16+8*len(y.seals)))
	for _, slot := range y.seals {
		seals = binary.BigEndian.AppendUint64(seals, slot)
	}
	return []Entry{{Kind: kindStart, Body: start}, {Kind: kindSeals, Body: seals}}
}

// decodeWay is the inverse of encode; at is the position of the object.
func decodeWay(entries []Entry, at Position) (way, error) {
	if len(entries) != 2 || entries[0].Kind != kindStart || entries[1].Kind != kindSeals {
		return way{}, fmt.Errorf("%w: entries of a header or checkpoint", ErrFormat)
	}
	start, seals := entries[0].Body, entries[1].Body
	if len(start) != 24 || len(seals) < 16 || len(seals)%8 != 0 {
		return way{}, fmt.Errorf("%w: a way of %d and %d bytes", ErrCorrupt, len(start), len(seals))
	}
	y := way{entries: binary.BigEndian.Uint64(start), start: position(start[8:]), oldest: position(seals)}
	seals = seals[16:]
	y.seals = make([]uint64, 0, len(seals)/8)
	for ; len(seals) > 0; seals = seals[8:] {
		y.seals = append(y.seals, binary.BigEndian.Uint64(seals))
	}
	return y, y.check(at)
}

func (p Position) append(b []byte) []byte {
	b = binary.BigEndian.AppendUint64(b, p.Epoch)
	return binary.BigEndian.AppendUint64(b, p.Slot)
}

func position(b []byte) Position {
	return Position{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}
