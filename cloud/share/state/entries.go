package state

import (
	"encoding/binary"
	"errors"
	"math"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// The kinds of entries; FORMAT.md has their bodies.
const (
	KindBegun     uint16 = 185
	KindUpdated   uint16 = 186
	KindOpened    uint16 = 187
	KindDeleted   uint16 = 188
	KindForgotten uint16 = 189

	bodyVersion = 1
)

// MaxCount is the highest number of deliveries that is counted; Kafka's protocol has 16
// bits for it.
const MaxCount = 1<<15 - 2

// Level is the format level from which on these entries may be written.
const Level = 2

// ErrCorrupt means an entry or a snapshot that no version of this program has written.
var ErrCorrupt = errors.New("entry of a share group is corrupt")

// Begun says that a group begins to share a partition at an offset, or begins again:
// what it did there before is forgotten.
type Begun struct {
	Place Place
	Start int64
	Lent  int64 // Start-1 or more: see Updated
}

// Append appends the body of the entry.
func (e *Begun) Append(b []byte) []byte {
	b = appendPlace(append(b, bodyVersion), e.Place)
	b = binary.AppendUvarint(b, uint64(e.Start))
	return binary.AppendUvarint(b, uint64(e.Lent-e.Start+1))
}

func decodeBegun(d *coding.Decoder) Begun {
	e := Begun{Place: decodePlace(d)}
	e.Start = decodeOffset(d)
	e.Lent = e.Start - 1 + decodeOffset(d)
	return e
}

// Updated changes what is known of a share partition.
type Updated struct {
	ID      ID
	Start   int64 // the partition begins there now; 0 or what it was: no change
	Lent    int64 // records up to it may be delivered from now on; -1 or less than before: no change
	Changes []Run // replace what was known of these records; in order. Done, or the new Count, which may be 0
}

// Append appends the body of the entry.
func (e *Updated) Append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, bodyVersion), uint64(e.ID))
	b = binary.AppendUvarint(b, uint64(e.Start))
	b = binary.AppendUvarint(b, uint64(e.Lent+1))
	return appendRuns(b, 0, e.Changes)
}

func decodeUpdated(d *coding.Decoder) Updated {
	return Updated{ID: ID(d.Uvarint()), Start: decodeOffset(d), Lent: decodeOffset(d) - 1, Changes: decodeRuns(d, 0)}
}

// Opened says that a new owner serves a share partition. The records up to Mark, but at
// most up to Lent, that are not done may have been delivered by an earlier one: each
// has one delivery more. The records after Mark did not exist yet, or were not lent.
type Opened struct {
	ID   ID
	Mark int64
}

// Append appends the body of the entry.
func (e *Opened) Append(b []byte) []byte {
	b = binary.AppendUvarint(append(b, bodyVersion), uint64(e.ID))
	return binary.AppendUvarint(b, uint64(e.Mark+1))
}

// EncodeDeleted encodes the end of share partitions.
func EncodeDeleted(all []ID) []byte {
	b := binary.AppendUvarint([]byte{bodyVersion}, uint64(len(all)))
	for _, id := range all {
		b = binary.AppendUvarint(b, uint64(id))
	}
	return b
}

// EncodeForgotten encodes the end of all share partitions of a topic that was deleted.
func EncodeForgotten(topic weir.TopicID) []byte { return append([]byte{bodyVersion}, topic[:]...) }

func appendPlace(b []byte, p Place) []byte {
	b = coding.AppendString(b, p.Group)
	b = append(b, p.Topic[:]...)
	return binary.AppendUvarint(b, uint64(p.Partition))
}

func decodePlace(d *coding.Decoder) Place {
	return Place{Group: d.String(), Topic: d.ID(), Partition: d.Int31()}
}

func decodeOffset(d *coding.Decoder) int64 { return int64(d.UpTo(math.MaxInt64 / 4)) }

// minRun is the least bytes of a run: gap, length, what.
const minRun = 3

// appendRuns appends runs in order that begin at or after at. Of each it writes how far
// after the one before it it begins, its length less one, and 0 if its records are done,
// else 1 more than their count.
func appendRuns(b []byte, at int64, runs []Run) []byte {
	b = binary.AppendUvarint(b, uint64(len(runs)))
	for _, r := range runs {
		b = binary.AppendUvarint(b, uint64(r.First-at))
		b = binary.AppendUvarint(b, uint64(r.Last-r.First))
		what := uint64(0)
		if !r.Done {
			what = uint64(r.Count) + 1
		}
		b = binary.AppendUvarint(b, what)
		at = r.Last + 1
	}
	return b
}

func decodeRuns(d *coding.Decoder, at int64) []Run {
	runs := make([]Run, d.Count(minRun))
	for i := range runs {
		r := &runs[i]
		r.First = at + decodeOffset(d)
		r.Last = r.First + decodeOffset(d)
		what := d.UpTo(MaxCount + 1)
		r.Done, r.Count = what == 0, int(max(what, 1)-1)
		if at = r.Last + 1; at > math.MaxInt64/4 {
			d.Fail()
			return nil
		}
	}
	return runs
}
