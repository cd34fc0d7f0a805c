package state

import (
	"encoding/binary"

	"github.com/weirmq/weir/storage/coding"
	"github.com/weirmq/weir/storage/weir"
)

// decoder is coding.Decoder with what the entries of this package are made of.
type decoder struct{ coding.Decoder }

func (d *decoder) topic() weir.TopicID { return weir.TopicID(d.ID()) }

func (d *decoder) offset() int64 { return int64(d.UpTo(maxOffset)) }

// id reads the id of a queue.
func (d *decoder) id() QueueID { return QueueID(d.UpTo(maxOffset)) }

// Range is First to Last, and both are in it.
type Range struct{ First, Last int64 }

// appendRanges appends ranges, which are ascending and apart: each as what lies between it
// and the one before, and how many offsets it has, less one.
func appendRanges(b []byte, all []Range) []byte {
	b = binary.AppendUvarint(b, uint64(len(all)))
	next := int64(0)
	for _, r := range all {
		b = binary.AppendUvarint(b, uint64(r.First-next))
		b = binary.AppendUvarint(b, uint64(r.Last-r.First))
		next = r.Last + 1
	}
	return b
}

// ranges calls f with each range; nil leaves them out.
func (d *decoder) ranges(f func(Range)) {
	next := uint64(0)
	for range d.Count(2) {
		first := next + d.UpTo(maxOffset)
		last := first + d.UpTo(maxOffset)
		if last > maxOffset {
			d.Fail()
		}
		if d.Bad() {
			return
		}
		if f != nil {
			f(Range{int64(first), int64(last)})
		}
		next = last + 1
	}
}
