package state

import (
	"cmp"
	"encoding/binary"

	"github.com/weirmq/weir/storage/journal"
	"github.com/weirmq/weir/storage/segment"
)

// SegmentID names the object that a piece lies in: the epoch of the owner that made it,
// and its number in that epoch. Of a slot these are epoch and slot.
type SegmentID struct {
	Epoch  uint64
	Number uint64
	Other  uint32 // 1 + the shard that the object belongs to, 0 for the log's own shard
	Slot   bool   // the object is a slot of the journal that serves as a segment
}

func (id SegmentID) compare(other SegmentID) int {
	slot := func(id SegmentID) int {
		if id.Slot {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(id.Epoch, other.Epoch), cmp.Compare(id.Number, other.Number), cmp.Compare(id.Other, other.Other), slot(id)-slot(other))
}

// CleanNumbers is added to the number of a segment with clean pieces. In its key it is
// a leading 1.
const CleanNumbers = 10_000_000_000_000_000_000

// Clean reports whether the pieces of a segment have been compacted: of the records
// before the end of any of them, no two in one partition have the same key.
func (id SegmentID) Clean() bool { return id.Number > CleanNumbers }

// Shard returns the shard that the object belongs to, for the log of a shard.
func (id SegmentID) Shard(own uint32) uint32 {
	if id.Other != 0 {
		return id.Other - 1
	}
	return own
}

// Key returns the key of the object, for the log of a shard.
func (id SegmentID) Key(own uint32) string {
	if id.Slot {
		return journal.SlotKey(id.Shard(own), id.Position())
	}
	return segment.Key(id.Shard(own), id.Epoch, id.Number)
}

// flaggedIDs is the version of bodies in which ids of segments have flags. In version 1
// they are two numbers.
const flaggedIDs = 2

// idVersion is the version of such bodies at a format level.
func idVersion(level int) byte {
	if level < 2 {
		return bodyVersion
	}
	return flaggedIDs
}

// The flags of an id.
const (
	flagOther = 1 << iota // of another shard, whose number follows
	flagClean             // its pieces are clean
	flagSlot              // a slot

	knownFlags = flagOther | flagClean | flagSlot
)

// number returns the number without CleanNumbers.
func (id SegmentID) number() uint64 {
	if id.Clean() {
		return id.Number - CleanNumbers
	}
	return id.Number
}

// appendFlags writes the flags of an id, and the other shard if there is one.
func (id SegmentID) appendFlags(p []byte) []byte {
	flags := uint64(0)
	if id.Other != 0 {
		flags |= flagOther
	}
	if id.Clean() {
		flags |= flagClean
	}
	if id.Slot {
		flags |= flagSlot
	}
	if p = binary.AppendUvarint(p, flags); id.Other != 0 {
		p = binary.AppendUvarint(p, uint64(id.Other-1))
	}
	return p
}

func (id SegmentID) append(p []byte, version byte) []byte {
	if version < flaggedIDs {
		p = binary.AppendUvarint(p, id.Epoch)
		return binary.AppendUvarint(p, id.Number)
	}
	p = id.appendFlags(p)
	p = binary.AppendUvarint(p, id.Epoch)
	return binary.AppendUvarint(p, id.number())
}

// segmentID is the inverse of append.
func (d *decoder) segmentID(version byte) SegmentID {
	if version < flaggedIDs {
		return SegmentID{Epoch: d.Uvarint(), Number: d.Uvarint()}
	}
	id, clean := d.segmentFlags()
	id.Epoch = d.Uvarint()
	d.number(&id, d.Uvarint(), clean)
	return id
}

// segmentFlags is the inverse of appendFlags.
func (d *decoder) segmentFlags() (id SegmentID, clean bool) {
	flags := d.Uvarint()
	if flags&^knownFlags != 0 {
		d.later("id of a segment with flags %#x, of which this program knows other shard, clean and slot: a later version of weir is needed", flags)
		return id, false
	}
	if flags&flagOther != 0 {
		shard := d.uvarint32()
		if id.Other = shard + 1; id.Other == 0 {
			d.Fail()
		}
	}
	if id.Slot = flags&flagSlot != 0; id.Slot && id.Other != 0 {
		d.Fail() // only segments move
	}
	return id, flags&flagClean != 0
}

// number sets the number of an id.
func (d *decoder) number(id *SegmentID, number uint64, clean bool) {
	if number > CleanNumbers || clean && (number == 0 || number+CleanNumbers < number || id.Slot) {
		d.Fail()
		return
	}
	if id.Number = number; clean {
		id.Number += CleanNumbers
	}
}
